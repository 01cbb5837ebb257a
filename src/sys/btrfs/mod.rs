//! The ioctls of btrfs (`linux/btrfs.h`): subvolumes, space, devices, send, and the search in its trees.
//!
//! Invariant: kernel structs stay inside this module; what goes in and comes out are plain numbers and byte strings.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use super::call;

/// One marker type per ioctl of btrfs.
macro_rules! ioctls {
    ($($name:ident = $number:expr, $argument:ty;)*) => {
        $(
            struct $name;
            // SAFETY: `linux/btrfs.h` pairs this number with this struct, whose layout the test below compares with
            // the kernel's; the structs hold integers only, or a pointer that the kernel does not write.
            unsafe impl $crate::sys::Ioctl for $name {
                #[allow(clippy::useless_conversion, reason = "the macros' type differs between platforms")]
                const NUMBER: libc::c_ulong = $number as libc::c_ulong;
                type Argument = $argument;
            }
        )*
    };
}

mod quota;
mod search;
mod space;

pub use quota::{enable_simple_quota, limit_subvolume};
pub use search::{Item, Range, search};
pub use space::{
    DeviceErrors, DeviceInfo, FsInfo, SpaceInfo, device_errors, device_info, fs_info, resize, space_info,
    take_back_empty_groups,
};

const SUBVOL_RDONLY: u64 = 1 << 1;
const SUBVOL_SPEC_BY_ID: u64 = 1 << 4;
const SEND_NO_FILE_DATA: u64 = 1;
const NAME_V2: usize = 4040;

#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    /// A name, or in its first eight bytes a subvolume's number: a union in the kernel's header.
    name: [u8; NAME_V2],
}

#[repr(C)]
struct SubvolInfoArgs {
    treeid: u64,
    name: [u8; 256],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuids: [[u8; 16]; 3],
    ctransid: u64,
    otransid: u64,
    transids: [u64; 2],
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

#[repr(C)]
struct InoLookupArgs {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

#[repr(C)]
struct SendArgs {
    fd: i64,
    clone_sources_count: u64,
    clone_sources: *const u64,
    parent_root: u64,
    flags: u64,
    version: u32,
    reserved: [u8; 28],
}

ioctls! {
    InoLookup = ioctl_sys::iorw!(0x94, 18, size_of::<InoLookupArgs>()), InoLookupArgs;
    SnapCreateV2 = ioctl_sys::iow!(0x94, 23, size_of::<VolArgsV2>()), VolArgsV2;
    SubvolCreateV2 = ioctl_sys::iow!(0x94, 24, size_of::<VolArgsV2>()), VolArgsV2;
    Sync = ioctl_sys::io!(0x94, 8), u64;
    SubvolGetFlags = ioctl_sys::ior!(0x94, 25, 8), u64;
    SubvolSetFlags = ioctl_sys::iow!(0x94, 26, 8), u64;
    Send = ioctl_sys::iow!(0x94, 38, size_of::<SendArgs>()), SendArgs;
    GetSubvolInfo = ioctl_sys::ior!(0x94, 60, size_of::<SubvolInfoArgs>()), SubvolInfoArgs;
    SnapDestroyV2 = ioctl_sys::iow!(0x94, 63, size_of::<VolArgsV2>()), VolArgsV2;
}

fn vol_args(name: &CStr, flags: u64, fd: i64) -> io::Result<Box<VolArgsV2>> {
    let bytes = name.to_bytes_with_nul();
    let mut args = Box::new(VolArgsV2 { fd, transid: 0, flags, unused: [0; 4], name: [0; NAME_V2] });
    let room = args.name.get_mut(..bytes.len()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
    room.copy_from_slice(bytes);
    Ok(args)
}

/// Makes an empty subvolume `name` in `directory`; it is on disk when this returns.
///
/// # Errors
/// The kernel's errno.
pub fn create_subvolume(directory: impl AsFd, name: &CStr) -> io::Result<()> {
    call::<SubvolCreateV2>(directory, &mut *vol_args(name, 0, 0)?).map(drop)
}

/// Makes `name` in `directory` a snapshot of `source`, whose dirty data the kernel writes out first; it is on disk
/// when this returns.
///
/// # Errors
/// The kernel's errno.
pub fn create_snapshot(directory: impl AsFd, name: &CStr, source: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    let flags = if read_only { SUBVOL_RDONLY } else { 0 };
    call::<SnapCreateV2>(directory, &mut *vol_args(name, flags, i64::from(source.as_raw_fd()))?).map(drop)
}

/// Removes the subvolume `name` from `directory`; its space comes back in the background.
///
/// # Errors
/// The kernel's errno: `ENOTEMPTY` while it holds subvolumes.
pub fn destroy_subvolume(directory: impl AsFd, name: &CStr) -> io::Result<()> {
    call::<SnapDestroyV2>(directory, &mut *vol_args(name, 0, 0)?).map(drop)
}

/// The same for the subvolume with number `id`, wherever it is.
///
/// # Errors
/// As [`destroy_subvolume`].
pub fn destroy_subvolume_by_id(filesystem: impl AsFd, id: u64) -> io::Result<()> {
    let mut args = vol_args(c"", SUBVOL_SPEC_BY_ID, 0)?;
    args.name[..8].copy_from_slice(&id.to_ne_bytes());
    call::<SnapDestroyV2>(filesystem, &mut *args).map(drop)
}

/// Whether the subvolume with the root directory `root` is read-only.
///
/// # Errors
/// The kernel's errno: `EINVAL` if `root` is no subvolume.
pub fn is_read_only(root: impl AsFd) -> io::Result<bool> {
    let mut flags = 0;
    call::<SubvolGetFlags>(root, &mut flags)?;
    Ok(flags & SUBVOL_RDONLY != 0)
}

/// Makes the subvolume with the root directory `root` read-only or writable; on disk when this returns.
///
/// # Errors
/// The kernel's errno.
pub fn set_read_only(root: impl AsFd, read_only: bool) -> io::Result<()> {
    let mut flags = 0;
    call::<SubvolGetFlags>(&root, &mut flags)?;
    flags = if read_only { flags | SUBVOL_RDONLY } else { flags & !SUBVOL_RDONLY };
    call::<SubvolSetFlags>(root, &mut flags).map(drop)
}

/// What the kernel tells of a subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubvolumeInfo {
    /// Its number, which is that of its tree.
    pub id: u64,
    /// The transaction that last changed an inode in it.
    pub changed: u64,
    /// The transaction that made it.
    pub created: u64,
}

/// Tells of the subvolume that `fd` lies in.
///
/// # Errors
/// The kernel's errno.
pub fn subvolume_info(fd: impl AsFd) -> io::Result<SubvolumeInfo> {
    // SAFETY: the struct is made of integers, for which zero is a valid value.
    let mut args: Box<SubvolInfoArgs> = Box::new(unsafe { std::mem::zeroed() });
    call::<GetSubvolInfo>(fd, &mut *args)?;
    Ok(SubvolumeInfo { id: args.treeid, changed: args.ctransid, created: args.otransid })
}

/// The path of directory `inode` in the subvolume `tree`, with a slash at the end, empty for its root.
///
/// # Errors
/// The kernel's errno: `ENAMETOOLONG` above 4079 bytes.
pub fn directory_path(filesystem: impl AsFd, tree: u64, inode: u64) -> io::Result<Vec<u8>> {
    let mut args = Box::new(InoLookupArgs { treeid: tree, objectid: inode, name: [0; 4080] });
    call::<InoLookup>(filesystem, &mut *args)?;
    Ok(args.name.iter().copied().take_while(|byte| *byte != 0).collect())
}

/// Writes everything out, commits the running transaction, and wakes the kernel's cleaner, which removes deleted subvolumes:
/// by itself it looks for them once in a commit interval (`BTRFS_IOC_SYNC`).
///
/// A commit alone is not asked for: `BTRFS_IOC_START_SYNC` leaves it to the kernel's own thread and waits until that begins,
/// uninterruptibly, and where that thread looks just before it goes to sleep (`transaction_kthread`, Linux 6.18), it begins
/// at the end of its commit interval, 30 s later. This commits in the calling process.
///
/// # Errors
/// The kernel's errno.
pub fn sync(filesystem: impl AsFd) -> io::Result<()> {
    call::<Sync>(filesystem, &mut 0).map(drop)
}

/// Writes into `output` how the read-only subvolume with the root directory `root` came from that with number
/// `parent`, without the data of files. Runs until all is written; `EPIPE` when nobody reads.
///
/// # Errors
/// The kernel's errno: `EPERM` if one of them is writable.
pub fn send_changes(root: impl AsFd, parent: u64, output: impl AsFd) -> io::Result<()> {
    let mut args = SendArgs {
        fd: i64::from(output.as_fd().as_raw_fd()),
        clone_sources_count: 0,
        clone_sources: std::ptr::null(),
        parent_root: parent,
        flags: SEND_NO_FILE_DATA,
        version: 0,
        reserved: [0; 28],
    };
    call::<Send>(root, &mut args).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{
        GetSubvolInfo, InoLookup, Send, SendArgs, SnapCreateV2, SnapDestroyV2, SubvolCreateV2, SubvolGetFlags,
        SubvolInfoArgs, SubvolSetFlags, VolArgsV2,
    };
    use crate::sys::Ioctl;
    use std::mem::offset_of;

    // Both tests hold what a C program over linux/btrfs.h printed on x86_64.
    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(SnapCreateV2::NUMBER, 0x5000_9417);
        assert_eq!(SubvolCreateV2::NUMBER, 0x5000_9418);
        assert_eq!(SnapDestroyV2::NUMBER, 0x5000_943f);
        assert_eq!(InoLookup::NUMBER, 0xd000_9412);
        assert_eq!(SubvolGetFlags::NUMBER, 0x8008_9419);
        assert_eq!(SubvolSetFlags::NUMBER, 0x4008_941a);
        assert_eq!(Send::NUMBER, 0x4048_9426);
        assert_eq!(GetSubvolInfo::NUMBER, 0x81f8_943c);
    }

    #[test]
    fn layouts_are_those_of_the_kernel() {
        assert_eq!((size_of::<VolArgsV2>(), offset_of!(VolArgsV2, name)), (4096, 56));
        assert_eq!((size_of::<SubvolInfoArgs>(), offset_of!(SubvolInfoArgs, generation)), (504, 280));
        assert_eq!(size_of::<SendArgs>(), 72);
    }
}
