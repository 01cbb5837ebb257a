//! Damage of the file system on a volume: what ext4 has noted in its own superblock, and `e2fsck`.
//!
//! ext4 notes an error when it meets one, as when the pool was full under its journal, and such a file system wants to
//! be checked before it is written again. XFS notes nothing: it shuts down, and its log mends it with the next mount.

use std::path::Path;

use rustix::fs::{AtFlags, statat, unlinkat};

use super::{
    Thin,
    filesystem::{mount_spec, uuid_of},
    pool::device_path,
};
use crate::{
    block::thin_metadata::{Block, Source},
    driver::Access,
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, Mounted},
    id::VolumeId,
    program::E2FSCK,
};

/// Where `struct ext4_super_block` starts in the first block, and its fields (fs/ext4/ext4.h).
pub(super) const SUPERBLOCK: usize = 1024;
const STATE: usize = SUPERBLOCK + 0x3a;
const ERROR_COUNT: usize = SUPERBLOCK + 0x194;
const LAST_ERROR_FUNCTION: usize = SUPERBLOCK + 0x1e0;
/// `EXT4_ERROR_FS`.
const HAS_ERRORS: u8 = 2;

/// What the ext4 whose first block this is has noted of errors.
pub(super) fn noted(block: &Block) -> Option<String> {
    if block.starts_with(b"XFSB") || block[STATE] & HAS_ERRORS == 0 {
        return None;
    }
    let count: [u8; 4] = std::array::from_fn(|at| block[ERROR_COUNT + at]);
    let function = block[LAST_ERROR_FUNCTION..LAST_ERROR_FUNCTION + 32].split(|byte| *byte == 0).next();
    let function = String::from_utf8_lossy(function.unwrap_or_default()).into_owned();
    let last = if function.is_empty() { String::new() } else { format!(", the last in {function}") };
    Some(format!("its ext4 has noted {} errors{last}", u32::from_le_bytes(count)))
}

/// Checks the file system on `device`, not mounted, if it has noted an error, as a machine does that starts.
///
/// # Errors
/// `Corrupt` with what `e2fsck` says, if it leaves that to a person.
pub(super) fn mend_if_noted(device: &Path) -> Result<()> {
    let noted_now = || Ok(noted(&Source::open(device)?.block(0)?));
    let Some(what) = noted_now()? else { return Ok(()) };
    let act = || format!("check the file system on {} ({what})", device.display());
    // What cannot be mounted is better left with a directory too many.
    let had_lost_found = mounted(device, Access::ReadOnly)
        .map_or(true, |mounted| statat(mounted.root(), c"lost+found", AtFlags::SYMLINK_NOFOLLOW).is_ok());
    // Its exit code tells what it mended; whether all is well now is what the superblock says.
    let (_, said) = E2FSCK.run(&["-p".as_ref(), device.as_os_str()]).act(act)?;
    if noted_now()?.is_some() {
        let what = format!("{}: e2fsck leaves it to you: {}", act(), said.replace('\n', "; "));
        return Err(Error::new(Kind::Corrupt, what));
    }
    if had_lost_found { Ok(()) } else { remove_lost_found(device).act(act) }
}

fn mounted(device: &Path, access: Access) -> Result<Mounted> {
    Mounted::detached(&mount_spec(BlockFs::Ext4, device.to_owned(), access))
}

/// Removes the directory that mkfs and e2fsck make for what they find, if it is empty: an empty volume is empty.
pub(super) fn remove_lost_found(device: &Path) -> Result<()> {
    match unlinkat(mounted(device, Access::ReadWrite)?.root(), c"lost+found", AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTEMPTY) => Ok(()),
        Err(errno) => Err(errno).act(|| "remove lost+found"),
    }
}

impl Thin {
    /// See [`crate::driver::Driver::damaged`]: one block of each volume is read, where the pool says that it lies.
    pub(super) fn damaged_volumes(&self) -> Result<Vec<(VolumeId, String)>> {
        let data = Source::open(&device_path(self.pool.table.data)?)?;
        let blocks = self.spec.chunk.0 / 4096;
        // While the metadata of an instant is held, no chunk of it is given to another volume.
        self.pool.with_metadata(|metadata| {
            let mut damaged = Vec::new();
            for id in metadata.devices()?.into_keys().filter(|id| *id != u64::from(super::BASE)) {
                let block = metadata.chunk_of(id, 0)?.map(|chunk| data.block(chunk * blocks)).transpose()?;
                let what = match block {
                    Some(block) if uuid_of(&block).is_some() => noted(&block),
                    _ => Some("it holds no file system".to_owned()),
                };
                damaged.extend(what.map(|what| VolumeId::new(id).map(|id| (id, what))).transpose()?);
            }
            Ok(damaged)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ERROR_COUNT, LAST_ERROR_FUNCTION, STATE, noted};

    #[test]
    fn an_error_is_told_with_its_number_and_place() {
        let mut block = [0; 4096];
        assert_eq!(noted(&block), None);
        block[STATE] = 3;
        block[ERROR_COUNT] = 7;
        assert_eq!(noted(&block).unwrap(), "its ext4 has noted 7 errors");
        block[LAST_ERROR_FUNCTION..LAST_ERROR_FUNCTION + 4].copy_from_slice(b"call");
        assert_eq!(noted(&block).unwrap(), "its ext4 has noted 7 errors, the last in call");
        block[..4].copy_from_slice(b"XFSB");
        assert_eq!(noted(&block), None);
    }
}
