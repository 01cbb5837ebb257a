//! A connection to one repository of a registry, for threads that wait: each call returns when it is done, when the
//! registry has said nothing for too long, when another part has failed, or when a signal asks the program to stop.
//!
//! Invariant: no call outlasts a signal; what fails in passing is tried again, with growing pauses, a few times.

use std::{
    fmt, io,
    pin::pin,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
};
use oci_client::{
    Client, Reference as Name, RegistryOperation,
    client::{BlobResponse, ClientConfig, ClientProtocol, SizedStream},
    errors::OciDistributionError as Complaint,
};
use signal_hook::consts::TERM_SIGNALS;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Connection, credentials,
    failure::{Failure, failure},
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

/// What kinds of manifest there are.
pub(super) const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// See the module's comment.
pub(super) struct Session {
    /// Only to be ended with this.
    runtime: Option<Runtime>,
    handle: Handle,
    client: Client,
    host: String,
    path: String,
    patience: Duration,
    reached: AtomicBool,
    /// Whether all waiting is to end.
    stop: watch::Sender<bool>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl Session {
    /// Connects, and logs in where credentials are known.
    pub(super) fn open(reference: &Reference, connection: &Connection, wants: RegistryOperation) -> Result<Self> {
        let auth = credentials::find(reference)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.act(|| "start the threads that talk to the registry")?;
        let handle = runtime.handle().clone();
        let stop = watch::Sender::new(false);
        hear_signals(&handle, &stop)?;
        let session = Self {
            runtime: Some(runtime),
            handle,
            client: client(connection)?,
            host: reference.domain().to_owned(),
            path: reference.path().to_owned(),
            patience: connection.patience,
            reached: AtomicBool::new(false),
            stop,
        };
        let name = session.name("latest");
        session.persist(|| session.ask(session.client.auth(&name, &auth, wants)))?;
        Ok(session)
    }

    /// The registry's host and port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Ends all waiting: another part has failed.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// A manifest by its tag or digest: its bytes.
    pub(super) fn manifest(&self, wanted: &str) -> Result<Vec<u8>> {
        let name = self.name(wanted);
        let auth = &oci_client::secrets::RegistryAuth::Anonymous; // the ones that the session began with count
        self.persist(|| self.ask(self.client.pull_manifest_raw(&name, auth, &MANIFESTS))).map(|(bytes, _)| bytes.into())
    }

    /// The bytes of a blob from `offset` on. They are not checked.
    pub(super) fn blob(&self, digest: Digest, offset: u64) -> Result<Remote<'_>, Failure> {
        let (name, digest) = (self.name("latest"), digest.to_string());
        let response = self.ask(self.client.pull_blob_stream_partial(&name, digest.as_str(), offset, None))?;
        let (stream, skip) = match response {
            BlobResponse::Partial(stream) => (stream, 0),
            // It knows no ranges.
            BlobResponse::Full(stream) => (stream, offset),
        };
        Ok(Remote { session: self, stream, skip })
    }

    /// Whether the repository has a blob.
    pub(super) fn has_blob(&self, digest: Digest) -> Result<bool> {
        let (name, digest) = (self.name("latest"), digest.to_string());
        self.persist(|| self.ask(self.client.blob_exists(&name, &digest)))
    }

    /// Whether the registry could give the repository a blob that its repository `from` has.
    pub(super) fn mount_blob(&self, digest: Digest, from: &str) -> Result<bool> {
        let (name, digest) = (self.name("latest"), digest.to_string());
        let from = Name::with_tag(self.host.clone(), from.to_owned(), "latest".to_owned());
        match self.ask(self.client.mount_blob(&name, &from, &digest)) {
            Ok(()) => Ok(true),
            Err(failure) if failure.error.kind() == Kind::Interrupted => Err(failure.error),
            // It may refuse, or not know how: then the bytes are sent.
            Err(_) => Ok(false),
        }
    }

    /// Sends a blob of `size` bytes, which `next` gives part by part.
    pub(super) fn upload(
        &self,
        digest: Digest,
        size: u64,
        mut next: impl FnMut() -> io::Result<Option<Vec<u8>>>,
    ) -> Result<(), Failure> {
        let (client, name, digest) = (self.client.clone(), self.name("latest"), digest.to_string());
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<io::Result<Vec<u8>>>(2);
        let parts = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let parts = parts.map(|part| part.map(Into::into).map_err(Complaint::IoError));
        let sent = self.handle.spawn(async move { client.push_blob_stream(&name, parts, &digest, Some(size)).await });
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
                Ok(done) => done.map(drop).map_err(|complaint| self.failure(complaint)),
                Err(_) => Err(Failure::last(Error::new(Kind::Io, "send the layer: the sending thread panicked"))),
            },
        }
    }

    /// Publishes a manifest under a tag or its digest.
    pub(super) fn put_manifest(&self, wanted: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let name = self.name(wanted);
        self.persist(|| {
            let unfit = || Error::new(Kind::Invalid, format!("'{}' is no media type", media_type.escape_debug()));
            let media_type = media_type.parse().map_err(|_| Failure::last(unfit()))?;
            self.ask(self.client.push_manifest_raw(&name, bytes.to_vec(), media_type))
        })
        .map(drop)
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

    fn name(&self, wanted: &str) -> Name {
        let (host, path, wanted) = (self.host.clone(), self.path.clone(), wanted.to_owned());
        if wanted.contains(':') { Name::with_digest(host, path, wanted) } else { Name::with_tag(host, path, wanted) }
    }

    fn ask<T>(&self, request: impl Future<Output = Result<T, Complaint>>) -> Result<T, Failure> {
        let answer = self.wait(request)?.map_err(|complaint| self.failure(complaint));
        self.reached.store(true, Ordering::Relaxed);
        answer
    }

    fn failure(&self, complaint: Complaint) -> Failure {
        failure(complaint, &self.host, self.reached.load(Ordering::Relaxed))
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        if interrupt::asked() {
            return Err(Failure::last(interrupt::interrupted()));
        }
        let mut stop = self.stop.subscribe();
        let done = self.handle.block_on(async {
            match select(pin!(stop.wait_for(|stop| *stop)), pin!(timeout(self.patience, work))).await {
                Either::Left(_) => None,
                Either::Right((done, _)) => Some(done),
            }
        });
        match done {
            Some(Ok(done)) => Ok(done),
            Some(Err(_)) => Err(Failure::last(self.silent())),
            None if interrupt::asked() => Err(Failure::last(interrupt::interrupted())),
            None => Err(Failure::last(Error::new(Kind::Interrupted, "another part of it failed"))),
        }
    }

    fn silent(&self) -> Error {
        let seconds = self.patience.as_secs();
        Error::new(Kind::Io, format!("registry {} has said nothing for {seconds} s", self.host))
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
    pub(super) fn after(&mut self, Failure { error, again }: Failure) -> Result<()> {
        let Some(pause) = self.left.next().filter(|_| again) else { return Err(error) };
        tracing::info!("{error}; trying again");
        // A timer begins inside the runtime only.
        self.session.wait(async { sleep(*pause).await }).map_err(|failure| failure.error)
    }

    /// Something went on meanwhile.
    pub(super) fn forget(&mut self) {
        self.left = PAUSES.iter();
    }
}

/// The bytes of a blob as they come.
pub(super) struct Remote<'a> {
    session: &'a Session,
    stream: SizedStream,
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
            let part = match self.session.wait(self.stream.next())? {
                None => return Ok(None),
                Some(part) => part.map_err(|error| self.session.failure(Complaint::IoError(error)))?,
            };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(part.len());
            self.skip -= skipped as u64;
            if skipped < part.len() {
                return Ok(Some(part[skipped..].to_vec()));
            }
        }
    }
}

fn client(connection: &Connection) -> Result<Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another one that is installed does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    // The client's library panics where there is none, even if it needs none.
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        let what =
            "talk to a registry: this machine has no certificates of authorities; install package ca-certificates";
        return Err(Error::new(Kind::MissingProgram, what));
    }
    let config = ClientConfig {
        protocol: if connection.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
        accept_invalid_certificates: !connection.tls_verify,
        connect_timeout: Some(connection.patience),
        use_monolithic_push: true,
        user_agent: concat!("lamina/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| Error::with_source(Kind::Io, "make a client of registries", error))
}

/// Lets a signal end the waiting of all threads; [`interrupt`] tells them why.
fn hear_signals(handle: &Handle, stop: &watch::Sender<bool>) -> Result<()> {
    let _inside = handle.enter();
    for number in TERM_SIGNALS {
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
