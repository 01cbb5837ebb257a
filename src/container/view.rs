//! A container's tree as its process sees it, volumes and directories of the host included, for the time of a command: of
//! one that is mounted its mount, seen once more; of one that runs that of its mount namespace; of any other a mount that
//! nobody else sees.
//!
//! Invariant: while a container that is neither mounted nor running is looked at, its lock keeps every other command from
//! mounting it. Where a process has its root, or what number it has, is not asked: a run is known by its recorded
//! process, and that by its pidfd.

use std::{
    fs::File,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, StatxFlags, fstat, statx};

use super::{Container, Containers, settings::Settings};
use crate::{
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    fs::{Access, FileSystem, Graft, Mounted, Scope, identity},
    id::VolumeId,
    runtime::{Mount, MountKind, OWN_MOUNTS, make_mount_points},
    store::{Lock, Store},
    units::Bytes,
};

/// See the module's comment.
#[derive(Debug)]
pub struct View<'store> {
    // Dropped in this order: unmounted first, then free for others.
    mounted: Mounted,
    _kept: Kept,
    store: &'store Store,
    volume: VolumeId,
    /// What may be written to it is limited, and does not grow with what comes.
    limit: Option<Bytes>,
    /// Where each run has directories of its own, in memory.
    hidden: Vec<PathBuf>,
}

/// What keeps other commands from mounting the container's volume once more where one mount is all it may have.
#[derive(Debug)]
enum Kept {
    /// It is mounted nowhere else.
    Locked { _lock: Lock },
    /// It is mounted by its run, or where its user sees it; when that has ended meanwhile, it is not mounted again on
    /// overlay.
    Noted { _note: File },
}

impl<'store> Containers<'store> {
    /// Shows the container's tree, writable where the container may write.
    ///
    /// # Errors
    /// The driver's or the kernel's.
    pub fn view(&self, container: &Container) -> Result<View<'store>> {
        let lock = self.lock(container)?;
        let info = self.snapshot(container)?;
        let view = || {
            let (tree, kept) = self.tree(container, lock)?;
            let settings = self.settings(container)?;
            let grafts = self.grafts(container, &settings, tree.root())?;
            let access = if settings.read_only { Access::ReadOnly } else { Access::ReadWrite };
            let hidden = settings.tmpfs.iter().map(|tmpfs| &*tmpfs.target).chain(OWN_MOUNTS).map(PathBuf::from);
            Ok((tree.with(&grafts, access)?, kept, hidden.collect()))
        };
        let (mounted, kept, hidden) =
            view().map_err(|error: Error| error.within(format!("look into container {}", container.name)))?;
        Ok(View { mounted, _kept: kept, store: self.store, volume: info.volume, limit: info.size_limit, hidden })
    }

    /// Its own volume's tree, and what keeps it.
    fn tree(&self, container: &Container, lock: Lock) -> Result<(Mounted, Kept)> {
        let noted = || -> Result<Kept> {
            let home = self.home(container);
            home.make()?;
            Ok(Kept::Noted { _note: home.view()? })
        };
        if let Some(place) = self.mounted_at(container)? {
            let kept = noted()?;
            return Ok((Mounted::again(&place)?, kept));
        }
        // One that runs, or waits to begin, is mounted in its own namespace.
        if let Some(init) = self.run_directory(container).init()? {
            let kept = noted()?;
            return Ok((Mounted::of_process(init.fd().as_fd())?, kept));
        }
        self.refuse_second_mount(container)?;
        let mount = || {
            let mounted = Mounted::detached(&self.store.mounts(&container.key())?)?;
            // From here on the volume's device goes with the mount, whenever this process dies.
            self.store.release(&container.key())?;
            Ok(mounted)
        };
        let mounted = mount().map_err(|error: Error| error.and_undo(self.store.release(&container.key())))?;
        Ok((mounted, Kept::Locked { _lock: lock }))
    }

    /// Before the volume is mounted: overlayfs must not have one upper directory in two mounts, and a command may still
    /// have the last one.
    pub(super) fn refuse_second_mount(&self, container: &Container) -> Result<()> {
        if self.store.driver().kind() != DriverKind::Overlay || !self.home(container).is_viewed()? {
            return Ok(());
        }
        let what = format!(
            "container {}: a command still copies to or from it as it was mounted before, and overlayfs has no two mounts of \
             one upper directory; let it end first",
            container.name
        );
        Err(Error::new(Kind::InUse, what))
    }

    /// What else its process sees in the tree at `root`; directories in memory are the process's alone.
    fn grafts(&self, container: &Container, settings: &Settings, root: BorrowedFd<'_>) -> Result<Vec<Graft>> {
        let mut mounts = self.mounts(container, settings, Some(root))?;
        // Before its first start there are no files that stand for the host's.
        mounts.retain(|mount| mount.kind == MountKind::Bind && mount.source.exists());
        if mounts.is_empty() {
            return Ok(Vec::new());
        }
        let home = self.home(container);
        home.make()?;
        make_mount_points(root, &mounts, &home.mount_points())?;
        let graft = |mount: Mount| Graft {
            access: if mount.is_read_only() { Access::ReadOnly } else { Access::ReadWrite },
            source: mount.source,
            target: mount.target.into(),
        };
        Ok(mounts.into_iter().map(graft).collect())
    }
}

/// A directory of a view that is written.
pub(super) struct Landing<'v> {
    view: &'v View<'v>,
    /// The container's own, and that of a volume.
    systems: Vec<FileSystem>,
    is_own: bool,
}

impl View<'_> {
    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.mounted.root()
    }

    /// Refuses to write to `path` where no process of the container would see it: below a directory that each run has in
    /// memory, with nothing bound there.
    pub(super) fn refuse_hidden(&self, path: &Path) -> Result<()> {
        let scope = Scope::tree(self.root());
        let mut path = path.to_owned();
        let mut place = scope.open(&path);
        if place.is_err() {
            path.pop();
            place = scope.open(&path);
        }
        let mut place = place?;
        let mount = |fd: BorrowedFd<'_>| {
            let flags = AtFlags::EMPTY_PATH;
            statx(fd, c"", flags, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id).act(|| "look at a mount")
        };
        if mount(place.as_fd())? != mount(self.root())? {
            return Ok(());
        }
        let identity = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| identity(&stat)).act(|| "look at a directory");
        let root = identity(self.root())?;
        let hidden = self.hidden.iter().filter_map(|hidden| Some((hidden, scope.open(hidden).ok()?)));
        let hidden: Vec<_> = hidden.map(|(path, fd)| Ok((path, identity(fd.as_fd())?))).collect::<Result<_>>()?;
        loop {
            let here = identity(place.as_fd())?;
            if let Some((hidden, _)) = hidden.iter().find(|(_, there)| *there == here) {
                let what = format!(
                    "{} is a directory in memory, which each run has anew: nothing can be copied to it; pipe it through \
                     'lamina exec -i' to have it in the present run",
                    hidden.display()
                );
                return Err(Error::new(Kind::Invalid, what));
            }
            if here == root {
                return Ok(());
            }
            path.push("..");
            place = scope.open(&path)?;
        }
    }

    /// Where something is to be written.
    pub(super) fn landing(&self, directory: &Path) -> Result<Landing<'_>> {
        let place = Scope::tree(self.root()).open(directory)?;
        let device = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| stat.st_dev).act(|| "look at a directory");
        let is_own = device(place.as_fd())? == device(self.root())?;
        let systems = vec![self.mounted.file_system()?, FileSystem::of(place)];
        Ok(Landing { view: self, systems, is_own })
    }
}

impl Landing<'_> {
    /// Sees to it that so many more bytes fit.
    pub(super) fn room(&self, bytes: Bytes) -> Result<()> {
        match self.view.limit {
            // A volume has the room of the disk that it lies on.
            None if self.is_own => self.view.store.driver().reserve(self.view.volume, self.view.root(), bytes),
            _ => Ok(()),
        }
    }

    /// Writes with `write`, and out to the pool; what was full then is told with the pool's numbers.
    pub(super) fn written<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let out = || self.systems.iter().try_for_each(FileSystem::write_out);
        let written = write().and_then(|value| out().map(|()| value));
        written.map_err(|error| match self.view.limit.filter(|_| error.kind() == Kind::Full && self.is_own) {
            Some(limit) => error.within(format!("the container may write {limit}, if the pool has that")),
            None if self.is_own => self.view.store.explain(error),
            None => error,
        })
    }
}
