//! The way down into a directory tree of any depth, and a walk over all of it.
//!
//! Invariant: at most [`OPEN_LEVELS`] descriptors are open however deep the tree is, and coming back up arrives in the
//! very directory that was left, or fails.

use std::{
    ffi::{CStr, CString, OsStr},
    mem,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    vec,
};

use rustix::{
    fs::{Dir, Mode, OFlags, ResolveFlags, Stat, fstat, openat2},
    io::Errno,
};

use super::entry::{Place, identity, is_dir};
use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
};

/// A process has 1024 descriptors by default, and two or three trees are walked at once.
const OPEN_LEVELS: usize = 64;

/// Where we are in a tree.
#[derive(Debug)]
pub struct Descent {
    here: OwnedFd,
    above: Vec<Above>,
}

#[derive(Debug)]
struct Above {
    identity: (u64, u64),
    /// `None` below the first [`OPEN_LEVELS`].
    dir: Option<OwnedFd>,
}

impl Descent {
    /// Starts at `root`, which may be an `O_PATH` descriptor.
    ///
    /// # Errors
    /// When it cannot be opened for reading.
    pub fn new(root: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self { here: Place::new(&root, c".").open_dir()?, above: Vec::new() })
    }

    /// The directory where we are.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// Goes into the directory `name`.
    ///
    /// # Errors
    /// When it cannot be opened; then we stay.
    pub fn enter(&mut self, name: &CStr) -> Result<()> {
        let below = Place::new(&self.here, name).open_dir()?;
        self.go_to(below)
    }

    /// [`Descent::enter`], but not into what is mounted there.
    ///
    /// # Errors
    /// Also `InUse` if something is.
    pub fn enter_unmounted(&mut self, name: &CStr) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match openat2(&self.here, name, flags, Mode::empty(), resolve) {
            Err(Errno::XDEV) => {
                let what = "something is mounted on it, which is not touched; unmount that first";
                Err(Error::new(Kind::InUse, what))
            }
            opened => self.go_to(opened.act(|| "open it")?),
        }
        .act(|| format!("go into directory '{}'", name.to_string_lossy().escape_debug()))
    }

    fn go_to(&mut self, below: OwnedFd) -> Result<()> {
        let identity = identity(&fstat(&self.here).act(|| "look at a directory")?);
        let left = mem::replace(&mut self.here, below);
        let dir = (self.above.len() < OPEN_LEVELS).then_some(left);
        self.above.push(Above { identity, dir });
        Ok(())
    }

    /// Goes back up.
    ///
    /// # Errors
    /// When the directory has been moved elsewhere in the meantime, or we are at the root.
    pub fn leave(&mut self) -> Result<()> {
        let above = self.above.pop().ok_or_else(|| Error::new(Kind::Invalid, "there is nothing above the root"))?;
        self.here = match above.dir {
            Some(dir) => dir,
            None => {
                let dir = Place::new(&self.here, c"..").open_dir()?;
                if identity(&fstat(&dir).act(|| "look at a directory")?) != above.identity {
                    return Err(Error::new(Kind::InUse, "a directory was moved while its tree was read"));
                }
                dir
            }
        };
        Ok(())
    }
}

/// The names in a directory but `.` and `..`, sorted by bytes.
///
/// # Errors
/// The kernel's reason.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).act(|| "read directory")? {
        let name = entry.act(|| "read directory")?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Adds a name to a path; the bytes are kept as they are.
pub(super) fn push_name(path: &mut PathBuf, name: &CStr) {
    path.push(OsStr::from_bytes(name.to_bytes()));
}

/// An entry met by [`walk`].
#[derive(Debug)]
pub struct Found<'a> {
    /// Its path below the root.
    pub path: &'a Path,
    /// Where it is.
    pub place: Place<'a>,
    /// What it is.
    pub stat: &'a Stat,
}

/// How a [`walk`] goes on from what it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into it, if it is a directory.
    Down,
    /// Past it.
    On,
}

/// Whether a name no longer means the directory that it meant.
fn is_gone(error: &Error) -> bool {
    matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

/// Visits everything below `root`, not `root` itself: names sorted by bytes, each directory before what it holds.
/// What vanishes meanwhile is passed over.
///
/// # Errors
/// The first failure of a call or of `visit`; `Interrupted`.
pub fn walk(root: BorrowedFd<'_>, visit: &mut dyn FnMut(&Found<'_>) -> Result<Way>) -> Result<()> {
    let mut descent = Descent::new(root)?;
    let mut path = PathBuf::new();
    let mut levels: Vec<vec::IntoIter<CString>> = vec![names(descent.here())?.into_iter()];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.next() else {
            levels.pop();
            path.pop();
            if !levels.is_empty() {
                descent.leave()?;
            }
            continue;
        };
        interrupt::check()?;
        let place = Place { dir: descent.here(), name: &name };
        let Some(stat) = place.stat()? else { continue };
        push_name(&mut path, &name);
        let way = visit(&Found { path: &path, place, stat: &stat })?;
        if way == Way::Down && is_dir(&stat) {
            match descent.enter(&name) {
                // Removed, or replaced, since it was looked at.
                Err(error) if is_gone(&error) => drop(path.pop()),
                entered => {
                    entered.act(|| path.display().to_string())?;
                    levels.push(names(descent.here())?.into_iter());
                }
            }
        } else {
            path.pop();
        }
    }
    Ok(())
}
