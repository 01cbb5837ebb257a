//! Locks that the kernel gives back when their holder dies: open-file-description locks on single bytes of one file,
//! byte N for volume N, byte 0 for the pool (fcntl(2), "Open file description locks"); data volumes have theirs far
//! behind them.
//!
//! Invariant: whoever makes, changes or deletes a volume holds its byte from before its intent is visible until after
//! it is published. So an unfinished row whose byte is free was left by a process that died, and may be undone.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    id::VolumeId,
    interrupt,
};

/// The lock file of one root directory.
#[derive(Clone, Debug)]
pub(super) struct Locks {
    path: PathBuf,
}

/// A held lock; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Lock {
    // Every lock has an open file description of its own, so that two threads of one process exclude each other too.
    _file: File,
}

/// The pool's byte.
const POOL: u64 = 0;

/// The byte of data volume 0.
const DATA: u64 = 1 << 40;

impl Locks {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Waits for the pool's lock.
    pub(super) fn pool(&self) -> Result<Lock> {
        self.wait(POOL)
    }

    /// Waits for a volume's lock.
    pub(super) fn volume(&self, volume: VolumeId) -> Result<Lock> {
        self.wait(volume.get().into())
    }

    /// Takes a volume's lock, or none if somebody holds it.
    pub(super) fn try_volume(&self, volume: VolumeId) -> Result<Option<Lock>> {
        self.take(volume.get().into())
    }

    /// Waits for the lock of a data volume.
    pub(super) fn data(&self, number: u64) -> Result<Lock> {
        self.wait(DATA + number)
    }

    /// Takes the lock of a data volume, or none if somebody holds it.
    pub(super) fn try_data(&self, number: u64) -> Result<Option<Lock>> {
        self.take(DATA + number)
    }

    fn take(&self, byte: u64) -> Result<Option<Lock>> {
        let file = self.open()?;
        match lock(&file, byte, Wait::No) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(self.failed(byte, errno)),
        }
    }

    /// Whether anybody holds the lock of any volume.
    pub(super) fn any_volume(&self) -> Result<bool> {
        let file = self.open()?;
        let mut range = byte_range(POOL + 1);
        range.l_len = i64::try_from(DATA - POOL - 1).unwrap_or(0);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut range)).map_err(|errno| self.failed(POOL + 1, errno))?;
        Ok(i32::from(range.l_type) != libc::F_UNLCK)
    }

    fn wait(&self, byte: u64) -> Result<Lock> {
        let file = self.open()?;
        match lock(&file, byte, Wait::Yes) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(Errno::EINTR) => Err(interrupt::interrupted()),
            Err(errno) => Err(self.failed(byte, errno)),
        }
    }

    fn open(&self) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Whoever can open it can hold its locks.
            .mode(0o600)
            .open(&self.path)
            .act(|| format!("open lock file {}", self.path.display()))
    }

    fn failed(&self, byte: u64, errno: Errno) -> Error {
        let act = format!("lock byte {byte} of {}", self.path.display());
        Error::with_source(Kind::Io, act, io::Error::from(errno))
    }
}

#[derive(Clone, Copy)]
enum Wait {
    Yes,
    No,
}

fn byte_range(byte: u64) -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "the constants are 0 and 1; the libc crate types them wider")]
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: i64::try_from(byte).unwrap_or(i64::MAX),
        l_len: 1,
        l_pid: 0, // must be 0 for open-file-description locks
    }
}

/// Takes the byte; a signal that asks the program to stop ends the waiting with `EINTR`.
fn lock(file: &File, byte: u64, wait: Wait) -> Result<(), Errno> {
    let range = byte_range(byte);
    let command = || match wait {
        Wait::Yes => FcntlArg::F_OFD_SETLKW(&range),
        Wait::No => FcntlArg::F_OFD_SETLK(&range),
    };
    loop {
        match fcntl(file, command()) {
            Err(Errno::EINTR) if !interrupt::asked() => {}
            result => return result.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Locks;
    use crate::id::VolumeId;

    #[test]
    fn one_holder_per_volume_until_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::new(&directory.path().join("locks"));
        let (first, second) = (VolumeId::new(1).unwrap(), VolumeId::new(2).unwrap());
        let held = locks.volume(first).unwrap();
        assert!(locks.try_volume(first).unwrap().is_none());
        assert!(locks.try_volume(second).unwrap().is_some());
        assert!(locks.any_volume().unwrap());
        drop(held);
        assert!(!locks.any_volume().unwrap());
        let _pool = locks.pool().unwrap();
        let data = locks.data(1).unwrap();
        assert!(locks.try_data(1).unwrap().is_none());
        drop(data);
        let _data = locks.try_data(1).unwrap().unwrap();
        assert!(!locks.any_volume().unwrap());
        assert!(locks.try_volume(first).unwrap().is_some());
    }
}
