//! What a runtime makes in a root file system to mount something on, and leaves there: taken away again, so that it is
//! in no layer.

use std::{
    ffi::{CString, OsStr},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, mknodat, openat, openat2, readlinkat, statat,
        unlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    bundle::{Mount, MountKind},
    umask,
};
use crate::{
    error::{Act as _, Result},
    fs::times,
};

/// A path that did not exist before, below a directory that did.
#[derive(Debug)]
struct Missing {
    /// The directory, as it was.
    directory: OwnedFd,
    before: Stat,
    /// The names below it, the first of which is missing.
    names: Vec<CString>,
    /// How many names of the target lead to that directory, and the target.
    depth: usize,
    target: PathBuf,
    /// The target as it was asked for, before links.
    wanted: PathBuf,
}

/// What was not there before a command ran.
#[derive(Debug)]
pub(super) struct MountPoints {
    missing: Vec<Missing>,
}

impl MountPoints {
    /// Notes which of `targets` do not exist in `root`.
    pub(super) fn note<'t>(root: BorrowedFd<'_>, targets: impl Iterator<Item = &'t str>) -> Result<Self> {
        let mut missing = Vec::new();
        for target in targets {
            missing.extend(find_missing(root, target)?);
        }
        Ok(Self { missing })
    }

    /// Their paths from the root on, each after those above it that are missing too.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for missing in &self.missing {
            let names: Vec<_> = missing.target.components().filter(|c| matches!(c, Component::Normal(_))).collect();
            for end in missing.depth + 1..=names.len() {
                let path: PathBuf = names.get(..end).unwrap_or_default().iter().collect();
                paths.push(path.to_string_lossy().into_owned());
            }
        }
        paths
    }

    /// Makes them for `mounts` as a runtime does, as directories, and where a file is to be mounted as an empty one.
    pub(super) fn make_for(&self, mounts: &[Mount]) -> Result<()> {
        let make = |missing: &Missing| missing.make(is_directory(mounts, &missing.wanted));
        umask::with_plain(|| self.missing.iter().try_for_each(make))
    }

    /// Removes those that are empty, and gives the directories that hold them their times back.
    pub(super) fn remove(self) -> Result<()> {
        for point in self.missing.into_iter().rev() {
            point.remove()?;
        }
        Ok(())
    }
}

/// Makes the places of `mounts` below `root` where there are none, in what is no container's tree.
///
/// # Errors
/// The kernel's reason.
pub fn make_bare_points(root: BorrowedFd<'_>, mounts: &[Mount]) -> Result<()> {
    MountPoints::note(root, mounts.iter().map(|mount| mount.target.as_str()))?.make_for(mounts)
}

fn is_directory(mounts: &[Mount], target: &Path) -> bool {
    let source = mounts.iter().find(|mount| Path::new(&mount.target) == target);
    source.is_none_or(|mount| mount.kind == MountKind::Tmpfs || mount.source.is_dir())
}

/// As many links may lead to one another as the kernel follows.
const LINKS: usize = 40;

fn find_missing(root: BorrowedFd<'_>, target: &str) -> Result<Option<Missing>> {
    let mut path = PathBuf::from(target);
    for _ in 0..LINKS {
        match look_up(root, &path)? {
            Found::Nothing(missing) => return Ok(Some(Missing { wanted: target.into(), ..*missing })),
            // A runtime follows a link that leads nowhere, and makes what it leads to.
            Found::Link(target) => path = target,
            Found::There => return Ok(None),
        }
    }
    Ok(None)
}

/// What there is at a path.
enum Found {
    There,
    Nothing(Box<Missing>),
    /// A link on the way leads nowhere; this is the path with its target in its place.
    Link(PathBuf),
}

fn look_up(root: BorrowedFd<'_>, target: &Path) -> Result<Found> {
    let names: Vec<&str> = target
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            Component::ParentDir => Some(".."),
            _ => None,
        })
        .collect();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    for existing in (0..=names.len()).rev() {
        let path: PathBuf = Path::new(".").join(names.get(..existing).unwrap_or_default().iter().collect::<PathBuf>());
        match openat2(root, &path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => {
                return Err(errno).act(|| format!("look for {} in the root file system", target.display()));
            }
            Ok(_) if existing == names.len() => return Ok(Found::There),
            Ok(directory) => {
                let below = names.get(existing..).unwrap_or_default();
                if let Ok(link) = readlinkat(&directory, below[0], Vec::new()) {
                    let link = PathBuf::from(OsStr::from_bytes(link.as_bytes()));
                    let rest: PathBuf = below[1..].iter().collect();
                    // An absolute target replaces what stands before it; the root is the same for both.
                    return Ok(Found::Link(path.join(link).join(rest)));
                }
                let before = rustix::fs::fstat(&directory).act(|| format!("look at {}", path.display()))?;
                let names = below.iter().filter_map(|name| CString::new(*name).ok()).collect();
                return Ok(Found::Nothing(Box::new(Missing {
                    directory,
                    before,
                    names,
                    depth: existing,
                    target: target.into(),
                    wanted: target.into(),
                })));
            }
        }
    }
    Ok(Found::There)
}

impl Missing {
    fn make(&self, is_directory: bool) -> Result<()> {
        let act = || format!("make mount point {}", self.wanted.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut above = self.directory.try_clone().act(act)?;
        for (at, name) in self.names.iter().enumerate() {
            let made = if is_directory || at + 1 < self.names.len() {
                mkdirat(&above, name, Mode::from_raw_mode(0o755))
            } else {
                mknodat(&above, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
            };
            match made {
                // For another target, or by the container itself.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno).act(act),
            }
            if at + 1 < self.names.len() {
                above = openat(&above, name, flags, Mode::empty()).act(act)?;
            }
        }
        Ok(())
    }

    fn remove(self) -> Result<()> {
        let act = || "remove a mount point from the root file system";
        let names = &self.names;
        for depth in (0..names.len()).rev() {
            let (above, name) = (names.get(..depth).unwrap_or_default(), &names[depth]);
            let above: PathBuf = above.iter().map(|name| PathBuf::from(name.to_string_lossy().into_owned())).collect();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let directory = match openat2(&self.directory, Path::new(".").join(&above), flags, Mode::empty(), resolve) {
                // What the command put in its place is its own.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                directory => directory.act(act)?,
            };
            let Ok(found) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let removed = match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => unlinkat(&directory, name, AtFlags::REMOVEDIR),
                FileType::RegularFile if found.st_size == 0 => unlinkat(&directory, name, AtFlags::empty()),
                _ => Ok(()),
            };
            match removed {
                Ok(()) | Err(Errno::NOTEMPTY) => {}
                Err(errno) => return Err(errno).act(act),
            }
        }
        self.restore_times().act(|| "restore a directory's times")
    }

    fn restore_times(&self) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat2(&self.directory, c".", flags, Mode::empty(), ResolveFlags::BENEATH)?;
        utimensat(&directory, c".", &times(&self.before), AtFlags::empty())
    }
}
