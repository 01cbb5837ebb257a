//! How much a volume may write: its file system is made as small, or as large, as what it holds and that much more.
//!
//! The length of the device stays what it is for all volumes; the file system alone tells the size. It keeps that through
//! everything, and whoever writes meets the end of a disk: ENOSPC.

use std::{ffi::OsString, path::Path};

use rustix::fs::fstatvfs;

use super::{
    Thin,
    filesystem::{grow, mount_spec},
};
use crate::{
    driver::Access,
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, Mounted},
    program::{E2FSCK, RESIZE2FS},
    units::Bytes,
};

const BLOCK: u64 = 4096;

impl Thin {
    /// See [`crate::driver::Driver::limit`].
    pub(super) fn limit_volume(&self, id: u32, size: Bytes) -> Result<()> {
        let fs = self.spec.fs;
        self.pool.while_active(id, Access::ReadWrite, |device| {
            let (total, wanted) = measure(fs, &device, size)?;
            if wanted >= total {
                let mounted = Mounted::detached(&mount_spec(fs, device.clone(), Access::ReadWrite))?;
                grow(fs, mounted.root(), wanted)?;
                return mounted.file_system()?.write_out();
            }
            match fs {
                BlockFs::Ext4 => shrink(&device, wanted),
                _ => Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "an {fs} cannot be made smaller than the {} that all of this pool's volumes have; ask for more, or make a pool with ext4",
                        Bytes(total * BLOCK)
                    ),
                )),
            }
        })
    }
}

/// How many blocks the file system on `device` has, and how many it must have for `size` more.
fn measure(fs: BlockFs, device: &Path, size: Bytes) -> Result<(u64, u64)> {
    let mounted = Mounted::detached(&mount_spec(fs, device.to_owned(), Access::ReadWrite))?;
    let space = fstatvfs(mounted.root()).act(|| "ask for the volume's size")?;
    drop(mounted);
    let blocks = |count: u64| count * space.f_frsize / BLOCK;
    let source = crate::block::thin_metadata::Source::open(device)?;
    let total = super::filesystem::blocks_of(fs, &source.block(0)?);
    // What is not for files grows and shrinks with the size: tables of inodes, bitmaps.
    let overhead = total.saturating_sub(blocks(space.f_blocks));
    let files = blocks(space.f_blocks - space.f_bfree) + size.0.div_ceil(BLOCK);
    let wanted = files + files * overhead / total.saturating_sub(overhead).max(1);
    Ok((total, wanted))
}

/// Offline, as ext4 can be made smaller in no other way: blocks beyond the new end are moved.
fn shrink(device: &Path, blocks: u64) -> Result<()> {
    let act = || format!("make the ext4 on {} smaller", device.display());
    // resize2fs takes none that was not checked since it was written.
    let checked = ["-f".into(), "-y".into(), device.as_os_str().to_owned()];
    let (_, said) = E2FSCK.run::<OsString>(&checked).act(act)?;
    let resize = [device.as_os_str().to_owned(), OsString::from(blocks.to_string())];
    RESIZE2FS
        .succeed(&resize)
        .map_err(|error| error.within(format!("{} (e2fsck: {})", act(), said.replace('\n', "; "))))
}
