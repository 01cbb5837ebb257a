//! A container's process that is made and waits to be told to begin, or is taken away.

use std::{fs, os::fd::AsFd as _, path::Path};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{
    clear::clear,
    program::{OciRuntime, Waits},
    run_directory::RunDirectory,
};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::if_there,
    sys::process::Process,
};

/// A process that waits to be told to begin. Dropped before, it ends, and nothing of its run stays.
#[derive(Debug)]
pub struct Launched {
    run: Unbegun,
    runtime: OciRuntime,
}

/// A run that is cleared when this is dropped before it has begun.
#[derive(Debug)]
pub(super) struct Unbegun {
    run: RunDirectory,
    begun: bool,
}

impl Launched {
    pub(super) fn new(run: Unbegun, runtime: OciRuntime) -> Self {
        Self { run, runtime }
    }

    /// Lets it begin, as the runtime's `start` does: through a fifo before which the process waits. Done here it spares a
    /// process that takes longer than the rest of a short run.
    ///
    /// # Errors
    /// If it has ended before; the system's.
    pub fn begin(mut self) -> Result<()> {
        let run = self.run.directory();
        let gate = run.gate();
        // It begins within the next line, and may have ended a moment later.
        let init = run.init()?.ok_or_else(ended_before)?;
        match self.runtime.waits_for() {
            Waits::Reader => read_one(&gate, &init)?,
            Waits::Writer => write_one(&gate)?,
        }
        crash::point(crash::Point::RunOpened);
        if_there(fs::remove_file(&gate)).act(|| format!("remove {}", gate.display()))?;
        self.run.begun = true;
        Ok(())
    }
}

impl Unbegun {
    pub(super) fn new(run: RunDirectory) -> Self {
        Self { run, begun: false }
    }

    pub(super) fn directory(&self) -> &RunDirectory {
        &self.run
    }
}

fn ended_before() -> Error {
    Error::new(Kind::Io, "the container's process ended before it began")
}

/// Reads what `init` writes once somebody has the fifo open.
fn read_one(gate: &Path, init: &Process) -> Result<()> {
    let act = || format!("read {}", gate.display());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(gate, flags, Mode::empty()).act(act)?;
    loop {
        let mut ready = [PollFd::new(&fd, PollFlags::IN), PollFd::from_borrowed_fd(init.fd().as_fd(), PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).act(act),
        }
        match rustix::io::read(&fd, &mut [0_u8; 8]) {
            Ok(1..) => return Ok(()),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) if init.lives()? => {}
            Ok(_) => return Err(ended_before()),
            Err(errno) => return Err(errno).act(act),
        }
    }
}

/// Writes what the process reads, which holds the fifo open.
fn write_one(gate: &Path) -> Result<()> {
    let act = || format!("write {}", gate.display());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(gate, flags, Mode::empty()) {
        Err(Errno::NXIO) => Err(ended_before()),
        fd => rustix::io::write(fd.act(act)?, &[0]).act(act).map(drop),
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        if self.begun {
            return;
        }
        if let Err(error) = clear(&self.run) {
            tracing::warn!("{error}; the next command tries again");
        }
    }
}
