//! What an upper directory changes, read from it: the kernel wrote down there all that differs (and some that does not:
//! a file opened for writing is copied up, changed or not).
//!
//! Invariant: only names in the upper directory are looked at, so the time follows the change; but what they mean is
//! decided by `fs::compare`, so the answer is the same as that of a walk over both mounted trees.

use std::{
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Stat, fgetxattr},
    io::Errno,
};

use crate::{
    driver::Changes,
    error::{Act as _, Result},
    fs::{Look, Verdict, compare_guided, file_type},
};

/// Compares the upper directory with the mounted stack of its parents.
pub(super) fn changes(parents: BorrowedFd<'_>, upper: BorrowedFd<'_>) -> Result<Changes> {
    // The walk goes down before it goes on, so one path is enough to know that we are below an opaque directory:
    // nothing of the parents shows there, whether or not the directories below are marked themselves.
    let mut opaque: Option<PathBuf> = None;
    let mut guide = |path: &Path, dir: BorrowedFd<'_>| {
        if opaque.as_ref().is_some_and(|opaque| path.starts_with(opaque)) {
            return Ok(Look::Everywhere);
        }
        if !is_opaque(dir)? {
            return Ok(Look::Child);
        }
        opaque = Some(path.to_path_buf());
        Ok(Look::Everywhere)
    };
    compare_guided(parents, upper, &mut guide, &mut |_| Ok(Verdict::Unknown), |stat| !is_whiteout(stat))
}

/// A character device 0:0 stands for a deleted name (Documentation/filesystems/overlayfs.rst).
fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides what the parents have at its place.
fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool> {
    let mut value = [0; 1];
    match fgetxattr(dir, c"trusted.overlay.opaque", &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        // Longer values mean nothing to overlayfs.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno).act(|| "read whether a directory is opaque"),
    }
}
