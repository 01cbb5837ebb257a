//! A mounted file system as a whole: what is in memory alone, written out.

use std::{os::fd::OwnedFd, path::Path};

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Act as _, Result};

/// A mounted file system, held open: what could not be written since then is told by [`FileSystem::write_out`].
#[derive(Debug)]
pub struct FileSystem(OwnedFd);

impl FileSystem {
    /// The one that has `directory`.
    ///
    /// # Errors
    /// The kernel's reason for not opening it.
    pub fn at(directory: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, directory, flags, Mode::empty());
        opened.map(Self).act(|| format!("open {}", directory.display()))
    }

    /// The one that a directory, opened for reading, lies on.
    pub fn of(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Writes everything out. write(2) only fills memory; a pool that is full shows here (syncfs(2), since Linux 5.8).
    ///
    /// # Errors
    /// `Full` or `Io` for what could not be written.
    pub fn write_out(&self) -> Result<()> {
        rustix::fs::syncfs(&self.0).act(|| "write everything out")
    }
}
