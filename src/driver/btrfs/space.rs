//! How full and how well a pool is, and how it grows.

use std::{fs::File, io, os::fd::AsFd as _};

use rustix::fs::StatVfsMountFlags;

use super::{
    Btrfs,
    chunks::metadata_share,
    life::{self, Place},
    superblock::dashed,
};
use crate::{
    block::LoopFile,
    crash,
    driver::{Health, PoolStatus, Space},
    error::{Act as _, Error, Kind, Result},
    fs::free_space,
    sys::btrfs::{self, SpaceInfo},
    units::Bytes,
};

/// With less than this free the kernel refuses most work already: it reserves more than a change takes. (What statfs
/// calls available is 0 long before, on small pools, because there it keeps the reserve back twice.)
const NEARLY_NOTHING: Bytes = Bytes::mib(1);

/// The first MiB of a device is no block group's (`BTRFS_DEVICE_RANGE_RESERVED`).
const NEVER_GIVEN: u64 = 1 << 20;

/// How much room is left for what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Work may fail for want of space.
    Short,
    /// A container may fill it before the kernel looks for deleted volumes, which is every half a minute.
    Little,
    Much,
}

/// How much of it there is, for data and for metadata.
pub(super) fn room(root: &File) -> Result<Room> {
    let (data, metadata) = spaces(root)?;
    let has_less =
        |part| [data, metadata].iter().any(|space| space.free() < Bytes(space.total.0 / part).max(NEARLY_NOTHING));
    Ok(match (has_less(16), has_less(4)) {
        (true, _) => Room::Short,
        (_, true) => Room::Little,
        _ => Room::Much,
    })
}

/// Whether so much of the space given to data is free that whole block groups of it must be, while no space is left
/// that could become metadata.
pub(super) fn holds_back(root: &File) -> io::Result<bool> {
    let device = btrfs::device_info(root)?;
    let open = device.total.saturating_sub(device.allocated + NEVER_GIVEN);
    let free = |kind: &SpaceInfo| if kind.flags & SpaceInfo::DATA != 0 { kind.total - kind.used } else { 0 };
    let free: u64 = btrfs::space_info(root)?.iter().map(free).sum();
    Ok(open < NEARLY_NOTHING.0 && free > device.total / 4)
}

/// What was written into the pool and has no place in it yet.
pub(super) fn unwritten(pool: [u8; 16]) -> Result<Bytes> {
    let path = format!("/sys/fs/btrfs/{}/allocation/data/bytes_may_use", dashed(pool));
    let text = std::fs::read_to_string(&path).act(|| format!("read {path}"))?;
    let bytes = text.trim().parse();
    bytes.map(Bytes).map_err(|_| Error::new(Kind::Io, format!("read {path}: '{}' is no number", text.escape_debug())))
}

/// The pool's space for data and for metadata. What no block group has yet can become either, so metadata counts it as
/// free, and data does beyond the part that metadata must get; the reserve by which deleting always works counts as
/// used metadata.
fn spaces(root: &File) -> Result<(Space, Space)> {
    let act = || "ask the kernel for the pool's space";
    let device = btrfs::device_info(root).act(act)?;
    let kinds = btrfs::space_info(root).act(act)?;
    let open = Bytes(device.total.saturating_sub(device.allocated + NEVER_GIVEN));
    let mut data = Space::default();
    let mut metadata = Space { total: open, used: Bytes(0) };
    for kind in kinds {
        if kind.flags & SpaceInfo::RESERVE != 0 {
            metadata.used += Bytes(kind.total);
        } else if kind.flags & SpaceInfo::DATA != 0 {
            data.total += Bytes(kind.total);
            data.used += Bytes(kind.used);
        } else if kind.flags & SpaceInfo::METADATA != 0 {
            metadata.total += Bytes(kind.total);
            metadata.used += Bytes(kind.used);
        }
    }
    let has = metadata.total.saturating_sub(open);
    data.total += open.saturating_sub(metadata_share(Bytes(device.total)).saturating_sub(has));
    Ok((data, metadata))
}

/// An I/O error while it commits makes btrfs read-only until it is mounted anew.
pub(super) fn is_writable(root: &File) -> io::Result<bool> {
    Ok(!rustix::fs::fstatvfs(root)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

pub(super) fn status(pool: &Btrfs) -> Result<PoolStatus> {
    let root = &pool.root;
    let (data, metadata) = spaces(root)?;
    let backing_free = if pool.place.is_device() { None } else { Some(free_space(&pool.place.data)?) };
    let is_writable = is_writable(root).act(|| "ask whether the pool is read-only")?;
    Ok(PoolStatus {
        data,
        metadata,
        backing_free,
        chunk: Bytes(btrfs::fs_info(root).act(|| "ask for the pool's block size")?.sector.into()),
        health: match data.free().min(metadata.free()) {
            _ if !is_writable => Health::ReadOnly,
            free if free < NEARLY_NOTHING => Health::OutOfSpace,
            _ => Health::Ok,
        },
    })
}

pub(super) fn grow(pool: &Btrfs, size: Bytes) -> Result<()> {
    let act = || format!("grow the pool to {size}");
    let now = Bytes(btrfs::device_info(&pool.root).act(act)?.total);
    if size <= now {
        return Err(Error::new(Kind::Invalid, format!("{}: it has {now} already, and a pool never shrinks", act())));
    }
    if pool.place.is_device() {
        let length = io::Seek::seek(&mut File::open(&pool.place.data).act(act)?, io::SeekFrom::End(0)).act(act)?;
        if Bytes(length) < size {
            let message = format!("{}: the device {} has {}", act(), pool.place.data.display(), Bytes(length));
            return Err(Error::new(Kind::Invalid, message));
        }
        return btrfs::resize(&pool.root, Some(size.0)).act(act);
    }
    grow_file(&pool.place, size).act(act)?;
    let grown = btrfs::resize(pool.root.as_fd(), None).act(act);
    grown.map_err(|error| error.and_undo(grow_file(&pool.place, now)))
}

fn grow_file(place: &Place, size: Bytes) -> Result<()> {
    let attached = LoopFile::find(&place.data)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("{} is on no loop device", place.data.display())))?;
    life::set_length(&place.data, size)?;
    crash::point(crash::Point::GrowLengthened);
    attached.refresh_capacity()
}
