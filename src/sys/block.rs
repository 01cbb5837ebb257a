//! ioctls of block devices and of the file systems on them: size, discard, online growth, where a file's bytes lie.
//!
//! Invariant: as in [`super`]; each call here is one ioctl.

use std::{io, os::fd::AsFd};

use super::{Ioctl, call};

struct GetSize64;
// SAFETY: BLKGETSIZE64 writes one u64 (block/ioctl.c; its number is encoded with the size of a size_t).
unsafe impl Ioctl for GetSize64 {
    const NUMBER: libc::c_ulong = ioctl_sys::ior!(0x12, 114, size_of::<usize>()) as libc::c_ulong;
    type Argument = u64;
}

struct Discard;
// SAFETY: BLKDISCARD reads two u64, start and length (block/ioctl.c).
unsafe impl Ioctl for Discard {
    const NUMBER: libc::c_ulong = ioctl_sys::io!(0x12, 119) as libc::c_ulong;
    type Argument = [u64; 2];
}

struct Ext4Resize;
// SAFETY: EXT4_IOC_RESIZE_FS reads one u64, the number of blocks (fs/ext4/ioctl.c).
unsafe impl Ioctl for Ext4Resize {
    const NUMBER: libc::c_ulong = ioctl_sys::iow!(b'f', 16, size_of::<u64>()) as libc::c_ulong;
    type Argument = u64;
}

/// `struct xfs_growfs_data`.
#[repr(C)]
struct GrowData {
    blocks: u64,
    inode_percent: u32,
}

struct XfsGrow;
// SAFETY: XFS_IOC_FSGROWFSDATA reads one `struct xfs_growfs_data` (fs/xfs/libxfs/xfs_fs.h).
unsafe impl Ioctl for XfsGrow {
    const NUMBER: libc::c_ulong = ioctl_sys::iow!(b'X', 110, size_of::<GrowData>()) as libc::c_ulong;
    type Argument = GrowData;
}

/// How many extents one question asks for.
const EXTENTS: usize = 64;

/// `struct fiemap_extent`: a stretch of a file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file.
    pub logical: u64,
    /// Where on the device.
    pub physical: u64,
    /// How long, in bytes.
    pub length: u64,
    reserved: [u64; 2],
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
    reserved32: [u32; 3],
}

/// The last extent of the file.
pub const EXTENT_LAST: u32 = 0x1;
/// What makes `physical` no answer: unknown, not yet allocated, encoded, encrypted, not aligned, inline, tail.
pub const EXTENT_NOT_PLAIN: u32 = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400;

/// `struct fiemap` with room for its extents.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

struct GetExtents;
// SAFETY: FS_IOC_FIEMAP reads the 32 bytes of `struct fiemap` and writes them and up to `count` extents behind them;
// `count` is set to the length of the array (fs/ioctl.c). All fields are integers.
unsafe impl Ioctl for GetExtents {
    const NUMBER: libc::c_ulong = ioctl_sys::iorw!(b'f', 11, 32) as libc::c_ulong;
    type Argument = Fiemap;
}

/// The length of the block device in bytes.
///
/// # Errors
/// The kernel's errno.
pub fn size(device: impl AsFd) -> io::Result<u64> {
    let mut size = 0;
    call::<GetSize64>(device, &mut size)?;
    Ok(size)
}

/// Gives the bytes from `start` on back to the device.
///
/// # Errors
/// The kernel's errno; `EOPNOTSUPP` if the device cannot.
pub fn discard(device: impl AsFd, start: u64, length: u64) -> io::Result<()> {
    call::<Discard>(device, &mut [start, length]).map(drop)
}

/// Makes the mounted ext4 that `inside` lies on `blocks` blocks long.
///
/// # Errors
/// The kernel's errno.
pub fn resize_ext4(inside: impl AsFd, blocks: u64) -> io::Result<()> {
    call::<Ext4Resize>(inside, &mut { blocks }).map(drop)
}

/// Makes the mounted XFS that `inside` lies on `blocks` blocks long; `inode_percent` is the share of it that inodes
/// may take.
///
/// # Errors
/// The kernel's errno.
pub fn grow_xfs(inside: impl AsFd, blocks: u64, inode_percent: u32) -> io::Result<()> {
    call::<XfsGrow>(inside, &mut GrowData { blocks, inode_percent }).map(drop)
}

/// Where the content of `file` lies on its device.
///
/// # Errors
/// The kernel's errno; `EOPNOTSUPP` if the file system cannot tell.
pub fn extents(file: impl AsFd) -> io::Result<Vec<Extent>> {
    let mut all: Vec<Extent> = Vec::new();
    loop {
        let start = all.last().map_or(0, |last| last.logical.saturating_add(last.length));
        let mut ask = Fiemap {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped: 0,
            count: 64,
            reserved: 0,
            extents: [Extent::default(); EXTENTS],
        };
        call::<GetExtents>(&file, &mut ask)?;
        let mapped = usize::try_from(ask.mapped).unwrap_or(EXTENTS).min(EXTENTS);
        all.extend_from_slice(&ask.extents[..mapped]);
        if mapped == 0 || ask.extents[mapped - 1].flags & EXTENT_LAST != 0 {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Discard, Ext4Resize, Extent, Fiemap, GetExtents, GetSize64, GrowData, XfsGrow, extents};
    use crate::sys::Ioctl;
    use std::io::Write as _;

    #[test]
    fn numbers_and_layouts_are_the_kernels() {
        // Printed by a C program over linux/fs.h, linux/fiemap.h and xfs/xfs_fs.h on x86_64.
        assert_eq!(GetSize64::NUMBER, 0x8008_1272);
        assert_eq!(Discard::NUMBER, 0x1277);
        assert_eq!(Ext4Resize::NUMBER, 0x4008_6610);
        assert_eq!(XfsGrow::NUMBER, 0x4010_586e);
        assert_eq!(GetExtents::NUMBER, 0xc020_660b);
        assert_eq!(size_of::<GrowData>(), 16);
        assert_eq!(size_of::<Extent>(), 56);
        assert_eq!(size_of::<Fiemap>(), 32 + 64 * 56);
    }

    #[test]
    fn extents_cover_what_was_written() {
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&[1; 100_000]).unwrap();
        file.as_file().sync_all().unwrap();
        match extents(file.as_file()) {
            Ok(found) => assert!(found.iter().map(|extent| extent.length).sum::<u64>() >= 100_000, "{found:?}"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
    }
}
