//! Room for what is being written into a snapshot: in its own file system, and on the disk below the pool, of which
//! something large must not take the last bytes, because a pool that meets a full disk below stops for everybody.
//!
//! Invariant: between two looks at the disk no more is written than what was free at the first, less what is kept back.

use super::{Held, Store};
use crate::{
    driver::BACKING_RESERVE,
    error::Result,
    fs::{FileSystem, Mounted},
    id::VolumeId,
    units::Bytes,
};

/// A snapshot that is being filled, mounted read-write.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    store: &'a Store,
    volume: VolumeId,
    mounted: &'a Mounted,
    file_system: FileSystem,
    /// What may have been written since the disk was asked, and may lie in memory still.
    unseen: Bytes,
}

impl<'a> Filling<'a> {
    /// Begins to fill `held`, which is mounted as `mounted`.
    ///
    /// # Errors
    /// The kernel's reason.
    pub(crate) fn of(held: &Held<'a>, mounted: &'a Mounted) -> Result<Self> {
        let file_system = mounted.file_system()?;
        Ok(Self { store: held.store(), volume: held.volume(), mounted, file_system, unseen: Bytes(0) })
    }

    /// Sees to it that `bytes` more may be written.
    ///
    /// # Errors
    /// `Full` if they would take what is kept back on the disk below; the driver's.
    pub(crate) fn room(&mut self, bytes: Bytes) -> Result<()> {
        self.store.driver.reserve(self.volume, self.mounted.root(), bytes)?;
        self.unseen += bytes;
        let Some(free) = self.store.free_below()? else { return Ok(()) };
        if free >= BACKING_RESERVE + self.unseen {
            return Ok(());
        }
        // The disk is asked again when it has what lies in memory: most of the time all that was announced before.
        self.file_system.write_out()?;
        self.unseen = bytes;
        if self.store.free_below()?.is_some_and(|free| free < BACKING_RESERVE) {
            // What was deleted in the pool may be taken below still.
            self.store.driver.give_back()?;
        }
        self.store.leave_below()
    }

    /// Writes everything out: what did not reach the pool must not become a layer with holes in it.
    ///
    /// # Errors
    /// `Full` or `Io` for what could not be written.
    pub(crate) fn finish(self) -> Result<()> {
        self.file_system.write_out()
    }
}
