//! Containers that are being made and have no row yet.
//!
//! Invariant: a container has directories in ROOT/containers and on /run before it has a row only while whoever makes it has
//! a share of the lock on ROOT/containers. So whoever has that lock alone knows that what has no row belongs to nobody.

use std::{fs::File, path::Path};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{
    error::{Act as _, Result},
    fs::make_private,
    interrupt,
};

/// Takes a share, as long as the file is open.
///
/// # Errors
/// The system's; `Interrupted`.
pub(super) fn announce(containers: &Path) -> Result<File> {
    let file = open(containers)?;
    interrupt::wait_for_lock(&file, FlockOperation::LockShared).act(|| format!("lock {}", containers.display()))?;
    Ok(file)
}

/// Takes the lock alone, unless a container is being made.
///
/// # Errors
/// The system's.
pub(super) fn with_none_announced(containers: &Path) -> Result<Option<File>> {
    let file = open(containers)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(None),
        locked => locked.act(|| format!("lock {}", containers.display())).map(|()| Some(file)),
    }
}

fn open(containers: &Path) -> Result<File> {
    make_private(containers)?;
    File::open(containers).act(|| format!("open {}", containers.display()))
}
