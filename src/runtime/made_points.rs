//! Mount points that a container's runs have made in its root file system, which are no changes of its user's.
//!
//! Invariant: they are in the container's list before they are made.

use std::{fs, io, os::fd::BorrowedFd, path::Path};

use super::{bundle::Mount, mount_points::MountPoints};
use crate::error::{Act as _, Error, Kind, Result};

/// Makes the mount points that the tree at `root` has not, as a run of the container does, and notes them in `list`.
///
/// # Errors
/// The system's.
pub fn make_mount_points(root: BorrowedFd<'_>, mounts: &[Mount], list: &Path) -> Result<()> {
    let points = MountPoints::note(root, mounts.iter().map(|mount| mount.target.as_str()))?;
    add_missing(list, &points.paths())?;
    points.make_for(mounts)
}

/// Adds to the list what is not in it.
pub(super) fn add_missing(list: &Path, paths: &[String]) -> Result<()> {
    let mut known = made_mount_points(list)?;
    let before = known.len();
    known.extend(paths.iter().filter(|path| !known.contains(path)).cloned().collect::<Vec<_>>());
    if known.len() == before {
        return Ok(());
    }
    let act = || format!("write {}", list.display());
    let text = serde_json::to_vec(&known).map_err(|error| Error::with_source(Kind::Io, act(), error))?;
    let new = list.with_extension("new");
    // Not synced, which would cost each first run: after a loss of power the list may be empty, and bare mount points are
    // told as changes then.
    fs::write(&new, text).act(act)?;
    fs::rename(&new, list).act(act)
}

/// The mount points that a container's runs have made in its root file system, each with what is above it and was
/// missing too.
///
/// # Errors
/// `Corrupt` for a list that is none.
pub fn made_mount_points(list: &Path) -> Result<Vec<String>> {
    let act = || format!("read {}", list.display());
    match fs::read(list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Ok(text) if text.is_empty() => Ok(Vec::new()),
        text => {
            serde_json::from_slice(&text.act(act)?).map_err(|error| Error::with_source(Kind::Corrupt, act(), error))
        }
    }
}
