//! The note, in a pool's directory, that what a user gave is being made a pool.
//!
//! Invariant: it is durable before the first byte is written there, and names only what was blank then; so what it
//! names may be wiped when the creation died, whatever half of a pool is on it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use crate::{
    error::{Act as _, Result},
    fs::if_there,
};

/// The note that a creation is under way, and what it has taken.
#[derive(Debug)]
pub(super) struct Making<'a> {
    directory: &'a Path,
}

impl<'a> Making<'a> {
    /// The note in a pool's `directory`.
    pub(super) fn of(directory: &'a Path) -> Self {
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("making")
    }

    /// Whether a creation is under way, or was when its process died.
    pub(super) fn exists(&self) -> Result<bool> {
        self.path().try_exists().act(|| format!("look for {}", self.path().display()))
    }

    /// Whether an unfinished creation took the file or device `backing`.
    pub(super) fn took(&self, backing: &Path) -> Result<bool> {
        match fs::read(self.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            read => {
                let taken = read.act(|| format!("read {}", self.path().display()))?;
                Ok(taken.split(|byte| *byte == 0).any(|path| path == backing.as_os_str().as_bytes()))
            }
        }
    }

    /// Notes durably that these are taken; they were found blank.
    pub(super) fn write(&self, takes: &[&Path]) -> Result<()> {
        let paths: Vec<&[u8]> = takes.iter().map(|path| path.as_os_str().as_bytes()).collect();
        let paths = paths.join(&0);
        let write = || {
            let mut file = File::create(self.path())?;
            file.write_all(&paths)?;
            file.sync_all()
        };
        write().act(|| format!("write {}", self.path().display()))?;
        self.sync()
    }

    /// The creation is finished or undone.
    pub(super) fn remove(&self) -> Result<()> {
        if_there(fs::remove_file(self.path())).act(|| format!("remove {}", self.path().display()))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        let directory = File::open(self.directory).act(|| format!("open {}", self.directory.display()))?;
        rustix::fs::fsync(directory.as_fd()).act(|| format!("write {}", self.directory.display()))
    }
}
