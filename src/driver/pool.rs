//! Pools: what one is made of, and how each mechanism makes, opens, closes and destroys it.
//!
//! Invariant: every function here is idempotent and is called by one process at a time (the store's pool lock), so a
//! pool that was half made or half taken down is finished by calling it again.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{Driver, DriverKind, btrfs, overlay, shelf, thin, vfs};
use crate::{
    block::{self, LoopFile},
    error::{Act as _, Error, Kind, Result},
    fs::BlockFs,
    units::Bytes,
};

/// Everything that must be known to make a pool or to bring it up again.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// Which mechanism.
    pub kind: DriverKind,
    /// 32 lower-case hexadecimal digits that mark what is ours: device names, dm UUIDs, the file system's own UUID.
    pub uuid: String,
    /// The directory that the pool may fill with its files: backing files, mount point, directories.
    pub directory: PathBuf,
    /// Data space; of sparse backing files it is the limit, not what they take.
    pub size: Bytes,
    /// The unit in which a thin-pool shares blocks; the other drivers ignore it.
    pub chunk: Bytes,
    /// The file system on thin volumes: ext4 or XFS; the other drivers ignore it.
    pub fs: BlockFs,
    /// Backing file or block device for data instead of a file in `directory`.
    pub data: Option<PathBuf>,
    /// The same for a thin-pool's metadata.
    pub metadata: Option<PathBuf>,
}

/// Tells whether this kernel and this machine can run pools of `kind`.
///
/// # Errors
/// `Unsupported` with the missing feature and its kernel configuration symbol; `MissingProgram` with the package.
pub fn supported(kind: DriverKind) -> Result<()> {
    match kind {
        DriverKind::Thin => thin::supported(),
        DriverKind::Btrfs => btrfs::supported(),
        DriverKind::Overlay => overlay::supported(),
        DriverKind::Vfs => vfs::supported(),
    }
}

/// Whether a pool may be made there: the directory must be empty, and what a user gave must be a file or a device with
/// nothing on it. Asked before anything is noted about the pool, because what is noted may be destroyed again.
///
/// # Errors
/// `NotOurs` for what holds something, `Invalid` for what is neither file nor device.
pub fn examine(spec: &PoolSpec) -> Result<()> {
    let mut there = fs::read_dir(&spec.directory).act(|| format!("look into {}", spec.directory.display()))?;
    if let Some(first) = there.next() {
        let first = first.act(|| format!("look into {}", spec.directory.display()))?;
        let what = format!(
            "{} lies there already, of a pool that the database does not know; bring lamina.db back, or move it away",
            first.path().display()
        );
        return Err(Error::new(Kind::NotOurs, what));
    }
    if let (Some(data), Some(metadata)) = (&spec.data, &spec.metadata)
        && is_same(data, metadata)?
    {
        let what = format!("data and metadata are both {}; give each a place of its own", data.display());
        return Err(Error::new(Kind::Invalid, what));
    }
    for path in [&spec.data, &spec.metadata].into_iter().flatten() {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).act(|| format!("look at {}", path.display())),
            Ok(found) if found.is_file() || found.file_type().is_block_device() => {
                block::ensure_blank(path)?;
            }
            Ok(_) => {
                let what = format!("{} is neither a regular file nor a block device", path.display());
                return Err(Error::new(Kind::Invalid, what));
            }
        }
    }
    Ok(())
}

/// What the kernel holds of files in a directory.
#[derive(Debug, Default)]
pub struct Held {
    /// Names of device-mapper devices, those on top first.
    pub mapped: Vec<String>,
    /// Loop devices.
    pub loops: Vec<PathBuf>,
}

/// What a pool in `directory`, of which nothing else is known, has left up.
///
/// # Errors
/// When the directory or a device cannot be looked at.
pub fn held(directory: &Path) -> Result<Held> {
    let mut held = Held::default();
    let act = || format!("look into {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(held),
        entries => entries.act(act)?,
    };
    for entry in entries {
        let entry = entry.act(act)?;
        if !entry.file_type().act(act)?.is_file() {
            continue;
        }
        if let Some(attached) = block::LoopFile::find(&entry.path())? {
            for name in block::mapped_on(attached.device()) {
                // The data's and the metadata's are the same.
                if !held.mapped.contains(&name) {
                    held.mapped.push(name);
                }
            }
            held.loops.push(attached.device().to_owned());
        }
    }
    Ok(held)
}

/// Whether both paths lead to one file or device.
fn is_same(one: &Path, other: &Path) -> Result<bool> {
    let identity = |path: &Path| match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).act(|| format!("look at {}", path.display())),
        Ok(found) if found.file_type().is_block_device() => Ok(Some((found.rdev(), 0))),
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
    };
    match (identity(one)?, identity(other)?) {
        (None, None) => Ok(one == other),
        (one, other) => Ok(one == other),
    }
}

/// Makes the pool and leaves it up. On failure nothing of it stays, nor does anything that was there before suffer.
///
/// # Errors
/// `Invalid` for a size, chunk or device that cannot be; `NotOurs` for a backing file or device that holds something.
pub fn create(spec: &PoolSpec) -> Result<()> {
    match spec.kind {
        DriverKind::Thin => thin::create(spec),
        DriverKind::Btrfs => btrfs::create(spec),
        DriverKind::Overlay => overlay::create(spec),
        DriverKind::Vfs => vfs::create(spec),
    }
}

/// The driver of a pool, which is brought up first if it is not: after a reboot its loop and dm devices are gone.
///
/// # Errors
/// `NotFound` or `Corrupt` for missing or truncated backing files, `NotOurs` for a pool with another UUID.
pub fn open(spec: &PoolSpec) -> Result<Box<dyn Driver>> {
    Ok(match spec.kind {
        DriverKind::Thin => Box::new(thin::Thin::open(spec)?),
        DriverKind::Btrfs => Box::new(btrfs::Btrfs::open(spec)?),
        DriverKind::Overlay => Box::new(overlay::Overlay::open(spec)?),
        DriverKind::Vfs => Box::new(vfs::Vfs::open(spec)?),
    })
}

/// The driver of a pool that is up; one that is down is left so.
///
/// # Errors
/// When the kernel's state cannot be read.
pub fn open_up(spec: &PoolSpec) -> Result<Option<Box<dyn Driver>>> {
    Ok(match spec.kind {
        DriverKind::Thin => thin::Thin::open_up(spec)?.map(|thin| Box::new(thin) as _),
        DriverKind::Btrfs => btrfs::Btrfs::open_up(spec)?.map(|btrfs| Box::new(btrfs) as _),
        DriverKind::Overlay | DriverKind::Vfs => Some(open(spec)?),
    })
}

/// Whether the pool is up now.
///
/// # Errors
/// When the kernel's state cannot be read.
pub fn is_up(spec: &PoolSpec) -> Result<bool> {
    match spec.kind {
        DriverKind::Thin => thin::is_up(spec),
        DriverKind::Btrfs => btrfs::is_up(spec),
        DriverKind::Overlay | DriverKind::Vfs => Ok(true),
    }
}

/// Takes the pool down: deactivates, unmounts, detaches. Its volumes must not be mounted.
///
/// # Errors
/// `InUse` if something still uses a volume.
pub fn close(spec: &PoolSpec) -> Result<()> {
    match spec.kind {
        DriverKind::Thin => thin::close(spec),
        DriverKind::Btrfs => btrfs::close(spec),
        // There is nothing to take down.
        DriverKind::Overlay | DriverKind::Vfs => shelf::refuse_if_mounted(spec),
    }
}

/// Refuses if the pool would be lost by taking it down, because a file below it has no name any more.
///
/// # Errors
/// `Corrupt` with how to save it.
pub fn require_kept(spec: &PoolSpec) -> Result<()> {
    let loops = match spec.kind {
        DriverKind::Thin => thin::loops(spec),
        DriverKind::Btrfs => btrfs::loops(spec),
        DriverKind::Overlay | DriverKind::Vfs => Ok(Vec::new()),
    };
    loops?.iter().try_for_each(LoopFile::require_kept)
}

/// Takes down a pool that the kernel has stopped or that does not come up, and makes it fit to be opened again without
/// losing anything. Returns a line per thing done.
///
/// # Errors
/// `InUse` if something still uses a volume; `Corrupt` with what was found, if it cannot be mended.
pub fn repair(spec: &PoolSpec) -> Result<Vec<String>> {
    match spec.kind {
        DriverKind::Thin => thin::repair(spec),
        // A btrfs goes back to its last commit when it is mounted anew, and replays its log.
        DriverKind::Btrfs => {
            btrfs::close(spec).map(|()| vec!["the file system was taken down to be mounted anew".to_owned()])
        }
        DriverKind::Overlay | DriverKind::Vfs => Ok(Vec::new()),
    }
}

/// Takes the pool down and removes what it put into its directory; a given file or device loses only our mark.
///
/// # Errors
/// As [`close`].
pub fn destroy(spec: &PoolSpec) -> Result<()> {
    match spec.kind {
        DriverKind::Thin => thin::destroy(spec),
        DriverKind::Btrfs => btrfs::destroy(spec),
        DriverKind::Overlay => overlay::destroy(spec),
        DriverKind::Vfs => vfs::destroy(spec),
    }
}
