//! A directory for one run of an OCI runtime: its bundle, its state, its mount points.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

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
                fs::remove_dir_all(&path).act(|| format!("remove {}", path.display()))?;
            }
        }
    }
    Ok(())
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("remove {}: {error}; the next build tries again", self.path.display());
        }
    }
}
