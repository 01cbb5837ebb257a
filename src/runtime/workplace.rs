//! A directory for one run of an OCI runtime: its bundle, its state, its mount points; and its cgroup, which is called
//! after it.
//!
//! Invariant: the cgroup goes before the directory, so that whoever finds the directory knows what is left.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::cgroup::Cgroup;
use crate::{
    error::{Act as _, Result},
    fs::make_private,
    id::CacheId,
};

/// A directory that goes with the value. It is locked as long as its owner lives; one that is not is removed by the next.
#[derive(Debug)]
pub struct Workplace {
    path: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Makes one below `place`.
    ///
    /// # Errors
    /// The system's.
    pub fn make(place: &Path) -> Result<Self> {
        make_private(place)?;
        // What is being made is not locked yet, and must not look like what a dead process left.
        let all = File::open(place).act(|| format!("open {}", place.display()))?;
        flock(&all, FlockOperation::LockExclusive).act(|| format!("lock {}", place.display()))?;
        remove_left(place)?;
        let path = place.join(CacheId::random().short());
        make_private(&path)?;
        let lock = File::open(&path).act(|| format!("open {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive).act(|| format!("lock {}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Removes those below `place` whose owner is dead, with their cgroups.
    ///
    /// # Errors
    /// The system's; `InUse` for a process that does not end.
    pub fn recover(place: &Path) -> Result<()> {
        let all = match File::open(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            all => all.act(|| format!("open {}", place.display()))?,
        };
        flock(&all, FlockOperation::LockExclusive).act(|| format!("lock {}", place.display()))?;
        remove_left(place)
    }

    /// The name of its cgroup.
    pub(super) fn cgroup(&self) -> String {
        cgroup_of(&self.path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes those whose owner is dead; its mounts went with its processes.
fn remove_left(place: &Path) -> Result<()> {
    for entry in fs::read_dir(place).act(|| format!("look into {}", place.display()))? {
        let path = entry.act(|| format!("look into {}", place.display()))?.path();
        let lock = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lock => lock.act(|| format!("open {}", path.display()))?,
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            free => {
                free.act(|| format!("lock {}", path.display()))?;
                remove(&path)?;
            }
        }
    }
    Ok(())
}

fn cgroup_of(path: &Path) -> String {
    format!("build-{}", path.file_name().unwrap_or_default().to_string_lossy())
}

/// The runtime removes the cgroup itself, unless it was killed.
fn remove(path: &Path) -> Result<()> {
    Cgroup::new(&cgroup_of(path)).remove()?;
    fs::remove_dir_all(path).act(|| format!("remove {}", path.display()))
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!("{error}; the next build tries again");
        }
    }
}
