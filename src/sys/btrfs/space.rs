//! How full a btrfs is and how its device does.

use std::{io, os::fd::AsFd};

use crate::sys::call;

const SPACE_SLOTS: usize = 32;

#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

#[repr(C)]
struct FsInfoArgs {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    nodesize: u32,
    sectorsize: u32,
    rest: [u64; 123],
}

#[repr(C)]
struct DevInfoArgs {
    devid: u64,
    uuid: [u8; 16],
    bytes_used: u64,
    total_bytes: u64,
    unused: [u64; 379],
    path: [u8; 1024],
}

#[repr(C)]
struct DevStatsArgs {
    devid: u64,
    items: u64,
    flags: u64,
    values: [u64; 5],
    unused: [u64; 121],
}

/// `struct btrfs_ioctl_space_args` with room for its flexible tail: as many slots as `slots` says.
#[repr(C)]
struct SpaceArgs {
    slots: u64,
    total: u64,
    spaces: [[u64; 3]; SPACE_SLOTS],
}

/// `struct btrfs_ioctl_balance_args`; the three in the middle are `struct btrfs_balance_args`.
#[repr(C)]
struct BalanceArgs {
    flags: u64,
    state: u64,
    data: [u64; 17],
    metadata: [u64; 17],
    system: [u64; 17],
    progress: [u64; 3],
    unused: [u64; 72],
}

/// `BTRFS_BALANCE_DATA` and `BTRFS_BALANCE_METADATA`.
const BALANCE_DATA: u64 = 1;
const BALANCE_METADATA: u64 = 1 << 2;
/// `BTRFS_BALANCE_ARGS_USAGE`, at this place among the arguments, with the usage in percent at the other.
const BALANCE_USAGE: u64 = 1 << 1;
const BALANCE_FLAGS_AT: usize = 8;

ioctls! {
    BalanceV2 = ioctl_sys::iorw!(0x94, 32, size_of::<BalanceArgs>()), BalanceArgs;
    Resize = ioctl_sys::iow!(0x94, 3, size_of::<VolArgs>()), VolArgs;
    GetSpaceInfo = ioctl_sys::iorw!(0x94, 20, 16), SpaceArgs;
    GetDevInfo = ioctl_sys::iorw!(0x94, 30, size_of::<DevInfoArgs>()), DevInfoArgs;
    GetFsInfo = ioctl_sys::ior!(0x94, 31, size_of::<FsInfoArgs>()), FsInfoArgs;
    GetDevStats = ioctl_sys::iorw!(0x94, 52, size_of::<DevStatsArgs>()), DevStatsArgs;
}

/// What the kernel tells of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsInfo {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Bytes of a metadata node.
    pub node: u32,
    /// Bytes of a data block.
    pub sector: u32,
}

/// Tells of the file system that `fd` lies in.
///
/// # Errors
/// The kernel's errno: `ENOTTY` if it is no btrfs.
pub fn fs_info(fd: impl AsFd) -> io::Result<FsInfo> {
    // SAFETY: the struct is made of integers, for which zero is a valid value.
    let mut args: Box<FsInfoArgs> = Box::new(unsafe { std::mem::zeroed() });
    call::<GetFsInfo>(fd, &mut *args)?;
    Ok(FsInfo { uuid: args.fsid, node: args.nodesize, sector: args.sectorsize })
}

/// The one kind of space that a block group serves, and how much there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceInfo {
    /// `BTRFS_BLOCK_GROUP_*` flags.
    pub flags: u64,
    /// Bytes of the device given to it.
    pub total: u64,
    /// Bytes of them taken.
    pub used: u64,
}

impl SpaceInfo {
    /// `BTRFS_BLOCK_GROUP_DATA`.
    pub const DATA: u64 = 1;
    /// `BTRFS_BLOCK_GROUP_METADATA`.
    pub const METADATA: u64 = 1 << 2;
    /// `BTRFS_SPACE_INFO_GLOBAL_RSV`: what the kernel keeps back from metadata space, so that deleting always works.
    pub const RESERVE: u64 = 1 << 49;
}

/// Tells of each kind of space.
///
/// # Errors
/// The kernel's errno.
pub fn space_info(fd: impl AsFd) -> io::Result<Vec<SpaceInfo>> {
    let mut args = Box::new(SpaceArgs { slots: SPACE_SLOTS as u64, total: 0, spaces: [[0; 3]; SPACE_SLOTS] });
    call::<GetSpaceInfo>(fd, &mut *args)?;
    let count = usize::try_from(args.total).map_or(SPACE_SLOTS, |total| total.min(SPACE_SLOTS));
    Ok(args.spaces[..count]
        .iter()
        .map(|[flags, total, used]| SpaceInfo { flags: *flags, total: *total, used: *used })
        .collect())
}

/// How much of a device a file system has given to block groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Bytes in use by the file system.
    pub total: u64,
    /// Bytes of them in block groups.
    pub allocated: u64,
}

/// Tells of the only device of a file system.
///
/// # Errors
/// The kernel's errno.
pub fn device_info(fd: impl AsFd) -> io::Result<DeviceInfo> {
    // SAFETY: the struct is made of integers, for which zero is a valid value.
    let mut args: Box<DevInfoArgs> = Box::new(unsafe { std::mem::zeroed() });
    args.devid = DEVICE;
    call::<GetDevInfo>(fd, &mut *args)?;
    Ok(DeviceInfo { total: args.total_bytes, allocated: args.bytes_used })
}

/// The errors that btrfs has counted on its device, over all mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceErrors {
    /// Writes that failed.
    pub writes: u64,
    /// Reads that failed.
    pub reads: u64,
    /// Flushes that failed.
    pub flushes: u64,
    /// Blocks with a wrong checksum.
    pub corruptions: u64,
    /// Blocks that hold an older state than they should.
    pub generations: u64,
}

/// Tells of the errors of the only device.
///
/// # Errors
/// The kernel's errno.
pub fn device_errors(fd: impl AsFd) -> io::Result<DeviceErrors> {
    let mut args = Box::new(DevStatsArgs { devid: DEVICE, items: 5, flags: 0, values: [0; 5], unused: [0; 121] });
    call::<GetDevStats>(fd, &mut *args)?;
    let [writes, reads, flushes, corruptions, generations] = args.values;
    Ok(DeviceErrors { writes, reads, flushes, corruptions, generations })
}

/// Makes the mounted file system `size` bytes long; `None` is the whole of its device.
///
/// # Errors
/// The kernel's errno.
pub fn resize(fd: impl AsFd, size: Option<u64>) -> io::Result<()> {
    let mut args = Box::new(VolArgs { fd: 0, name: [0; 4088] });
    let size = size.map_or("max".to_owned(), |size| size.to_string());
    args.name[..size.len()].copy_from_slice(size.as_bytes());
    call::<Resize>(fd, &mut *args).map(drop)
}

/// Takes the empty block groups back, so that their space can become data or metadata anew. The kernel does so by
/// itself, but with `discard=async` only after ten seconds (`BTRFS_DISCARD_UNUSED_DELAY`).
///
/// # Errors
/// The kernel's errno: `EINPROGRESS` if somebody balances already.
pub fn take_back_empty_groups(fd: impl AsFd) -> io::Result<()> {
    let mut empty = [0; 17];
    empty[BALANCE_FLAGS_AT] = BALANCE_USAGE;
    let mut args = Box::new(BalanceArgs {
        flags: BALANCE_DATA | BALANCE_METADATA,
        state: 0,
        data: empty,
        metadata: empty,
        system: [0; 17],
        progress: [0; 3],
        unused: [0; 72],
    });
    call::<BalanceV2>(fd, &mut *args).map(drop)
}

/// The number of the first device, which a pool's only device is.
const DEVICE: u64 = 1;

#[cfg(test)]
mod tests {
    use super::{
        BalanceArgs, BalanceV2, DevInfoArgs, DevStatsArgs, FsInfoArgs, GetDevInfo, GetDevStats, GetFsInfo,
        GetSpaceInfo, Resize, SpaceArgs, VolArgs,
    };
    use crate::sys::Ioctl;
    use std::mem::offset_of;

    // Both tests hold what a C program over linux/btrfs.h printed on x86_64.
    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(Resize::NUMBER, 0x5000_9403);
        assert_eq!(GetSpaceInfo::NUMBER, 0xc010_9414);
        assert_eq!(GetFsInfo::NUMBER, 0x8400_941f);
        assert_eq!(GetDevInfo::NUMBER, 0xd000_941e);
        assert_eq!(BalanceV2::NUMBER, 0xc400_9420);
        assert_eq!(GetDevStats::NUMBER, 0xc408_9434);
    }

    #[test]
    fn layouts_are_those_of_the_kernel() {
        assert_eq!(size_of::<VolArgs>(), 4096);
        assert_eq!((size_of::<BalanceArgs>(), offset_of!(BalanceArgs, metadata)), (1024, 152));
        assert_eq!(size_of::<FsInfoArgs>(), 1024);
        assert_eq!(size_of::<DevInfoArgs>(), 4096);
        assert_eq!(size_of::<DevStatsArgs>(), 1032);
        assert_eq!(offset_of!(SpaceArgs, spaces), 16);
    }
}
