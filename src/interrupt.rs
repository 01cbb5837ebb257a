//! Ctrl-C and SIGTERM as a question that long work asks between its steps.
//!
//! Invariant: a signal never ends the process by itself once [`install`] ran; work sees it in [`check`], returns
//! [`Kind::Interrupted`], and its guards undo what was begun. A second signal ends the process at once, and the next
//! command's recovery undoes instead.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use signal_hook::{consts::TERM_SIGNALS, flag};

use crate::{
    error::{Act as _, Error, Kind, Result},
    sys,
};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts to catch SIGINT, SIGTERM and SIGQUIT.
///
/// # Errors
/// When the handlers cannot be registered.
pub fn install() -> Result<()> {
    let asked = Arc::clone(ASKED.get_or_init(Arc::default));
    let register = || -> io::Result<()> {
        for signal in TERM_SIGNALS {
            flag::register_conditional_shutdown(*signal, 128 + signal, Arc::clone(&asked))?;
            flag::register(*signal, Arc::clone(&asked))?;
            // So that waiting for another command's lock ends.
            sys::signal::interrupts_calls(*signal)?;
        }
        Ok(())
    };
    register().act(|| "catch SIGINT and SIGTERM")
}

/// Whether a signal has asked us to stop.
pub fn asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}

/// A signal that was meant for somebody else, who got it, does not ask us to stop.
pub fn forget() {
    if let Some(asked) = ASKED.get() {
        asked.store(false, Ordering::Relaxed);
    }
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
