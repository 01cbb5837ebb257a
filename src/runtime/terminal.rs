//! This process's terminal, handed over to a container: every key is the container's.
//!
//! Invariant: dropped, the terminal is as it was.

use std::{io, os::fd::AsFd as _};

use rustix::{
    io::Errno,
    termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr},
};

use crate::error::{Act as _, Error, Kind, Result};

/// See the module's comment.
#[derive(Debug)]
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Nothing if standard input is no terminal.
    pub(super) fn enter() -> Result<Option<Self>> {
        let stdin = io::stdin();
        if !isatty(stdin.as_fd()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin.as_fd()).act(|| "look at the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw).act(|| "hand the terminal over")?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        match tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.before) {
            // One that is gone needs nothing.
            Ok(()) | Err(Errno::IO) => {}
            Err(errno) => tracing::warn!("the terminal could not be taken back: {errno}; 'reset' does it"),
        }
    }
}

/// That standard input is a terminal, which a container's terminal needs that somebody types at.
///
/// # Errors
/// `Invalid`, in Docker's words.
pub fn ensure_terminal() -> Result<()> {
    if isatty(io::stdin().as_fd()) { Ok(()) } else { Err(Error::new(Kind::Invalid, "the input device is not a TTY")) }
}
