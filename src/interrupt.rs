//! Ctrl-C, SIGTERM and the end of the terminal as a question that long work asks between its steps.
//!
//! Invariant: a signal never ends the process by itself once [`install`] ran; work sees it in [`check`], returns
//! [`Kind::Interrupted`], and its guards undo what was begun. A second signal ends the process at once, and the next
//! command's recovery undoes instead.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use signal_hook::{
    SigId,
    consts::{SIGHUP, TERM_SIGNALS},
    flag,
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
    low_level::unregister,
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    sys,
};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// What is done at a signal.
static ACTIONS: Mutex<Vec<SigId>> = Mutex::new(Vec::new());

/// The signals that ask this process to stop: SIGINT, SIGTERM and SIGQUIT; also SIGHUP, but for whom it was ignored for,
/// who is to outlive the terminal (nohup(1)).
pub fn signals() -> &'static [i32] {
    static SIGNALS: OnceLock<Vec<i32>> = OnceLock::new();
    SIGNALS.get_or_init(|| {
        let outlives = sys::signal::is_ignored(SIGHUP).unwrap_or_default();
        TERM_SIGNALS.iter().copied().chain((!outlives).then_some(SIGHUP)).collect()
    })
}

/// Starts to catch [`signals`].
///
/// # Errors
/// When the handlers cannot be registered.
pub fn install() -> Result<()> {
    let act = || "catch SIGINT and SIGTERM";
    register().act(act)?;
    // So that waiting for another command's lock ends.
    signals().iter().try_for_each(|signal| sys::signal::interrupts_calls(*signal)).act(act)
}

fn register() -> io::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    let mut actions = ACTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    for signal in signals() {
        actions.push(flag::register_conditional_shutdown(*signal, 128 + signal, Arc::clone(asked))?);
        actions.push(flag::register(*signal, Arc::clone(asked))?);
    }
    Ok(())
}

/// As long as this lives, signals do not ask this process to stop: it catches them for somebody else.
#[derive(Debug)]
pub struct HandedOn(SignalDelivery<UnixStream, SignalOnly>);

impl HandedOn {
    /// Catches [`signals`], and `also` these.
    ///
    /// # Errors
    /// `Interrupted` if one came before, when it was this process's; the system's.
    pub fn begin(also: impl IntoIterator<Item = i32>) -> Result<Self> {
        let act = || "catch signals for the container";
        let (read, write) = UnixStream::pair().act(act)?;
        read.set_nonblocking(true).act(act)?;
        write.set_nonblocking(true).act(act)?;
        let numbers = signals().iter().copied().chain(also);
        let caught = Self(SignalDelivery::with_pipe(read, write, SignalOnly, numbers).act(act)?);
        ACTIONS.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|action| {
            unregister(action);
        });
        check().map(|()| caught)
    }

    /// Readable once there are some.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }

    /// Those that came since this was asked.
    pub fn pending(&mut self) -> impl Iterator<Item = i32> {
        self.0.pending()
    }
}

impl Drop for HandedOn {
    fn drop(&mut self) {
        if let Err(error) = register() {
            tracing::warn!("catch SIGINT and SIGTERM again: {error}; only SIGKILL ends this command now");
        }
    }
}

/// Whether a signal has asked us to stop.
pub fn asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}

/// Between two steps of long work.
///
/// # Errors
/// `Interrupted` after a signal.
pub fn check() -> Result<()> {
    if asked() { Err(interrupted()) } else { Ok(()) }
}

/// Waits for the lock of an open file (flock(2)), shared or exclusive as `operation` says.
///
/// # Errors
/// `Interrupted` after a signal; the kernel's reason.
pub fn wait_for_lock(file: impl AsFd, operation: FlockOperation) -> Result<()> {
    loop {
        match flock(&file, operation) {
            Err(Errno::INTR) => check()?,
            locked => return locked.act(|| "wait for its lock"),
        }
    }
}

/// What work that saw the signal ends with.
pub fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "interrupted; what was begun is undone")
}
