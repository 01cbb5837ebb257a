//! Refusing new work before a pool is full, so that deletes, and the writers that are already there, still have room.
//!
//! Invariant: only making something new asks here; deleting, reading, unmounting and growing never do.

use std::{os::fd::BorrowedFd, time::Duration};

use super::Store;
use crate::{
    driver::{BACKING_RESERVE, DriverKind, Health, PoolStatus, Space},
    error::{Error, Kind, Result},
    fs::{FileSystem, Unwritten},
    units::Bytes,
};

/// What is kept back of a space: a twentieth, but never more than a GiB and never less than the deletes of a small
/// pool need.
fn reserve(space: Space, least: Bytes) -> Bytes {
    Bytes(space.total.0 / 20).clamp(least, Bytes::gib(1))
}

const STOPPED: &str = "the kernel has stopped writing to the pool; run 'lamina check --repair', which takes it down, checks it \
     and brings it up";

/// With less than this on the disk below it may end between two looks: memory takes gigabytes in a second.
const NEAR: Bytes = Bytes::gib(4);
/// With less than this, if everything in memory were for this disk, it is written out to see what is.
const NEAR_END: Bytes = Bytes::gib(1);
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(200);

impl Store {
    /// Whether something new may be made.
    ///
    /// # Errors
    /// `Full` with numbers and remedy; `Io` for a pool that the kernel has stopped.
    pub(super) fn admit(&self) -> Result<()> {
        let mut status = self.driver.status()?;
        if is_short_of_metadata(&status) {
            let _lock = self.locks.pool()?;
            // Another command may have done it meanwhile.
            status = self.driver.status()?;
            if is_short_of_metadata(&status) {
                match self.driver.extend_metadata() {
                    Ok(true) => status = self.driver.status()?,
                    Ok(false) => {}
                    // The disk below is full. Some metadata is left still, and the verdict below says if it suffices.
                    Err(error) if error.kind() == Kind::Full => tracing::warn!("{error}"),
                    Err(error) => return Err(error),
                }
            }
        }
        let kind = self.driver.kind();
        if is_disk_below_full(&status).is_some() || data_holds_back(&status) && judge(&status, kind).is_err() {
            // What was deleted may be free in the pool and still taken below, or for data and not yet for metadata.
            self.driver.give_back()?;
            status = self.driver.status()?;
        }
        judge(&status, kind)
    }

    /// What is free on the disk that the pool lies on: below its sparse files, or where its directories are; `None` on a
    /// device.
    pub(super) fn free_below(&self) -> Result<Option<Bytes>> {
        let status = self.driver.status()?;
        let directories = !self.driver.kind().has_device();
        Ok(status.backing_free.or_else(|| directories.then(|| status.data.free())))
    }

    /// Refuses to go on where what is kept back on the disk below is taken.
    ///
    /// # Errors
    /// `Full`; the driver's.
    pub(super) fn leave_below(&self) -> Result<()> {
        match self.free_below()? {
            Some(free) if free < BACKING_RESERVE => Err(Error::new(Kind::Full, disk_below_is_full(free))),
            _ => Ok(()),
        }
    }

    /// Before somebody else writes much: where the disk below is not far from its end, it gets back what was deleted in the
    /// pool.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn give_back_below(&self) -> Result<()> {
        match self.free_below()? {
            Some(free) if free < NEAR => self.driver.give_back(),
            _ => Ok(()),
        }
    }

    /// Refuses to let somebody else go on writing below `root`, of `file_system` in the pool, once that takes what is kept
    /// back on the disk below, where what lies in memory goes, too. Tells when to ask again.
    ///
    /// # Errors
    /// `Full`, also for what could not be written; the driver's.
    pub(crate) fn watch_below(&self, root: BorrowedFd<'_>, file_system: &FileSystem) -> Result<Duration> {
        let Some(mut free) = self.free_below()? else { return Ok(SELDOM) };
        let mut unwritten = self.driver.unwritten(root)?;
        if must_be_seen(free, unwritten) {
            file_system.write_out()?;
            free = self.free_below()?.unwrap_or(free);
            unwritten = self.driver.unwritten(root)?;
        }
        // Of what is not surely written here, the disk tells when it has it.
        let left = free.saturating_sub(unwritten.least);
        if left < BACKING_RESERVE {
            return Err(Error::new(Kind::Full, disk_below_is_full(left)));
        }
        Ok(if free.saturating_sub(unwritten.most) < NEAR { OFTEN } else { SELDOM })
    }

    /// Adds to the failure of a program that wrote into the pool that this is full, if it is.
    pub(crate) fn blame(&self, failure: Error) -> Error {
        match self.driver.status().and_then(|status| judge(&status, self.driver.kind())) {
            Err(why) if why.kind() == Kind::Full => Error::new(Kind::Full, format!("{failure}; {why}")),
            Err(unknown) => failure.and_undo(Err(unknown.within("read the pool's state"))),
            Ok(()) => failure,
        }
    }

    /// Adds the pool's numbers to an error that says no more than 'no space', and the remedy to what failed because the
    /// kernel has stopped the pool. What lies on a thin device knows only that its disk failed; if the pool is full then,
    /// that is why.
    pub(crate) fn explain(&self, error: Error) -> Error {
        // Our own verdict has its numbers.
        let is_told = error.kind() == Kind::Full && error.errno().is_none();
        if is_told || !matches!(error.kind(), Kind::Full | Kind::Io) {
            return error;
        }
        match self.driver.status() {
            Ok(status) if status.health.is_stopped() => error.within(STOPPED),
            Ok(status) if error.kind() == Kind::Full || status.health == Health::OutOfSpace => {
                error.as_kind(Kind::Full).within(numbers(self.driver.kind(), &status))
            }
            Ok(_) => error,
            Err(unknown) => error.and_undo(Err(unknown.within("read the pool's state"))),
        }
    }
}

/// Whether what may lie in memory and is not surely written to the disk below, with `free` bytes, could take most of what
/// is kept back there. It is written out while there is room for what comes meanwhile.
fn must_be_seen(free: Bytes, unwritten: Unwritten) -> bool {
    let unknown = unwritten.most.saturating_sub(unwritten.least);
    unknown > Bytes(BACKING_RESERVE.0 / 2) && free.saturating_sub(unwritten.most) < NEAR_END
}

/// More than three quarters are taken: full metadata stops deletes too, so it grows long before.
fn is_short_of_metadata(status: &PoolStatus) -> bool {
    let metadata = status.metadata;
    metadata.total > Bytes(0) && metadata.free() < Bytes(metadata.total.0 / 4)
}

/// Whether so much of the data's space is free that it cannot be why the pool is full.
fn data_holds_back(status: &PoolStatus) -> bool {
    status.data.free() > Bytes(status.data.total.0 / 4)
}

/// Says so if the disk below a pool of sparse files is what is full.
fn is_disk_below_full(status: &PoolStatus) -> Option<String> {
    status.backing_free.filter(|free| *free < BACKING_RESERVE).map(disk_below_is_full)
}

fn disk_below_is_full(free: Bytes) -> String {
    format!("the disk below the pool is full ({free} free, {BACKING_RESERVE} are kept back); free some space there")
}

fn numbers(kind: DriverKind, status: &PoolStatus) -> String {
    if !kind.has_device() {
        return format!(
            "the file system that the {kind} pool lies on is full ({} of {} used); remove something",
            status.data.used, status.data.total
        );
    }
    if let Some(error) = is_disk_below_full(status) {
        return error;
    }
    let backing = status.backing_free.map(|free| format!(", {free} free on the disk below")).unwrap_or_default();
    format!(
        "pool is full (data {} of {} used, metadata {} of {} used{backing}); remove something, or grow it with 'lamina pool grow SIZE'",
        status.data.used, status.data.total, status.metadata.used, status.metadata.total
    )
}

/// btrfs refuses to make anything with less than 2 MiB of metadata left, measured; a thin-pool needs some blocks of 4 KiB.
fn least_metadata(kind: DriverKind) -> Bytes {
    if kind == DriverKind::Btrfs { Bytes::mib(2) } else { Bytes::kib(512) }
}

fn judge(status: &PoolStatus, kind: DriverKind) -> Result<()> {
    if status.health.is_stopped() {
        return Err(Error::new(Kind::Io, STOPPED));
    }
    // A mechanism without metadata of its own says that it has 0 bytes of it.
    let short = |space: Space, least| space.total > Bytes(0) && space.free() < reserve(space, least);
    let full = status.health == Health::OutOfSpace
        || short(status.data, Bytes::mib(8))
        || short(status.metadata, least_metadata(kind));
    if full {
        return Err(Error::new(Kind::Full, numbers(kind, status)));
    }
    is_disk_below_full(status).map_or(Ok(()), |what| Err(Error::new(Kind::Full, what)))
}

#[cfg(test)]
mod tests {
    use super::{judge, must_be_seen};
    use crate::{
        driver::{DriverKind, Health, PoolStatus, Space},
        error::Kind,
        fs::Unwritten,
        units::Bytes,
    };

    fn status(data: u64, metadata: u64, backing: Option<u64>) -> PoolStatus {
        PoolStatus {
            data: Space { total: Bytes::gib(10), used: Bytes::gib(10) - Bytes::mib(data) },
            metadata: Space { total: Bytes::mib(64), used: Bytes::mib(64) - Bytes::kib(metadata) },
            backing_free: backing.map(Bytes::mib),
            chunk: Bytes::kib(64),
            health: Health::Ok,
        }
    }

    #[test]
    fn each_kind_of_space_is_refused_before_it_is_full() {
        assert!(judge(&status(1024, 8192, Some(4096)), DriverKind::Thin).is_ok());
        for (full, word) in [
            (status(400, 8192, None), "grow it"),
            (status(1024, 1024, None), "metadata 63 MiB of 64 MiB"),
            (status(1024, 8192, Some(100)), "disk below"),
        ] {
            let error = judge(&full, DriverKind::Thin).unwrap_err();
            assert_eq!(error.kind(), Kind::Full);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn what_may_be_for_the_disk_below_is_looked_at_near_its_end() {
        let seen = |free, least, most| {
            must_be_seen(Bytes::mib(free), Unwritten { least: Bytes::mib(least), most: Bytes::mib(most) })
        };
        // Another disk's 20 GiB, with enough for them, too, and without.
        assert!(!seen(40_000, 0, 20_000));
        assert!(seen(10_000, 0, 20_000));
        // What is known needs no look, and a little does no harm.
        assert!(!seen(10_000, 9_900, 9_900));
        assert!(!seen(200, 0, 60));
        assert!(seen(900, 100, 200));
    }

    #[test]
    fn a_stopped_pool_names_the_repair() {
        let stopped = PoolStatus { health: Health::ReadOnly, ..status(1024, 8192, None) };
        assert!(judge(&stopped, DriverKind::Thin).unwrap_err().to_string().contains("check --repair"));
    }
}
