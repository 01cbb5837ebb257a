//! The file systems on thin devices: how the empty one is made, mounted, recognised and grown.
//!
//! A thin device has a constant virtual length, far longer than the file system on it, which alone tells the volume's
//! size and grows online. So growing never touches the pool.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, fstatvfs, openat},
    mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick},
};

use super::damage::remove_lost_found;
use crate::{
    block::thin_metadata::Block,
    driver::Access,
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, MountSpec, Mounted},
    program::{MKFS_EXT4, MKFS_XFS, Program},
    sys,
    units::Bytes,
};

/// Virtual length of every thin device, just below what ext4 addresses with 32-bit block numbers of 4 KiB.
pub(super) const LENGTH: Bytes = Bytes((16 << 40) - (1 << 30));

/// Size of the empty file system, and of the smallest that both kinds can be.
const FIRST_SIZE: Bytes = Bytes::gib(10);
const SMALLEST: Bytes = Bytes::mib(512);

const BLOCK: u64 = 4096;

/// What a volume takes of the pool is decided here, because each chunk that a mount or a file touches is copied whole.
/// Measured on ext4 of 10 GiB, chunks of 64 KiB: mount, one small file in a new directory, unmount takes 7 chunks with
/// these options, 9 with the defaults. The inode tables count as zero, which an unmapped chunk reads as; all bitmaps
/// and tables lie together in one flexible group, at the start; group descriptors grow by meta_bg instead of by
/// reserved blocks; the journal is small, as a long import writes all of it.
fn ext4_options(uuid: &str) -> [String; 15] {
    const EXTENDED: &str =
        "lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1,nodiscard,packed_meta_blocks=1";
    [
        "-F",
        "-q",
        "-b",
        "4096",
        "-I",
        "256",
        "-m",
        "0",
        "-G4096",
        "-Jsize=8",
        "-Ometa_bg,^resize_inode",
        "-E",
        EXTENDED,
        "-U",
        uuid,
    ]
    .map(str::to_owned)
}

/// Without reverse mappings and reflinks, which cost a write each and serve nothing here; the smallest log that
/// mkfs.xfs makes. A mount writes up to 2 MiB of the log ahead (`xlog_clear_stale_blocks`), whatever its size.
fn xfs_options(uuid: &str, size: Bytes) -> [String; 8] {
    let (size, uuid) = (format!("size={}", size.0), format!("uuid={uuid},reflink=0,rmapbt=0"));
    ["-f", "-q", "-K", "-d", &size, "-lsize=64m", "-m", &uuid].map(str::to_owned)
}

/// Fails early if the program is missing.
pub(super) fn require_mkfs(fs: BlockFs) -> Result<()> {
    mkfs_of(fs)?.run(&["-V"]).map(drop)
}

fn mkfs_of(fs: BlockFs) -> Result<Program> {
    match fs {
        BlockFs::Ext4 => Ok(MKFS_EXT4),
        BlockFs::Xfs => Ok(MKFS_XFS),
        BlockFs::Btrfs => {
            Err(Error::new(Kind::Invalid, "btrfs cannot lie on thin volumes: two snapshots would have one identity"))
        }
    }
}

/// Makes the empty file system on `device`, marked with `uuid`, as large as a pool of `pool` bytes makes sensible.
pub(super) fn make(fs: BlockFs, device: &Path, uuid: &str, pool: Bytes) -> Result<()> {
    let size = Bytes(pool.0.clamp(SMALLEST.0, FIRST_SIZE.0) / BLOCK * BLOCK);
    let uuid = dashed(uuid);
    let device_name = device.to_string_lossy().into_owned();
    let arguments = match fs {
        BlockFs::Xfs => [xfs_options(&uuid, size).as_slice(), &[device_name]].concat(),
        _ => [ext4_options(&uuid).as_slice(), &[device_name, (size.0 / BLOCK).to_string()]].concat(),
    };
    let act = || format!("make {fs} on {}", device.display());
    mkfs_of(fs)?.succeed(&arguments).act(act)?;
    match fs {
        BlockFs::Ext4 => remove_lost_found(device).act(act),
        // That the kernel takes it is shown here, and not by the first image.
        _ => Mounted::detached(&mount_spec(fs, device.to_owned(), Access::ReadWrite)).map(drop).act(act),
    }
}

fn dashed(uuid: &str) -> String {
    let part = |from: usize, to: usize| uuid.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// How to mount a volume. Tables of inodes are never zeroed in the background: they are zero, and writing them would
/// map them. XFS must not mind that all volumes have one UUID.
pub(super) fn mount_spec(fs: BlockFs, device: std::path::PathBuf, access: Access) -> MountSpec {
    let options = match fs {
        BlockFs::Ext4 => ["noinit_itable", "errors=remount-ro"].map(str::to_owned).to_vec(),
        _ => vec!["nouuid".to_owned()],
    };
    MountSpec::Device { device, fs, options, access }
}

/// The UUID of the file system that starts with `block`, as 32 digits; `None` if there is none.
pub(super) fn uuid_of(block: &Block) -> Option<String> {
    let uuid = if block[1024 + 56..1024 + 58] == [0x53, 0xef] {
        &block[1024 + 104..1024 + 120]
    } else if block.starts_with(b"XFSB") {
        &block[32..48]
    } else {
        return None;
    };
    Some(uuid.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How many blocks of 4 KiB the file system has that starts with `block`.
pub(super) fn blocks_of(fs: BlockFs, block: &Block) -> u64 {
    let small =
        |at: usize| block.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u32::from_le_bytes);
    let large =
        |at: usize| block.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u64::from_be_bytes);
    match fs {
        // sb_dblocks (XFS is big-endian); s_blocks_count_lo and s_blocks_count_hi.
        BlockFs::Xfs => large(8),
        _ => u64::from(small(1024 + 4)) | u64::from(small(1024 + 0x150)) << 32,
    }
}

/// Whether the ext4 that starts with `block` has a journal to replay (`EXT4_FEATURE_INCOMPAT_RECOVER`). XFS has no
/// such mark.
pub(super) fn needs_recovery(block: &Block) -> bool {
    block[1024 + 96] & 0x4 != 0
}

/// See [`crate::driver::Driver::reserve`].
pub(super) fn reserve(fs: BlockFs, root: BorrowedFd<'_>, bytes: Bytes) -> Result<()> {
    let act = || format!("grow {fs} for {bytes} more");
    let space = fstatvfs(root).act(act)?;
    let (total, free) = (space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize);
    // A file system has needs of its own: trees of extents, directories, inodes. A sixteenth and 16 MiB cover them.
    let wanted = bytes.0.saturating_add(bytes.0 / 16).saturating_add(16 << 20);
    if free >= wanted {
        return Ok(());
    }
    let mut size = total;
    while size - total < wanted - free {
        size = size.saturating_mul(2);
        if size > LENGTH.0 {
            return Err(Error::new(
                Kind::Full,
                format!("{}: a volume ends at {LENGTH}, {} of it is free now", act(), Bytes(free)),
            ));
        }
    }
    grow(fs, root, size / BLOCK).act(act)
}

/// Makes the mounted file system `blocks` large.
pub(super) fn grow(fs: BlockFs, root: BorrowedFd<'_>, blocks: u64) -> Result<()> {
    // The mount's descriptor is a mere path; an ioctl needs an open directory.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(root, c".", flags, Mode::empty()).act(|| "open its root")?;
    match fs {
        // 25 is what mkfs.xfs sets below 1 TiB; another number would change it.
        BlockFs::Xfs => sys::block::grow_xfs(directory.as_fd(), blocks, 25).act(|| "resize"),
        _ => grow_ext4(root, directory.as_fd(), blocks),
    }
}

/// A mount that never zeroes tables of inodes in the background makes growing write them all at once: 1.6 % of the
/// new size (`ext4_setup_next_flex_gd`, fs/ext4/resize.c). So it is told otherwise while it grows.
fn grow_ext4(root: BorrowedFd<'_>, directory: BorrowedFd<'_>, blocks: u64) -> Result<()> {
    let option = |option: &str| {
        let context = fspick(root, c"", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)?;
        fsconfig_set_flag(context.as_fd(), option)?;
        fsconfig_reconfigure(context.as_fd())
    };
    option("init_itable").act(|| "mount with init_itable")?;
    let grown = sys::block::resize_ext4(directory, blocks).act(|| "resize");
    let restored = option("noinit_itable").act(|| "mount with noinit_itable");
    match grown {
        Ok(()) => restored,
        Err(error) => Err(error.and_undo(restored)),
    }
}
