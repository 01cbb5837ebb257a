//! How much a volume may write: its file system is made as small, or as large, as what it holds and that much more.
//!
//! The length of the device stays what it is for all volumes; the file system alone tells the size. It keeps that through
//! everything, and whoever writes meets the end of a disk: ENOSPC.

use std::{ffi::OsString, path::Path};

use rustix::fs::fstatvfs;

use super::{
    Thin,
    damage::remove_lost_found,
    filesystem::{blocks_of, grow, mount_spec},
    lifecycle::BASE,
};
use crate::{
    block::thin_metadata::Source,
    driver::Access,
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, Mounted},
    interrupt,
    program::{E2FSCK, RESIZE2FS},
    units::Bytes,
};

const BLOCK: u64 = 4096;
/// What mkfs gives the journal of an ext4 here, and the blocks that one bitmap describes.
const JOURNAL: u64 = (8 << 20) / BLOCK;
const GROUP: u64 = 8 * BLOCK;

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
                        shown(total)
                    ),
                )),
            }
        })
    }
}

impl Thin {
    /// See [`crate::driver::Driver::unlimit`]: as large as the empty volume at least.
    pub(super) fn unlimit_volume(&self, id: u32) -> Result<()> {
        let fs = self.spec.fs;
        let total = |device: &Path| Ok::<_, Error>(blocks_of(fs, &Source::open(device)?.block(0)?));
        let wanted = self.pool.while_active(BASE, Access::ReadOnly, |device| total(&device))?;
        self.pool.while_active(id, Access::ReadWrite, |device| {
            if total(&device)? >= wanted {
                return Ok(());
            }
            let mounted = Mounted::detached(&mount_spec(fs, device, Access::ReadWrite))?;
            grow(fs, mounted.root(), wanted)?;
            mounted.file_system()?.write_out()
        })
    }
}

/// How many blocks the file system on `device` has, and how many it must have for `size` more.
fn measure(fs: BlockFs, device: &Path, size: Bytes) -> Result<(u64, u64)> {
    let mounted = Mounted::detached(&mount_spec(fs, device.to_owned(), Access::ReadWrite))?;
    let space = fstatvfs(mounted.root()).act(|| "ask for the volume's size")?;
    drop(mounted);
    let blocks = |count: u64| count * space.f_frsize / BLOCK;
    let total = blocks_of(fs, &Source::open(device)?.block(0)?);
    let overhead = total.saturating_sub(blocks(space.f_blocks));
    let files = blocks(space.f_blocks - space.f_bfree) + size.0.div_ceil(BLOCK);
    let wanted = with_overhead(fs, files, total, overhead);
    Ok((total, wanted))
}

/// How large a file system is that has room for `files` blocks, if one of `total` blocks has `overhead` for itself: a
/// journal of one size, and tables and bitmaps for each group of blocks.
fn with_overhead(fs: BlockFs, files: u64, total: u64, overhead: u64) -> u64 {
    if fs != BlockFs::Ext4 {
        return files + files * overhead / total.saturating_sub(overhead).max(1);
    }
    let each = overhead.saturating_sub(JOURNAL).div_ceil(total.div_ceil(GROUP).max(1));
    let mut groups = 1;
    loop {
        let wanted = files + JOURNAL + groups * each;
        if wanted <= groups * GROUP {
            return wanted;
        }
        groups = wanted.div_ceil(GROUP).max(groups + 1);
    }
}

/// Offline, as ext4 can be made smaller in no other way: blocks beyond the new end are moved. The tables of groups that go
/// are free only afterwards, so it may take a step to come to where the next one is possible.
fn shrink(device: &Path, blocks: u64) -> Result<()> {
    let act = || format!("make the ext4 on {} smaller", device.display());
    let mut before = u64::MAX;
    loop {
        interrupt::check()?;
        // resize2fs takes none that was not checked since it was written.
        let (_, said) = E2FSCK.run::<OsString>(&["-f".into(), "-y".into(), device.into()]).act(act)?;
        let told = |error: Error| error.within(format!("{} (e2fsck: {})", act(), said.replace('\n', "; ")));
        let size = blocks.max(least(device).map_err(told)?);
        if size >= before {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{}: what it holds lies so that {} are the least, not {}", act(), shown(before), shown(blocks)),
            ));
        }
        RESIZE2FS.succeed::<OsString>(&[device.into(), size.to_string().into()]).map_err(told)?;
        if size == blocks {
            // e2fsck makes a place for what it finds.
            return remove_lost_found(device).act(act);
        }
        before = size;
    }
}

fn shown(blocks: u64) -> Bytes {
    Bytes(blocks.saturating_mul(BLOCK))
}

/// The least number of blocks to which resize2fs will go.
fn least(device: &Path) -> Result<u64> {
    let (_, said) = RESIZE2FS.run::<OsString>(&["-P".into(), device.into()])?;
    // Among what it says of itself.
    let number = said.lines().find_map(|line| line.strip_prefix("Estimated minimum size of the filesystem: "));
    number
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| Error::new(Kind::Io, format!("resize2fs does not tell the least size: {said}")))
}

#[cfg(test)]
mod tests {
    use super::{BlockFs, GROUP, JOURNAL, with_overhead};

    #[test]
    fn room_for_files_is_room_beside_the_overhead() {
        // 4 GiB: 32 groups, each with 512 blocks of inodes and two bitmaps.
        let (total, overhead) = (32 * GROUP, JOURNAL + 32 * 514);
        for files in [1000, 10_000, 30_000, 60_000, 500_000] {
            let wanted = with_overhead(BlockFs::Ext4, files, total, overhead);
            let left = wanted - JOURNAL - wanted.div_ceil(GROUP) * 514;
            assert!((files..files + 1028).contains(&left), "{files}: {wanted} leaves {left}");
        }
    }
}
