//! The directories of `RUN --mount=type=cache`, which stay between builds: `ROOT/build-caches/HEX`, named by the digest of
//! the cache's ID.
//!
//! Invariant: whoever uses one holds its lock (flock(2)), shared or alone as the Dockerfile asks; several are locked in the
//! order of their names, so no two builds wait for each other. Only what nobody uses is pruned.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, Stat, flock, renameat_with},
    io::Errno,
};

use super::dockerfile::{RunMount, Sharing};
use crate::{
    error::{Act as _, Result},
    fs::{FileSystem, allocated, is_at, remove_tree},
    id::{CacheId, Digest},
    interrupt,
    store::Layout,
    units::Bytes,
};

/// What a pruned one is called while it goes.
const GOING: &str = "going-";

/// Caches that a command may use, as long as this lives.
#[derive(Debug, Default)]
pub(super) struct InUse {
    _locks: Vec<File>,
}

/// What there is of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// How many.
    pub total: usize,
    /// Bytes on the disk of the root directory.
    pub size: Bytes,
    /// How many of them a build uses now.
    pub active: usize,
    /// Bytes of these.
    pub active_size: Bytes,
}

/// Where the cache `id` lies.
pub(super) fn directory(layout: &Layout, id: &str) -> PathBuf {
    layout.build_caches().join(Digest::of(id.as_bytes()).hex())
}

/// Makes the caches among `mounts` that are not there, those with a `from` through `fill`, and waits until all may be used.
///
/// # Errors
/// The system's; those of `fill`; `Interrupted`.
pub(super) fn take(layout: &Layout, mounts: &[RunMount], fill: &Fill<'_>) -> Result<InUse> {
    let mut wanted: BTreeMap<PathBuf, (FlockOperation, &RunMount)> = BTreeMap::new();
    for mount in mounts {
        let RunMount::Cache { id, sharing, .. } = mount else { continue };
        // Alone is what 'locked' asks for, and 'private' gets it too: nobody disturbs the other.
        let alone = *sharing != Sharing::Shared;
        let entry = wanted.entry(directory(layout, id)).or_insert((FlockOperation::LockShared, mount));
        if alone {
            entry.0 = FlockOperation::LockExclusive;
        }
    }
    let locked = wanted.iter().map(|(path, (operation, mount))| lock(path, *operation, mount, fill));
    Ok(InUse { _locks: locked.collect::<Result<_>>()? })
}

fn lock(path: &Path, operation: FlockOperation, mount: &RunMount, fill: &Fill<'_>) -> Result<File> {
    let act = || format!("use cache directory {}", path.display());
    loop {
        make(path, mount, fill).act(act)?;
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.act(act)?,
        };
        interrupt::wait_for_lock(&file, operation).act(act)?;
        // It may have been pruned since it was opened.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

fn make(path: &Path, mount: &RunMount, fill: &Fill<'_>) -> Result<()> {
    let RunMount::Cache { from, mode, uid, gid, .. } = mount else { return Ok(()) };
    if path.exists() {
        return Ok(());
    }
    let above = path.parent().unwrap_or(path);
    let act = || format!("make a directory in {}", above.display());
    fs::create_dir_all(above).act(act)?;
    // It gets its name with all that belongs to it. If another build is faster, that one's is as good.
    let new = Making::new(above).act(act)?;
    let mut own = (mode.unwrap_or(0o755), *uid, *gid);
    if from.is_some() {
        let source = fill(mount, new.directory.as_fd())?;
        own = (mode.unwrap_or(source.st_mode & 0o7777), uid.or(Some(source.st_uid)), gid.or(Some(source.st_gid)));
    }
    chown(&new.path, own.1, own.2).act(act)?;
    fs::set_permissions(&new.path, Permissions::from_mode(own.0)).act(act)?;
    if from.is_some() {
        // It is never filled again, so it must not lose its files to a power cut.
        FileSystem::at(&new.path)?.write_out().act(act)?;
    }
    // An empty one would be replaced by a plain rename(2).
    match renameat_with(CWD, &new.path, CWD, path, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(()),
        renamed => renamed.act(act),
    }
}

/// Puts into a new cache what it begins with; returns what the directory is that this lies in.
pub(super) type Fill<'a> = dyn Fn(&RunMount, BorrowedFd<'_>) -> Result<Stat> + 'a;

/// A new cache until it has its name. It is locked, so that nobody prunes it, and goes if it gets none.
struct Making {
    path: PathBuf,
    directory: File,
}

impl Making {
    fn new(above: &Path) -> Result<Self> {
        loop {
            let path = above.join(format!("{GOING}{}", CacheId::random()));
            let act = || format!("make {}", path.display());
            fs::create_dir(&path).act(act)?;
            let directory = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                directory => directory.act(act)?,
            };
            interrupt::wait_for_lock(&directory, FlockOperation::LockExclusive).act(act)?;
            // Before it was locked it looked like what a killed command left, which is pruned.
            if is_at(&directory, &path) {
                return Ok(Self { path, directory });
            }
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !is_at(&self.directory, &self.path) {
            return;
        }
        // What stays is nobody's, and goes with the next `builder prune`.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("remove {}: {error}; 'lamina builder prune' tries again", self.path.display());
        }
    }
}

/// What there is of them.
///
/// # Errors
/// The system's.
pub fn summary(layout: &Layout) -> Result<Summary> {
    let mut summary = Summary::default();
    each(layout, |path, file| {
        let size = allocated(file.as_fd()).act(|| format!("look into {}", path.display()))?;
        summary.total += 1;
        summary.size += size;
        if flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            summary.active += 1;
            summary.active_size += size;
        }
        Ok(())
    })?;
    Ok(summary)
}

/// Removes those that no build uses; returns their bytes on the disk.
///
/// # Errors
/// The system's; what was removed before stays so.
pub fn prune(layout: &Layout) -> Result<Bytes> {
    let mut freed = Bytes(0);
    each(layout, |path, file| {
        let act = || format!("remove cache directory {}", path.display());
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(()),
            locked => locked.act(act)?,
        }
        if !is_at(file, path) {
            return Ok(());
        }
        let size = allocated(file.as_fd()).act(act)?;
        // Half of one must not be taken for a whole one, whenever this ends.
        let name = format!("{GOING}{}", CacheId::random());
        fs::rename(path, path.with_file_name(&name)).act(act)?;
        let above = File::open(layout.build_caches()).act(act)?;
        let name = std::ffi::CString::new(name).map_err(io::Error::other).act(act)?;
        remove_tree(above.as_fd(), &name).act(act)?;
        freed += size;
        Ok(())
    })?;
    Ok(freed)
}

/// Calls `visit` for each, those included that a killed command left half made or half removed.
fn each(layout: &Layout, mut visit: impl FnMut(&Path, &File) -> Result<()>) -> Result<()> {
    let directory = layout.build_caches();
    let act = || format!("look into {}", directory.display());
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.act(act)?,
    };
    for entry in entries {
        interrupt::check()?;
        let path = entry.act(act)?.path();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => visit(&path, &file.act(act)?)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        fs,
        os::{fd::BorrowedFd, unix::fs::MetadataExt as _},
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::{Making, directory, prune, summary};
    use crate::{
        build::dockerfile::{RunMount, Sharing},
        error::{Error, Kind},
        store::Layout,
        units::Bytes,
    };

    fn cache(id: &str, sharing: Sharing) -> RunMount {
        let (target, id) = ("/x".to_owned(), id.to_owned());
        let (from, source, mode, uid, gid) = (None, None, Some(0o700), None, None);
        RunMount::Cache { id, target, from, source, read_only: false, sharing, mode, uid, gid }
    }

    #[test]
    fn what_is_used_is_not_pruned() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        assert_eq!(prune(&layout).unwrap(), Bytes(0));
        let nothing = |_: &RunMount, _: BorrowedFd<'_>| Err(Error::new(Kind::Io, "nothing is to be put into these"));
        let take = |layout: &Layout, mounts: &[RunMount]| super::take(layout, mounts, &nothing);
        // One that a command has twice is locked once.
        let both = [cache("a", Sharing::Shared), cache("a", Sharing::Locked), cache("b", Sharing::Shared)];
        let used = take(&layout, &both).unwrap();
        // Others may share what is shared.
        let shared = take(&layout, &both[2..]).unwrap();
        std::fs::write(directory(&layout, "b").join("file"), [1; 10_000]).unwrap();
        prune(&layout).unwrap();
        let found = summary(&layout).unwrap();
        assert_eq!((found.total, found.active), (2, 2));
        drop((used, shared));
        assert_eq!(summary(&layout).unwrap().active, 0);
        assert!(prune(&layout).unwrap() >= Bytes(10_000));
        assert_eq!(summary(&layout).unwrap().total, 0);
        // It is made anew.
        take(&layout, &both).unwrap();
        assert!(directory(&layout, "a").is_dir());
    }

    #[test]
    fn the_first_of_two_that_make_one_wins() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        let nothing = |_: &RunMount, _: BorrowedFd<'_>| Err(Error::new(Kind::Io, "nothing is to be put into these"));
        let mut slow = cache("a", Sharing::Shared);
        if let RunMount::Cache { from, .. } = &mut slow {
            *from = Some("base".to_owned());
        }
        // While one fills it, another makes it, empty.
        let faster = RefCell::new(None);
        let fill = |_: &RunMount, made: BorrowedFd<'_>| {
            let used = super::take(&layout, &[cache("a", Sharing::Shared)], &nothing)?;
            *faster.borrow_mut() = Some((used, fs::metadata(directory(&layout, "a")).unwrap().ino()));
            Ok(rustix::fs::fstat(made).unwrap())
        };
        super::take(&layout, &[slow], &fill).unwrap();
        let (_used, inode) = faster.into_inner().unwrap();
        assert_eq!(fs::metadata(directory(&layout, "a")).unwrap().ino(), inode);
        assert_eq!(summary(&layout).unwrap().total, 1);
    }

    #[test]
    fn one_that_is_being_made_may_be_looked_at_and_pruned() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        fs::create_dir_all(layout.build_caches()).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        summary(&layout).unwrap();
                        prune(&layout).unwrap();
                    }
                });
            }
            let made = (0..5000).try_for_each(|_| Making::new(&layout.build_caches()).map(drop));
            done.store(true, Ordering::Relaxed);
            made.unwrap();
        });
    }
}
