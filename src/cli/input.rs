//! Standard input that Ctrl-C interrupts: a blocked read(2) would be restarted by the kernel and never see the signal.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::event::{PollFd, PollFlags, poll};

use crate::interrupt;

/// Standard input; a read fails with our `Interrupted` once a signal came.
#[derive(Debug)]
pub(super) struct Input {
    stdin: io::Stdin,
    /// Becomes readable at a signal.
    signalled: OwnedFd,
}

impl Input {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        for signal in interrupt::signals() {
            signal_hook::low_level::pipe::register(*signal, writer.try_clone()?)?;
        }
        Ok(Self { stdin: io::stdin(), signalled: reader.into() })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            interrupt::check().map_err(io::Error::other)?;
            let mut ready = [
                PollFd::from_borrowed_fd(self.stdin.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.signalled.as_fd(), PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Ok(_) if !ready[0].revents().is_empty() => return self.stdin.read(buffer),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
