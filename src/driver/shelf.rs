//! Volumes as directories of the host's file system: what overlay and vfs have in common.
//!
//! A pool's directory holds
//!
//! ```text
//! pool              whose it is: 'lamina', the driver, the UUID
//! volumes/N         the tree of volume N
//! volumes/N.partial a tree that is being made or deleted
//! work/N            there as long as volume N may be written; overlayfs works in it
//! ```
//!
//! Invariant: `volumes/N` is complete, because it gets that name by a rename after its content is on disk, and loses it
//! by a rename before anything of it goes. A volume is sealed if and only if it has no `work/N`; the caller's mounts
//! keep a sealed one unchanged, since directories themselves cannot be made unchangeable without a walk.

mod mounted;
mod shelved;

pub(super) use mounted::refuse_if_mounted;
pub(super) use shelved::Shelved;

use std::{
    ffi::{CStr, CString, OsStr},
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, StatVfsMountFlags, fchmod, fstatvfs, fsync, mkdirat, renameat, syncfs, unlinkat},
    io::Errno,
};

use super::{Access, BACKING_RESERVE, DriverKind, Health, PoolStatus, Space, pool::PoolSpec};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::{Place, allocated, copy_tree, names, remove_tree},
    id::VolumeId,
    units::Bytes,
};

const PARTIAL: &str = ".partial";

/// In the work directory while it is tried whether the file system suits.
pub(super) const PROBE: &CStr = c"probe";

/// The pool's mark before it has its name.
const MARK_DRAFT: &CStr = c"pool.partial";

/// The directories of a pool that is ours.
#[derive(Debug)]
pub(super) struct Shelf {
    directory: PathBuf,
    volumes: OwnedFd,
    work: OwnedFd,
}

/// Makes the directories and the mark, if `suits` finds nothing against a directory of that file system.
pub(super) fn create(spec: &PoolSpec, suits: fn(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    if let Some(given) = spec.data.as_ref().or(spec.metadata.as_ref()) {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "{}: the {} driver stores its volumes in directories; leave the device out",
                given.display(),
                spec.kind
            ),
        ));
    }
    let existed = spec.directory.exists();
    fs::create_dir_all(&spec.directory).act(|| format!("make directory {}", spec.directory.display()))?;
    match read_mark(spec)? {
        Mark::None => {}
        Mark::Ours => return Ok(()),
    }
    let make = || -> Result<()> {
        let directory = open_dir(&spec.directory)?;
        for name in [c"volumes", c"work"] {
            make_empty(&directory, name)?;
        }
        suits(Place::new(&directory, c"work").open_dir()?.as_fd())?;
        crash::point(crash::Point::PoolHalf);
        write_mark(spec)?;
        crash::point(crash::Point::PoolMade);
        Ok(())
    };
    make().map_err(|error| {
        let undo = || {
            remove_unmarked(spec)?;
            if existed {
                return Ok(());
            }
            fs::remove_dir(&spec.directory).act(|| format!("remove {}", spec.directory.display()))
        };
        error.and_undo(undo()).within(format!("make pool in {}", spec.directory.display()))
    })
}

/// Makes a directory; an empty one may be there from an earlier try.
fn make_empty(directory: &OwnedFd, name: &CStr) -> Result<()> {
    remove_empty(directory, name)?;
    match mkdirat(directory, name, Mode::RWXU) {
        Err(Errno::EXIST) => {
            Err(Error::new(Kind::NotOurs, format!("there is something at '{}' already", name.to_string_lossy())))
        }
        made => made.act(|| format!("make directory {}", name.to_string_lossy())),
    }
}

/// Removes what a pool's directory holds before it is marked.
fn remove_unmarked(spec: &PoolSpec) -> Result<()> {
    let directory = open_dir(&spec.directory)?;
    remove_tree(directory.as_fd(), MARK_DRAFT)?;
    if spec.directory.join("work").is_dir() {
        remove_tree(Place::new(&directory, c"work").open_dir()?.as_fd(), PROBE)?;
    }
    [c"volumes", c"work"].into_iter().try_for_each(|name| remove_empty(&directory, name))
}

/// Removes a directory if it is one and empty; anything else stays, as somebody else's.
fn remove_empty(directory: &OwnedFd, name: &CStr) -> Result<()> {
    match unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(()),
        removed => removed.act(|| format!("remove directory {}", name.to_string_lossy())),
    }
}

/// Removes all volumes, and the mark last.
pub(super) fn destroy(spec: &PoolSpec) -> Result<()> {
    if !spec.directory.exists() {
        return Ok(());
    }
    if matches!(read_mark(spec)?, Mark::None) {
        // A creation that died has made no more than these.
        return remove_unmarked(spec);
    }
    refuse_if_mounted(spec)?;
    let directory = open_dir(&spec.directory)?;
    for name in [c"volumes", c"work", MARK_DRAFT, c"pool"] {
        remove_tree(directory.as_fd(), name).act(|| format!("destroy pool in {}", spec.directory.display()))?;
        crash::point(crash::Point::DestroyHalf);
    }
    fsync(&directory).act(|| "sync the pool's directory")
}

impl Shelf {
    /// Opens the pool of `spec`.
    pub(super) fn open(spec: &PoolSpec) -> Result<Self> {
        if matches!(read_mark(spec)?, Mark::None) {
            return Err(Error::new(
                Kind::NotFound,
                format!("there is no {} pool in {}", spec.kind, spec.directory.display()),
            ));
        }
        let open = |name: &str| open_dir(&spec.directory.join(name)).map_err(|error| error.as_kind(Kind::Corrupt));
        Ok(Self { directory: spec.directory.clone(), volumes: open("volumes")?, work: open("work")? })
    }

    /// The directory that has the volumes' trees by their numbers.
    pub(super) fn base(&self) -> PathBuf {
        self.directory.join("volumes")
    }

    /// Opens the tree of a volume.
    pub(super) fn tree(&self, id: VolumeId) -> Result<OwnedFd> {
        Place::new(&self.volumes, &name(id)).open_dir().map_err(|error| match error.errno() {
            Some(libc::ENOENT) => Error::new(Kind::NotFound, format!("volume {id} does not exist")),
            _ => error,
        })
    }

    /// Refuses to give a sealed volume away for writing, or one that does not exist for anything.
    pub(super) fn admit(&self, id: VolumeId, access: Access) -> Result<()> {
        self.tree(id)?;
        if access == Access::ReadWrite && Place::new(&self.work, &name(id)).stat()?.is_none() {
            return Err(Error::new(Kind::Invalid, format!("volume {id} is sealed and cannot be mounted for writing")));
        }
        Ok(())
    }

    /// Makes volume `id` for writing or sealed, its tree filled by `fill`, which also writes to disk what it puts below
    /// the tree's root.
    pub(super) fn make(
        &self,
        id: VolumeId,
        access: Access,
        fill: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.volumes()?.contains(&id) {
            return Err(Error::new(Kind::Exists, format!("make volume {id}: it exists already")));
        }
        self.try_make(id, access, fill).map_err(|error| {
            let error = if error.kind() == Kind::Full { self.told_full(error) } else { error };
            error.and_undo(self.delete(id)).within(format!("make volume {id}"))
        })
    }

    fn try_make(&self, id: VolumeId, access: Access, fill: impl FnOnce(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        let (partial, name) = (partial(id), name(id));
        if access == Access::ReadWrite {
            mkdirat(&self.work, &*name, Mode::RWXU).act(|| "make work directory")?;
            fsync(&self.work).act(|| "sync work directories")?;
        }
        mkdirat(&self.volumes, &*partial, Mode::RWXU).act(|| "make directory")?;
        let tree = Place::new(&self.volumes, &partial).open_dir()?;
        // Not what the umask makes of it.
        fchmod(&tree, Mode::from_raw_mode(0o755)).act(|| "set mode")?;
        fill(tree.as_fd())?;
        fsync(&tree).act(|| "write to disk")?;
        crash::point(crash::Point::VolumeFilled);
        renameat(&self.volumes, &*partial, &self.volumes, &*name).act(|| "give it its name")?;
        fsync(&self.volumes).act(|| "sync the volumes' directory")
    }

    /// The same with a copy of the tree of `source`, if that leaves room for others.
    pub(super) fn copy(&self, id: VolumeId, source: VolumeId, access: Access) -> Result<()> {
        let source = self.tree(source)?;
        self.make(id, access, |tree| {
            let (needed, free) = (allocated(source.as_fd())? + BACKING_RESERVE, self.status()?.data.free());
            if free < needed {
                let what = format!("copy a tree: it needs {needed} with what is kept back, and there are {free}");
                return Err(Error::new(Kind::Full, what));
            }
            copy_tree(source.as_fd(), tree)?;
            syncfs(tree).act(|| "write to disk")
        })
    }

    fn told_full(&self, error: Error) -> Error {
        match self.status() {
            Ok(status) => error.within(format!(
                "{} of {} are free on the file system of {}; free space there",
                status.data.free(),
                status.data.total,
                self.directory.display()
            )),
            Err(_) => error,
        }
    }

    /// Makes a volume unchangeable: from now on [`Self::admit`] gives it for reading only.
    pub(super) fn seal(&self, id: VolumeId) -> Result<()> {
        let tree = self.tree(id)?;
        syncfs(&tree).act(|| format!("seal volume {id}: write it to disk"))?;
        remove_tree(self.work.as_fd(), &name(id)).act(|| format!("seal volume {id}"))?;
        fsync(&self.work).act(|| "sync work directories")
    }

    /// Deletes what there is of a volume.
    pub(super) fn delete(&self, id: VolumeId) -> Result<()> {
        let (partial, name) = (partial(id), name(id));
        let delete = || {
            remove_tree(self.volumes.as_fd(), &partial)?;
            match renameat(&self.volumes, &*name, &self.volumes, &*partial) {
                Err(Errno::NOENT) => {}
                renamed => renamed.act(|| "take its name")?,
            }
            crash::point(crash::Point::VolumeUnnamed);
            remove_tree(self.volumes.as_fd(), &partial)?;
            fsync(&self.volumes).act(|| "sync the volumes' directory")?;
            remove_tree(self.work.as_fd(), &name)?;
            fsync(&self.work).act(|| "sync work directories")
        };
        delete().act(|| format!("delete volume {id}"))
    }

    /// Every volume that has a tree, or half of one.
    pub(super) fn volumes(&self) -> Result<Vec<VolumeId>> {
        let mut found: Vec<VolumeId> = names(self.volumes.as_fd())?.iter().filter_map(|name| parse(name)).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The state of the file system below.
    pub(super) fn status(&self) -> Result<PoolStatus> {
        let stat =
            fstatvfs(&self.volumes).act(|| format!("look at the file system of {}", self.directory.display()))?;
        let blocks = |count: u64| Bytes(count * stat.f_frsize);
        let health = match stat.f_bavail {
            _ if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => Health::ReadOnly,
            0 => Health::OutOfSpace,
            _ => Health::Ok,
        };
        Ok(PoolStatus {
            data: Space { total: blocks(stat.f_blocks), used: blocks(stat.f_blocks - stat.f_bfree) },
            metadata: Space::default(),
            backing_free: None,
            chunk: Bytes(stat.f_frsize),
            health,
        })
    }

    /// Why such a pool does not grow.
    pub(super) fn no_growth(&self, kind: DriverKind) -> Error {
        Error::new(
            Kind::Unsupported,
            format!(
                "the {kind} driver has no space of its own: it takes what the file system of {} has; enlarge that",
                self.directory.display()
            ),
        )
    }

    /// What lies where only volumes should. Halves of volumes are listed as volumes, and whose they are the store knows.
    pub(super) fn check(&self) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        for (directory, fd) in [("volumes", &self.volumes), ("work", &self.work)] {
            let strangers = names(fd.as_fd())?.into_iter().filter(|name| parse(name).is_none());
            findings.extend(strangers.map(|name| format!("{directory}/{} is no volume", name.to_string_lossy())));
        }
        Ok(findings)
    }
}

fn name(id: VolumeId) -> CString {
    // A number has no NUL, so the default is never taken.
    CString::new(id.to_string()).unwrap_or_default()
}

fn partial(id: VolumeId) -> CString {
    CString::new(format!("{id}{PARTIAL}")).unwrap_or_default()
}

fn parse(name: &CStr) -> Option<VolumeId> {
    let text = name.to_str().ok()?;
    text.strip_suffix(PARTIAL).unwrap_or(text).parse().ok()
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let dir = File::open(path).act(|| format!("open {}", path.display()))?;
    Ok(dir.into())
}

enum Mark {
    None,
    Ours,
}

fn mark(spec: &PoolSpec) -> String {
    format!("lamina {} {}\n", spec.kind, spec.uuid)
}

/// Whose the directory is.
fn read_mark(spec: &PoolSpec) -> Result<Mark> {
    let path = spec.directory.join("pool");
    match fs::read(&path) {
        Ok(found) if found == mark(spec).as_bytes() => Ok(Mark::Ours),
        Ok(found) => {
            let found = String::from_utf8_lossy(&found);
            Err(Error::new(
                Kind::NotOurs,
                format!("{} says '{}' instead of '{}'", path.display(), found.trim(), mark(spec).trim()),
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark::None),
        Err(error) => Err(error).act(|| format!("read {}", path.display())),
    }
}

/// Writes the mark whole or not at all.
fn write_mark(spec: &PoolSpec) -> Result<()> {
    let (partial, path) = (spec.directory.join(OsStr::from_bytes(MARK_DRAFT.to_bytes())), spec.directory.join("pool"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(mark(spec).as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(&spec.directory)?.sync_all()
    };
    write().act(|| format!("write {}", path.display()))
}
