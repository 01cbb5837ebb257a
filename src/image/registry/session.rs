//! A connection to one repository of a registry, for threads that wait: each call returns when it is done, when the
//! registry has said nothing for too long, when another part has failed, or when a signal asks the program to stop.
//!
//! Invariant: no call outlasts a signal; what fails in passing is tried again, with growing pauses, a few times.

use std::{fmt, io, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use reqwest::{Response, Url};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Connection, credentials,
    failure::Failure,
    login::Access,
    requests::{Mounting, Requests},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::Digest,
    image::reference::Reference,
    interrupt,
};

/// The pauses before a request is made again.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// See the module's comment.
pub(super) struct Session {
    /// Only to be ended with this.
    runtime: Option<Runtime>,
    handle: Handle,
    requests: Arc<Requests>,
    patience: Duration,
    /// Whether all waiting is to end.
    stop: watch::Sender<bool>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a session with {}", self.host())
    }
}

impl Session {
    /// Connects, and logs in where credentials are known.
    pub(super) fn open(reference: &Reference, connection: &Connection, access: Access<'_>) -> Result<Self> {
        let credentials = credentials::find(reference)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.act(|| "start the threads that talk to the registry")?;
        let handle = runtime.handle().clone();
        let stop = watch::Sender::new(false);
        hear_signals(&handle, &stop)?;
        let repository = (reference.domain(), reference.path());
        let requests = Arc::new(Requests::new(repository, connection, credentials, access)?);
        let session = Self { runtime: Some(runtime), handle, requests, patience: connection.patience, stop };
        session.persist(|| session.ask(session.requests.log_in()))?;
        Ok(session)
    }

    /// The registry's host and port.
    pub(super) fn host(&self) -> &str {
        self.requests.host()
    }

    /// Whether nothing has ended the waiting.
    ///
    /// # Errors
    /// `Interrupted`.
    pub(super) fn check(&self) -> Result<()> {
        interrupt::check()?;
        if *self.stop.borrow() { Err(other_failed()) } else { Ok(()) }
    }

    /// Ends all waiting: another part has failed.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// A manifest by its tag or digest: its bytes.
    pub(super) fn manifest(&self, wanted: &str) -> Result<Vec<u8>> {
        self.persist(|| self.ask(self.requests.manifest(wanted)))
    }

    /// The bytes of a blob from `offset` on. They are not checked.
    pub(super) fn blob(&self, digest: Digest, offset: u64) -> Result<Remote<'_>, Failure> {
        let (response, begin) = self.ask(self.requests.blob(digest, offset))?;
        // A registry may know no ranges.
        Ok(Remote { session: self, response, skip: offset.saturating_sub(begin) })
    }

    /// Whether the repository has a blob.
    pub(super) fn has_blob(&self, digest: Digest) -> Result<bool> {
        self.persist(|| self.ask(self.requests.has_blob(digest)))
    }

    /// Has the registry give the repository a blob that its repository `from` has.
    pub(super) fn mount_blob(&self, digest: Digest, from: &str) -> Result<Mounting> {
        match self.ask(self.requests.mount_blob(digest, from)) {
            Ok(mounted) => Ok(mounted),
            Err(failure) if failure.error.kind() == Kind::Interrupted => Err(failure.error),
            // It may refuse, or not know how: then the bytes are sent.
            Err(_) => Ok(Mounting::Refused(None)),
        }
    }

    /// Sends a blob of `size` bytes, which `next` gives part by part, to `place` if the registry has told one.
    pub(super) fn upload(
        &self,
        (digest, size): (Digest, u64),
        place: Option<Url>,
        mut next: impl FnMut() -> io::Result<Option<Vec<u8>>>,
    ) -> Result<(), Failure> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<io::Result<Vec<u8>>>(2);
        let parts = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let requests = Arc::clone(&self.requests);
        let sent = self.handle.spawn(async move { requests.upload((digest, size), place, parts).await });
        let mut broken = None;
        while broken.is_none() {
            let part = match next() {
                Ok(None) => break,
                Ok(Some(part)) => Ok(part),
                Err(error) => {
                    // Told to the other end, too, so that it does not take what came for all.
                    broken = Some(Failure::last(crate::image::read_error(error, "read the layer")));
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            };
            // If nobody receives it, the answer is there already.
            if self.wait(sender.send(part))?.is_err() {
                break;
            }
        }
        drop(sender);
        let done = self.wait(sent);
        match broken {
            Some(broken) => Err(broken),
            None => match done? {
                Ok(done) => done,
                Err(_) => Err(Failure::last(Error::new(Kind::Io, "send the layer: the sending thread panicked"))),
            },
        }
    }

    /// Publishes a manifest under a tag or its digest.
    pub(super) fn put_manifest(&self, wanted: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        self.persist(|| self.ask(self.requests.put_manifest(wanted, media_type, bytes.to_vec())))
    }

    /// Does it again after what passes, a few times.
    pub(super) fn persist<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut pauses = self.pauses();
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) => pauses.after(failure)?,
            }
        }
    }

    pub(super) fn pauses(&self) -> Pauses<'_> {
        Pauses { session: self, left: PAUSES.iter() }
    }

    fn ask<T>(&self, request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.wait(request)?
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let silent = |_| Failure::last(self.silent());
        // A timer begins inside the runtime only.
        self.unless_stopped(async { timeout(self.patience, work).await }).map_err(Failure::last)?.map_err(silent)
    }

    /// # Errors
    /// `Interrupted`.
    fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        interrupt::check()?;
        let mut stop = self.stop.subscribe();
        let done = self.handle.block_on(async {
            match select(pin!(stop.wait_for(|stop| *stop)), pin!(work)).await {
                Either::Left(_) => None,
                Either::Right((done, _)) => Some(done),
            }
        });
        let stopped = || match interrupt::check() {
            Err(interrupted) => interrupted,
            Ok(()) => other_failed(),
        };
        done.ok_or_else(stopped)
    }

    fn silent(&self) -> Error {
        let seconds = self.patience.as_secs();
        Error::new(Kind::Io, format!("registry {} has said nothing for {seconds} s", self.host()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A look-up of a name cannot be broken off, and nobody waits for it any more.
            runtime.shutdown_background();
        }
    }
}

/// The pauses between attempts at one thing.
#[derive(Debug)]
pub(super) struct Pauses<'a> {
    session: &'a Session,
    left: std::slice::Iter<'a, Duration>,
}

impl Pauses<'_> {
    /// Returns when it is time for another attempt.
    ///
    /// # Errors
    /// That of the failure, if there is no sense in another; `Interrupted`.
    pub(super) fn after(&mut self, Failure { error, again, pause: asked }: Failure) -> Result<()> {
        let Some(pause) = self.left.next().filter(|_| again) else { return Err(error) };
        let (asked, patience) = (asked.unwrap_or_default(), self.session.patience);
        if asked > patience {
            let (asked, patience) = (asked.as_secs(), patience.as_secs());
            return Err(error.within(format!("it asks to be left alone for {asked} s, and {patience} s is the limit")));
        }
        tracing::info!("{error}; trying again");
        self.session.unless_stopped(async { sleep(asked.max(*pause)).await })
    }

    /// Something went on meanwhile.
    pub(super) fn forget(&mut self) {
        self.left = PAUSES.iter();
    }
}

/// The bytes of a blob as they come.
pub(super) struct Remote<'a> {
    session: &'a Session,
    response: Response,
    /// Bytes that are known already.
    skip: u64,
}

impl fmt::Debug for Remote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a blob from {:?}", self.session)
    }
}

impl Remote<'_> {
    /// The next of them, some thousand at a time; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let part = self.session.wait(self.response.chunk())?;
            let Some(part) = part.map_err(|error| self.session.requests.failure(error))? else { return Ok(None) };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(part.len());
            self.skip -= skipped as u64;
            if skipped < part.len() {
                return Ok(Some(part[skipped..].to_vec()));
            }
        }
    }
}

fn other_failed() -> Error {
    Error::new(Kind::Interrupted, "another part of it failed")
}

/// Lets a signal end the waiting of all threads; [`interrupt`] tells them why.
fn hear_signals(handle: &Handle, stop: &watch::Sender<bool>) -> Result<()> {
    let _inside = handle.enter();
    for number in interrupt::signals() {
        let mut signals = signal(SignalKind::from_raw(*number)).act(|| "listen for signals")?;
        let stop = stop.clone();
        handle.spawn(async move {
            if signals.recv().await.is_some() {
                stop.send_replace(true);
            }
        });
    }
    Ok(())
}
