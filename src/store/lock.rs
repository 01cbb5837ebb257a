//! Locks that the kernel gives back when their holder dies: open-file-description locks on single bytes of one file,
//! byte N for volume N, byte 0 for the pool (fcntl(2), "Open file description locks"); data volumes have theirs far
//! behind them, images still farther, and one is for containers that are being made.
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
    id::{ImageId, VolumeId},
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

/// The byte shared by whoever makes a container that has no row yet; among those of volumes, which never come so far.
const ANNOUNCED: u64 = DATA - 1;

/// The first byte of images, each of which has the one that the beginning of its ID says. If two have the same, one is
/// kept as long as somebody needs the other.
const IMAGES: u64 = 1 << 62;

fn image_byte(image: ImageId) -> u64 {
    IMAGES | u64::from_be_bytes(image.0.beginning()) >> 2
}

/// Images that this process needs: nobody removes them until this is dropped, or the process dies.
#[derive(Debug)]
pub(crate) struct HeldImages {
    // Shared locks of one open file description, given back together.
    file: File,
    locks: Locks,
}

impl HeldImages {
    /// Holds one more. Whoever removes it at this moment is waited for, so look whether it is there afterwards.
    ///
    /// # Errors
    /// When the lock file cannot be used; `Interrupted`.
    pub(crate) fn hold(&self, image: ImageId) -> Result<()> {
        let byte = image_byte(image);
        self.locks.wait_in(&self.file, byte, libc::F_RDLCK)
    }
}

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

    /// Images that will be held, as yet none.
    pub(super) fn images(&self) -> Result<HeldImages> {
        Ok(HeldImages { file: self.open()?, locks: self.clone() })
    }

    /// Keeps everybody from holding an image, or none if somebody holds it.
    pub(super) fn try_image(&self, image: ImageId) -> Result<Option<Lock>> {
        self.take(image_byte(image))
    }

    /// Says, until it is dropped, that a container is being made. Nobody ever has this lock alone, so none waits.
    pub(super) fn announce(&self) -> Result<Lock> {
        let file = self.open()?;
        self.wait_in(&file, ANNOUNCED, libc::F_RDLCK)?;
        Ok(Lock { _file: file })
    }

    /// Whether anybody says so.
    pub(super) fn is_announced(&self) -> Result<bool> {
        self.any_between(ANNOUNCED, ANNOUNCED + 1)
    }

    fn take(&self, byte: u64) -> Result<Option<Lock>> {
        let file = self.open()?;
        match lock(&file, byte, libc::F_WRLCK, Wait::No) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(self.failed(byte, errno)),
        }
    }

    /// Whether anybody holds the lock of any volume or image, or makes a container.
    pub(super) fn any(&self) -> Result<bool> {
        Ok(self.any_between(POOL + 1, DATA)? || self.any_between(IMAGES, i64::MAX.unsigned_abs())?)
    }

    fn any_between(&self, first: u64, end: u64) -> Result<bool> {
        let file = self.open()?;
        let mut range = byte_range(first, libc::F_WRLCK);
        range.l_len = i64::try_from(end - first).unwrap_or(0);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut range)).map_err(|errno| self.failed(first, errno))?;
        Ok(i32::from(range.l_type) != libc::F_UNLCK)
    }

    fn wait(&self, byte: u64) -> Result<Lock> {
        let file = self.open()?;
        self.wait_in(&file, byte, libc::F_WRLCK)?;
        Ok(Lock { _file: file })
    }

    fn wait_in(&self, file: &File, byte: u64, kind: libc::c_int) -> Result<()> {
        match lock(file, byte, kind, Wait::Yes) {
            Ok(()) => Ok(()),
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

fn byte_range(byte: u64, kind: libc::c_int) -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "the constants are 0 to 2; the libc crate types them wider")]
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: i64::try_from(byte).unwrap_or(i64::MAX),
        l_len: 1,
        l_pid: 0, // must be 0 for open-file-description locks
    }
}

/// Takes the byte; a signal that asks the program to stop ends the waiting with `EINTR`.
fn lock(file: &File, byte: u64, kind: libc::c_int, wait: Wait) -> Result<(), Errno> {
    let range = byte_range(byte, kind);
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
    use crate::id::{Digest, ImageId, VolumeId};

    #[test]
    fn one_holder_per_volume_until_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::new(&directory.path().join("locks"));
        let (first, second) = (VolumeId::new(1).unwrap(), VolumeId::new(2).unwrap());
        let held = locks.volume(first).unwrap();
        assert!(locks.try_volume(first).unwrap().is_none());
        assert!(locks.try_volume(second).unwrap().is_some());
        assert!(locks.any().unwrap());
        drop(held);
        assert!(!locks.any().unwrap());
        let _pool = locks.pool().unwrap();
        let data = locks.data(1).unwrap();
        assert!(locks.try_data(1).unwrap().is_none());
        drop(data);
        let _data = locks.try_data(1).unwrap().unwrap();
        assert!(!locks.any().unwrap());
        assert!(locks.try_volume(first).unwrap().is_some());
    }

    #[test]
    fn containers_are_announced_by_several() {
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::new(&directory.path().join("locks"));
        assert!(!locks.is_announced().unwrap());
        let (first, second) = (locks.announce().unwrap(), locks.announce().unwrap());
        drop(first);
        assert!(locks.is_announced().unwrap() && locks.any().unwrap());
        drop(second);
        let _volume = locks.volume(VolumeId::new(1).unwrap()).unwrap();
        assert!(!locks.is_announced().unwrap());
    }

    #[test]
    fn images_are_held_by_several_and_removed_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::new(&directory.path().join("locks"));
        let [one, other] = ["1", "2"].map(|text| ImageId(Digest::of(text.as_bytes())));
        let (first, second) = (locks.images().unwrap(), locks.images().unwrap());
        first.hold(one).unwrap();
        first.hold(one).unwrap();
        first.hold(other).unwrap();
        second.hold(one).unwrap();
        assert!(locks.try_image(one).unwrap().is_none() && locks.any().unwrap());
        drop(first);
        assert!(locks.try_image(other).unwrap().is_some());
        assert!(locks.try_image(one).unwrap().is_none());
        drop(second);
        let removing = locks.try_image(one).unwrap();
        assert!(removing.is_some() && locks.try_image(one).unwrap().is_none());
        drop(removing);
        assert!(!locks.any().unwrap());
    }
}
