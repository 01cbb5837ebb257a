//! A root directory with a pool of its own for one measurement.
//!
//! Invariant: pool and directory go when this is dropped; the store, whose files keep the pool busy, goes first.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::{
    driver::DriverKind,
    error::{Act as _, Kind, Result},
    fs::{Mounted, mounts_below, remove_tree, unmount},
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
        let (store, _) = Store::open_or_make(&directory.0, &options)?;
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

/// A directory, and whatever pool or mounts are in it.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// A fresh one below `below`; `what` is part of its name.
    pub(super) fn new(below: &Path, what: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = below.join(format!("lamina-bench-{what}-{}-{number}", std::process::id()));
        fs::create_dir(&path).act(|| format!("make directory {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let remove = || -> Result<()> {
            // Another program's; what it mounted lies on top of what is to be removed.
            for mount in mounts_below(&self.0)?.iter().filter(|mount| !mount.target.starts_with(self.0.join("pool"))) {
                unmount(&mount.target)?;
            }
            let mut tries = 0..TRIES;
            loop {
                match Store::destroy_pool(&self.0, &|| Ok(())) {
                    // Any new mount namespace on this machine has the pool's mount in it, until it ends.
                    Err(error) if error.kind() == Kind::InUse && tries.next().is_some() => thread::sleep(PAUSE),
                    Err(error) if error.kind() == Kind::NotFound => break,
                    destroyed => break destroyed?,
                }
            }
            remove_directory(&self.0)
        };
        if let Err(error) = remove() {
            tracing::warn!(
                "remove {0}: {error}; remove it with 'lamina --root {0} pool destroy --yes' and 'rm -r'",
                self.0.display()
            );
        }
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
