//! A root directory with a pool of its own for one measurement.
//!
//! Invariant: pool and directory go when this is dropped; the store, whose files keep the pool busy, goes first.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::{fs::FlockOperation, io::Errno};

use crate::{
    block::LoopFile,
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    fs::{Access, BlockFs, MountSpec, Mounted, mounts_below, remove_tree, unmount},
    program::{MKFS_BTRFS, MKFS_EXT4, MKFS_XFS},
    store::{Key, PoolOptions, Store},
    units::Bytes,
};

#[derive(Debug)]
pub(super) struct Ground {
    store: Store,
    directory: Directory,
}

impl Ground {
    /// A fresh pool of `driver` in a fresh directory below `below`.
    pub(super) fn new(below: &Path, driver: DriverKind) -> Result<Self> {
        let directory = Directory::new(below, driver.name())?;
        let options = PoolOptions { driver: Some(driver), ..PoolOptions::default() };
        let (store, _) = Store::open_or_make(&directory.path, &options)?;
        Ok(Self { store, directory })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The root directory, for commands.
    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Mounts the snapshot `key` for as long as `work` takes; it is written out when this returns.
    pub(super) fn inside<T>(&self, key: &Key, work: impl FnOnce(&Mounted) -> Result<T>) -> Result<T> {
        let mounted = || -> Result<T> {
            let mounted = Mounted::detached(&self.store.mounts(key)?)?;
            let value = work(&mounted)?;
            mounted.file_system()?.write_out()?;
            Ok(value)
        };
        let value = mounted();
        match (value, self.store.release(key)) {
            (Ok(value), released) => released.map(|()| value),
            (Err(error), released) => Err(error.and_undo(released)),
        }
    }

    /// Makes the layer `name` on `parent`, filled by `work` with `room` bytes.
    pub(super) fn layer(
        &self,
        name: &Key,
        parent: Option<&Key>,
        room: Bytes,
        work: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let draft: Key = format!("{name}-draft").parse()?;
        self.store.prepare(&draft, parent)?;
        let volume = self.store.stat(&draft)?.volume;
        self.inside(&draft, |mounted| {
            self.store.driver().reserve(volume, mounted.root(), room)?;
            work(&mounted.path())
        })?;
        self.store.commit(name, &draft)
    }
}

/// How often a pool that somebody else keeps busy is tried to be destroyed again, and after what time.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Does `act` again while somebody else keeps busy what it needs: any new mount namespace on this machine has all mounts
/// in it, until it ends.
pub(super) fn patiently<T>(mut act: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tries = 0..TRIES;
    loop {
        match act() {
            Err(error) if error.kind() == Kind::InUse && tries.next().is_some() => thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// That all of the disk reads as zero, so that nothing needs to be written there.
const EXT4_IS_ZERO: &str = "lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1,nodiscard";

/// A directory, and whatever pool, disk or mounts are in it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    disk: Option<LoopFile>,
    /// Locked as long as this lives, so that nobody takes it for left behind.
    _lock: fs::File,
}

impl Directory {
    /// A fresh one below `below`; `what` is part of its name.
    pub(super) fn new(below: &Path, what: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = below.join(format!("lamina-bench-{what}-{}-{number}", std::process::id()));
        fs::create_dir(&path).act(|| format!("make directory {}", path.display()))?;
        match lock(&path) {
            Ok(lock) => Ok(Self { path, disk: None, _lock: lock }),
            Err(error) => Err(error.and_undo(remove_directory(&path))),
        }
    }

    /// One that a process left behind which was killed: whatever is in it goes when this is dropped. `None` if it is still in use.
    pub(super) fn left_behind(path: PathBuf) -> Result<Option<Self>> {
        let lock = match lock(&path) {
            Err(error) if error.kind() == Kind::InUse => return Ok(None),
            lock => lock?,
        };
        let file = path.join("disk");
        let disk = if file.exists() { LoopFile::find(&file)? } else { None };
        Ok(Some(Self { path, disk, _lock: lock }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn pool(&self) -> PathBuf {
        self.path.join("pool")
    }

    /// Mounts a fresh file system of `size` on a sparse file, where a pool will be made. It is as mkfs makes it by itself,
    /// but for what Lamina's pools have otherwise and what would make the rows differ: the kernel has no inode tables to
    /// make zero afterwards, which they are in a sparse file, and btrfs keeps one copy of its metadata.
    pub(super) fn add_disk(&mut self, fs: BlockFs, size: Bytes) -> Result<()> {
        let file = self.path.join("disk");
        let act = || format!("make a disk of {size} in {}", file.display());
        fs::File::create_new(&file).and_then(|file| file.set_len(size.0)).act(act)?;
        fs::create_dir(self.pool()).act(act)?;
        let attached = LoopFile::attach(&file)?;
        let device = attached.device().to_owned();
        self.disk = Some(attached);
        let name = device.to_string_lossy();
        match fs {
            BlockFs::Ext4 => MKFS_EXT4.succeed(&["-q", "-F", "-E", EXT4_IS_ZERO, &name]),
            BlockFs::Xfs => MKFS_XFS.succeed(&["-q", "-f", "-m", "reflink=1", &name]),
            BlockFs::Btrfs => MKFS_BTRFS.succeed(&["-q", "-f", "--metadata", "single", "--data", "single", &name]),
        }
        .act(act)?;
        let options = if fs == BlockFs::Btrfs { vec!["discard=async".to_owned()] } else { Vec::new() };
        let spec = MountSpec::Device { device, fs, options, access: Access::ReadWrite };
        Mounted::detached(&spec)?.attach(&self.pool())?;
        match fs::remove_dir(self.pool().join("lost+found")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).act(act),
            _ => Ok(()),
        }
    }

    /// Used bytes of the disk.
    pub(super) fn used(&self) -> Result<Bytes> {
        let pool = self.pool();
        let stat = rustix::fs::statvfs(&pool).act(|| format!("look at the file system of {}", pool.display()))?;
        Ok(Bytes((stat.f_blocks - stat.f_bfree) * stat.f_frsize))
    }

    /// Writes out what is mounted here: the disk, or a pool that is a file system. A pool of devices has nothing of its own
    /// to be written.
    pub(super) fn write_out(&self) -> Result<()> {
        mounts_below(&self.path)?.iter().try_for_each(|mount| {
            let act = || format!("write out {}", mount.target.display());
            rustix::fs::syncfs(fs::File::open(&mount.target).act(act)?).act(act)
        })
    }

    /// A directory on the disk for data volumes.
    pub(super) fn volumes(&self) -> Result<PathBuf> {
        let path = self.pool().join("volumes");
        fs::create_dir_all(&path).act(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// Takes away what is mounted, the pool or the disk, and all files.
    fn remove(&mut self) -> Result<()> {
        let pool = self.pool();
        // Another program's; what it mounted lies on top of what is to be removed.
        for mount in mounts_below(&self.path)?.iter().filter(|mount| !mount.target.starts_with(&pool)) {
            patiently(|| unmount(&mount.target))?;
        }
        let Some(disk) = self.disk.take() else {
            match patiently(|| Store::destroy_pool(&self.path, &|| Ok(()), &|| Ok(()))) {
                Err(error) if error.kind() != Kind::NotFound => return Err(error),
                _ => return remove_directory(&self.path),
            }
        };
        for mount in mounts_below(&pool)? {
            patiently(|| unmount(&mount.target))?;
        }
        let file = self.path.join("disk");
        patiently(|| LoopFile::on(disk.device(), &file)?.map_or(Ok(()), LoopFile::detach))?;
        remove_directory(&self.path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(
                "remove {0}: {error}; remove it with 'lamina --root {0} pool destroy --yes' and 'rm -r'",
                self.path.display()
            );
        }
    }
}

/// Its lock, which is free if it belongs to no process.
fn lock(path: &Path) -> Result<fs::File> {
    let act = || format!("lock {}", path.display());
    let directory = fs::File::open(path).act(act)?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::new(Kind::InUse, format!("{}: another process has it", act()))),
        locked => locked.act(act).map(|()| directory),
    }
}

fn remove_directory(path: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let act = || format!("remove directory {}", path.display());
    let parent = fs::File::open(path.parent().unwrap_or(Path::new("."))).act(act)?;
    let name = path.file_name().unwrap_or_default().as_bytes();
    let name = std::ffi::CString::new(name).map_err(std::io::Error::other).act(act)?;
    remove_tree(std::os::fd::AsFd::as_fd(&parent), &name)
}
