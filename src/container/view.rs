//! A container's tree as it is now, for the time of a command: of one that is mounted its mount, seen once more; of one
//! that runs what its process sees, volumes included; of any other a mount that nobody else sees.
//!
//! Invariant: while a container that is not mounted is looked at, its lock keeps every other command from mounting it.

use std::os::fd::BorrowedFd;

use super::{Container, Containers};
use crate::{
    error::{Act as _, Kind, Result},
    fs::Mounted,
    id::VolumeId,
    store::{Lock, Store},
    units::Bytes,
};

/// See the module's comment.
#[derive(Debug)]
pub struct View<'store> {
    // Dropped in this order: unmounted first, then free for others.
    mounted: Mounted,
    _lock: Option<Lock>,
    store: &'store Store,
    volume: VolumeId,
    /// What may be written to it is limited, and does not grow with what comes.
    limit: Option<Bytes>,
}

impl<'store> Containers<'store> {
    /// Shows the container's tree, writable.
    ///
    /// # Errors
    /// The driver's or the kernel's.
    pub fn view(&self, container: &Container) -> Result<View<'store>> {
        let act = || format!("look into container {}", container.name);
        let lock = self.lock(container)?;
        let info = self.snapshot(container)?;
        let (volume, limit) = (info.volume, info.size_limit);
        if let Some(place) = self.mounted_at(container)? {
            let mounted = Mounted::again(&place).act(act)?;
            return Ok(View { mounted, _lock: None, store: self.store, volume, limit });
        }
        // One that runs is mounted in its own namespace; overlayfs must not have one upper directory in two mounts.
        if let Some(pid) = self.status(container)?.pid {
            let mounted = Mounted::of_process(pid).act(act)?;
            return Ok(View { mounted, _lock: None, store: self.store, volume, limit });
        }
        let mounted = || {
            let mounted = Mounted::detached(&self.store.mounts(&container.key())?)?;
            // From here on the volume's device goes with the mount, whenever this process dies.
            self.store.release(&container.key())?;
            Ok(mounted)
        };
        let mounted = mounted().map_err(|error: crate::Error| error.and_undo(self.store.release(&container.key())));
        Ok(View { mounted: mounted.act(act)?, _lock: Some(lock), store: self.store, volume, limit })
    }
}

impl View<'_> {
    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.mounted.root()
    }

    /// Sees to it that so many more bytes fit.
    pub(super) fn room(&self, bytes: Bytes) -> Result<()> {
        match self.limit {
            Some(_) => Ok(()),
            None => self.store.driver().reserve(self.volume, self.root(), bytes),
        }
    }

    /// Writes with `write`, and out to the pool; what was full then is told with the pool's numbers.
    pub(super) fn written<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let file_system = self.mounted.file_system()?;
        let written = write().and_then(|value| file_system.write_out().map(|()| value));
        written.map_err(|error| match self.limit.filter(|_| error.kind() == Kind::Full) {
            Some(limit) => error.within(format!("the container may write {limit}, if the pool has that")),
            None => self.store.explain(error),
        })
    }
}
