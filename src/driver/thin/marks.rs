//! Marks of what an ext4 on a thin device holds, and the size of what was written to one that is mounted, without a copy
//! of it: each copy would take one of the numbers that a pool has for ever.
//!
//! A mount for writing counts itself in the superblock, with the time, and that is on the disk before anything else is
//! (`ext4_setup_super`, fs/ext4/super.c); an orderly unmount takes the flag away that its journal has to be replayed. So
//! the superblock of one that rests tells which mount was the last to write. Within a mount the kernel counts the sectors
//! that were written to the device, each before its writer is told (`dm_end_io_acct`, drivers/md/dm.c). What ext4 itself
//! tells of a lifetime's writes is rounded to KiB, which hides a single sector.
//!
//! Invariant: a device that is open for writing without being seen as mounted, on its way into a mount or out of one, has
//! no mark. XFS counts no mounts, and has none.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
};

use super::{
    Thin,
    damage::SUPERBLOCK,
    filesystem::{mount_spec, needs_recovery, uuid_of},
    lifecycle,
    pool::device_path,
};
use crate::{
    block::{
        Info, node,
        thin_metadata::{Block, Source},
    },
    driver::{Access, Usage},
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, Mounted, apparent},
    id::VolumeId,
    units::Bytes,
};

/// Fields of `struct ext4_super_block` (fs/ext4/ext4.h), with their lengths, that tell the last mount for writing or check:
/// `s_mtime`, `s_mnt_count`, `s_lastcheck`, `s_mtime_hi`.
const LAST_MOUNT: [(usize, usize); 4] = [(0x2c, 4), (0x34, 2), (0x40, 4), (0x275, 1)];
/// `s_wtime`, `s_wtime_hi`, `s_kbytes_written`.
const LAST_WRITE: [(usize, usize); 3] = [(0x30, 4), (0x274, 1), (0x178, 8)];

/// A volume that is mounted for writing.
struct Live {
    /// Keeps the device's number from being given to another.
    _device: File,
    number: (u32, u32),
    mounted: Mounted,
}

impl Thin {
    /// See [`crate::driver::Driver::marks`].
    pub(super) fn content_marks(&self, ids: &[VolumeId]) -> Result<Vec<Option<String>>> {
        if self.spec.fs != BlockFs::Ext4 {
            return Ok(vec![None; ids.len()]);
        }
        let mut written: BTreeMap<u32, Option<String>> = BTreeMap::new();
        for (id, info) in lifecycle::active(&self.pool)? {
            let wanted = ids.iter().any(|wanted| wanted.get() == id);
            if wanted && !info.readonly && info.open_count > 0 {
                written.insert(id, self.live_mark(id, &info)?);
            }
        }
        let resting: Vec<u32> = ids.iter().map(|id| id.get()).filter(|id| !written.contains_key(id)).collect();
        written.extend(self.resting_marks(&resting)?);
        Ok(ids.iter().map(|id| written.get(&id.get()).cloned().flatten()).collect())
    }

    /// The mark of one that is mounted for writing. What cannot be written out, on a full pool, has none.
    fn live_mark(&self, id: u32, info: &Info) -> Result<Option<String>> {
        let Some(live) = self.live(id, info)? else { return Ok(None) };
        match live.mounted.file_system()?.write_out() {
            Err(error) if matches!(error.kind(), Kind::Full | Kind::Io) => return Ok(None),
            result => result?,
        }
        let Some(sectors) = sectors_written(live.number)? else { return Ok(None) };
        let block = Source::open(&node(live.number)?)?.block(0)?;
        Ok(Some(format!("mounted {} {sectors}", hex(&block, &LAST_MOUNT))))
    }

    /// The marks of volumes that nobody writes, from their first blocks, where the pool says that these lie.
    fn resting_marks(&self, ids: &[u32]) -> Result<Vec<(u32, Option<String>)>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let data = Source::open(&device_path(self.pool.table.data)?)?;
        let blocks = self.spec.chunk.0 / 4096;
        // While the metadata of an instant is held, no chunk of it is given to another volume.
        let marks = self.pool.with_metadata(|metadata| {
            let mark = |id: u32| {
                let Some(chunk) = metadata.chunk_of(u64::from(id), 0)? else { return Ok((id, None)) };
                let block = data.block(chunk * blocks)?;
                Ok((id, uuid_of(&block).map(|_| resting_mark(&block))))
            };
            ids.iter().map(|id| mark(*id)).collect()
        });
        match marks {
            // It has no room for the metadata of an instant: nothing is known then, and nothing wrong.
            Err(error) if error.kind() == Kind::Full => Ok(ids.iter().map(|id| (*id, None)).collect()),
            marks => marks,
        }
    }

    /// See [`crate::driver::Driver::written`]: of one that is mounted for writing, or shares all that it has.
    pub(super) fn written_now(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Option<Bytes>> {
        let live = match self.pool.control.info(&self.pool.names.volume(id.get()))? {
            Some(info) if !info.readonly && info.open_count > 0 => self.live(id.get(), &info)?,
            _ => None,
        };
        let Some(live) = live else {
            let Usage { exclusive } = self.own(id, parents)?;
            return Ok((exclusive == Bytes(0)).then_some(Bytes(0)));
        };
        match live.mounted.file_system()?.write_out() {
            Err(error) if matches!(error.kind(), Kind::Full | Kind::Io) => return Ok(None),
            result => result?,
        }
        let changes = self.changes_in(&live.mounted, id, parents)?;
        apparent(live.mounted.root(), &changes).map(Some)
    }

    /// The volume seen through a mount of our own, if it is mounted for writing already. Mounts of one device show one file
    /// system, so this one writes nothing, not even the time of a look.
    fn live(&self, id: u32, info: &Info) -> Result<Option<Live>> {
        let open = || -> Result<Option<Live>> {
            let device = node(info.number)?;
            let held = File::open(&device).act(|| format!("open {}", device.display()))?;
            let now = self.pool.control.info(&self.pool.names.volume(id))?;
            if now.is_none_or(|now| now.number != info.number || now.suspended) || !self.is_mounted(info.number)? {
                return Ok(None);
            }
            let mounted = Mounted::detached(&mount_spec(self.spec.fs, device, Access::ReadWrite))?;
            Ok(Some(Live { _device: held, number: info.number, mounted }))
        };
        match open() {
            // It went, is held still for a copy of its instant, or is mounted otherwise.
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENXIO | libc::EBUSY)) => Ok(None),
            live => live,
        }
    }

    fn is_mounted(&self, number: (u32, u32)) -> Result<bool> {
        let path = PathBuf::from(format!("/sys/fs/{}/dm-{}", self.spec.fs, number.1));
        path.try_exists().act(|| format!("look at {}", path.display()))
    }
}

/// The sectors that were ever written to a device; `None` if the kernel was told not to count them.
fn sectors_written(number: (u32, u32)) -> Result<Option<u64>> {
    let read = |name: &str| {
        let path = format!("/sys/dev/block/{}:{}/{name}", number.0, number.1);
        fs::read_to_string(&path).act(|| format!("read {path}"))
    };
    if read("queue/iostats")?.trim() != "1" {
        return Ok(None);
    }
    // Documentation/block/stat.rst: the seventh.
    let told = read("stat")?;
    let sectors = told.split_whitespace().nth(6).and_then(|field| field.parse().ok());
    sectors.map(Some).ok_or_else(|| Error::new(Kind::Unsupported, format!("a device's statistics are '{told}'")))
}

fn resting_mark(block: &Block) -> String {
    // With a journal to replay it was not unmounted, which is as true of it until the next mount.
    let how = if needs_recovery(block) { "left" } else { "unmounted" };
    format!("{how} {} {}", hex(block, &LAST_MOUNT), hex(block, &LAST_WRITE))
}

fn hex(block: &Block, fields: &[(usize, usize)]) -> String {
    let bytes = fields.iter().flat_map(|(at, length)| &block[SUPERBLOCK + at..SUPERBLOCK + at + length]);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::resting_mark;
    use crate::driver::thin::damage::SUPERBLOCK;

    #[test]
    fn a_mark_tells_mounts_and_crashes_apart() {
        let mut block = [0; 4096];
        let mut seen = vec![resting_mark(&block)];
        // s_mnt_count, s_mtime, s_lastcheck, s_kbytes_written, EXT4_FEATURE_INCOMPAT_RECOVER.
        for at in [0x34, 0x2c, 0x40, 0x17f, 0x60] {
            block[SUPERBLOCK + at] = 4;
            let mark = resting_mark(&block);
            assert!(!seen.contains(&mark), "{at:#x}: {mark}");
            seen.push(mark);
        }
        block[SUPERBLOCK + 0x78] = 1;
        assert!(seen.contains(&resting_mark(&block)), "the name is not its content");
    }
}
