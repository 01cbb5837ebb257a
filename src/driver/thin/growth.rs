//! A running pool made larger: its data by wish, its metadata before it runs full.
//!
//! Invariant: a file is made longer before the kernel is told of it, and never shorter, so a growth that was cut off is
//! finished by the next one.

use super::{
    backing::Backing,
    lifecycle::{Backings, LARGEST_METADATA, metadata_size, open},
    pool::{Pool, health},
};
use crate::{
    block::thin_pool::{METADATA_BLOCK, PoolTable, Status},
    crash,
    driver::{BACKING_RESERVE, Health, pool::PoolSpec},
    error::{Act as _, Error, Kind, Result},
    units::Bytes,
};

/// See [`crate::driver::Driver::grow`].
pub(super) fn grow(spec: &PoolSpec, size: Bytes) -> Result<()> {
    let (pool, backings) = (open(spec)?, Backings::of(spec));
    let now = pool.table.length.bytes();
    let act = || format!("grow the pool from {now} to {size}");
    if backings.data.is_device()? && backings.data.size()? < size {
        let what = format!("the device {} has {}", backings.data.path.display(), backings.data.size()?);
        return Err(Error::new(Kind::Invalid, what)).act(act);
    }
    let length = Bytes(size.0 / spec.chunk.0 * spec.chunk.0);
    if length < now {
        return Err(Error::new(Kind::Invalid, format!("{}: a thin pool cannot shrink", act())));
    }
    let metadata = metadata_size(length, spec.chunk);
    if !backings.metadata.is_device()? && backings.metadata.size()? < metadata {
        lengthen(&backings.metadata, metadata, BACKING_RESERVE).act(act)?;
        backings.metadata.refresh().act(act)?;
    }
    if backings.data.size()? < size {
        backings.data.set_len(size).act(act)?;
    }
    crash::point(crash::Point::GrowLengthened);
    backings.data.refresh().act(act)?;
    take_over(&pool, Some(length)).act(act)
}

/// See [`crate::driver::Driver::extend_metadata`]: doubles the file.
pub(super) fn extend_metadata(spec: &PoolSpec, pool: &Pool) -> Result<bool> {
    let status = pool.status()?;
    let Status::Up { metadata, needs_check: false, .. } = status else { return Ok(false) };
    let backing = Backings::of(spec).metadata;
    let now = Bytes(metadata.total.saturating_mul(METADATA_BLOCK.0));
    let size = Bytes(now.0.saturating_mul(2)).min(LARGEST_METADATA);
    if size <= now || backing.is_device()? {
        return Ok(false);
    }
    let act = || format!("grow the pool's metadata from {now} to {size}");
    // What an earlier growth took and the kernel has not seen is taken over, not doubled again.
    if backing.size()? < size {
        lengthen(&backing, size, BACKING_RESERVE).act(act)?;
    }
    backing.refresh().act(act)?;
    take_over(pool, None).act(act)?;
    crash::point(crash::Point::MetadataGrown);
    // One that had stopped for want of metadata writes again (maybe_resize_metadata_dev, drivers/md/dm-thin.c).
    Ok(matches!(health(&pool.status()?), Health::Ok | Health::OutOfSpace))
}

/// Makes the metadata's file longer, with the disk space for all of it, if that leaves `kept_back` free. The kernel has not
/// been told of it before that succeeds, so what a failure took is given back.
pub(super) fn lengthen(metadata: &Backing, size: Bytes, kept_back: Bytes) -> Result<()> {
    crash::point(crash::Point::MetadataShort);
    let before = metadata.size()?;
    let needed = size.saturating_sub(before) + kept_back;
    if let Some(free) = metadata.free_below()?.filter(|free| *free < needed) {
        let what = format!(
            "take {size} of the disk for pool metadata in {}: {free} are free there, {needed} are needed with what is kept back",
            metadata.path.display()
        );
        return Err(Error::new(Kind::Full, what));
    }
    metadata.allocate(size).map_err(|error| error.and_undo(metadata.set_len(before)))?;
    crash::point(crash::Point::MetadataLengthened);
    Ok(())
}

/// Has the kernel look at the sizes of both devices again, which it does when a pool resumes (`pool_preresume`). Without
/// a `length` the pool keeps the one that it has now: another command may have grown it since it was found here, and a
/// pool whose new table is shorter than its data cannot resume (`maybe_resize_data_dev`).
fn take_over(pool: &Pool, length: Option<Bytes>) -> Result<()> {
    let name = pool.name();
    let live = PoolTable::parse(&pool.control.table(&name)?)?;
    let length = length.map_or(live.length, Bytes::sectors);
    pool.control.load(&name, &PoolTable { length, ..live.clone() }.line(), false)?;
    pool.control.suspend_no_lockfs(&name)?;
    crash::point(crash::Point::PoolSuspended);
    // Suspended, the pool holds up every container; with the old table it is as good as it was.
    pool.control.resume(&name).map_err(|error| {
        let back = pool.control.load(&name, &live.line(), false).and_then(|()| pool.control.resume(&name));
        error.and_undo(back)
    })
}
