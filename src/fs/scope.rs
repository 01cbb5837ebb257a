//! Paths as people write them, found inside a tree that somebody hostile may write meanwhile.
//!
//! Invariant: what is found in a tree is a descriptor of a directory that the kernel resolved inside it
//! (`RESOLVE_IN_ROOT`) and one name, which is never followed: renaming or linking afterwards leads nowhere else.

use std::{
    ffi::CString,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, openat2},
    io::Errno,
};

use super::entry::{Place, file_type, is_dir};
use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
};

/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

/// A tree in which paths are found.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    root: BorrowedFd<'a>,
    resolve: ResolveFlags,
}

/// Where a path leads.
#[derive(Debug)]
pub struct Spot {
    /// The directory; the thing itself if it is the root.
    pub dir: OwnedFd,
    /// Its path below the root, as far as links at its end go.
    pub parent: PathBuf,
    /// The last name; `.` for the root.
    pub name: CString,
    /// What is there; `None` if nothing is.
    pub stat: Option<Stat>,
}

impl Spot {
    /// Directory and name.
    pub fn place(&self) -> Place<'_> {
        Place::new(&self.dir, &self.name)
    }

    /// Whether a directory is there.
    pub fn is_dir(&self) -> bool {
        self.stat.as_ref().is_some_and(is_dir)
    }

    /// Its path below the root.
    pub fn path(&self) -> PathBuf {
        match self.name.to_bytes() {
            b"." => self.parent.clone(),
            name => self.parent.join(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()))),
        }
    }
}

impl<'a> Scope<'a> {
    /// The tree at `root`, which nothing leads out of.
    pub fn tree(root: BorrowedFd<'a>) -> Self {
        Self { root, resolve: ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS) }
    }

    /// The host's own, by its root directory.
    pub fn host(root: BorrowedFd<'a>) -> Self {
        Self { root, resolve: ResolveFlags::empty() }
    }

    /// Finds `path`, which starts at the root whether it has a slash there or not. A link at its end is followed if
    /// `follow`.
    ///
    /// # Errors
    /// `NotFound` if its directory does not exist; `Invalid` if it leads in a circle; what the kernel says.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Spot> {
        let act = || format!("look for {}", path.display());
        let mut at = clean(path);
        for _ in 0..MOST_LINKS {
            interrupt::check()?;
            let (parent, name) = split(&at)?;
            let dir = self.open(&parent).act(act)?;
            let stat = Place::new(&dir, &name).stat().act(act)?;
            let spot = Spot { dir, parent, name, stat };
            if !follow || spot.stat.as_ref().is_none_or(|stat| file_type(stat) != FileType::Symlink) {
                return Ok(spot);
            }
            let target = PathBuf::from(std::ffi::OsString::from_vec(spot.place().link_target().act(act)?.into_bytes()));
            // Below the directory that holds the link; `..` at the root stays there, as in the kernel.
            at = match target.strip_prefix("/") {
                Ok(absolute) => clean(absolute),
                // With links in `parent`, `..` is not the name before: the kernel must say where that is.
                Err(_) => spot.parent.join(target),
            };
        }
        Err(Error::new(Kind::Invalid, format!("{}: too many links", act())))
    }

    /// Opens the directory `path` below the root.
    ///
    /// # Errors
    /// `NotFound` if it is not there or no directory.
    pub fn open(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = Path::new(".").join(path);
        loop {
            return match openat2(self.root, &path, flags, Mode::empty(), self.resolve) {
                // Something was renamed or mounted somewhere while this stood at a `..` (`handle_dots`, fs/namei.c).
                Err(Errno::AGAIN) => {
                    interrupt::check()?;
                    continue;
                }
                Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
                    let error = std::io::Error::from(errno);
                    Err(Error::with_source(Kind::NotFound, format!("open directory {}", path.display()), error))
                }
                opened => opened.act(|| format!("open directory {}", path.display())),
            };
        }
    }
}

/// Without slashes at either end and without `.`; `..` stays, for what is before it may be a link.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir)).collect()
}

/// Directory and last name; a path that ends in `..` is the directory itself.
fn split(path: &Path) -> Result<(PathBuf, CString)> {
    match path.components().next_back() {
        Some(Component::Normal(name)) => {
            let name = CString::new(name.as_encoded_bytes())
                .map_err(|error| Error::with_source(Kind::Invalid, "a name has a zero byte", error))?;
            Ok((path.parent().map(Path::to_owned).unwrap_or_default(), name))
        }
        _ => Ok((path.to_owned(), c".".to_owned())),
    }
}

impl Spot {
    /// Opens the directory that is there.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn open_dir(&self) -> Result<OwnedFd> {
        match self.name.to_bytes() {
            b"." => Place { dir: self.dir.as_fd(), name: c"." }.open_dir(),
            _ => self.place().open_dir(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::{fd::AsFd as _, unix::fs::symlink},
        path::Path,
    };

    use super::Scope;

    #[test]
    fn links_are_followed_inside_and_only_if_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (directory.path().join("root"), directory.path().join("secret"));
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/file"), "").unwrap();
        fs::write(&outside, "").unwrap();
        for (target, link) in [
            ("/d/file", "absolute"),
            ("../../../d/file", "up"),
            ("d", "dir"),
            ("dir/../d/file", "by_dir"),
            ("loop", "loop"),
            ("/gone", "dangling"),
            ("../secret", "away"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let open = File::open(&root).unwrap();
        let scope = Scope::tree(open.as_fd());
        let found = |path: &str, follow| {
            let spot = scope.find(Path::new(path), follow).unwrap();
            (spot.path().display().to_string(), spot.stat.is_some())
        };
        for (path, follow, wanted, there) in [
            ("/d/file", false, "d/file", true),
            ("absolute", false, "absolute", true),
            ("absolute", true, "d/file", true),
            ("/up", true, "../../../d/file", true),
            ("dir/file", true, "dir/file", true),
            ("by_dir", true, "dir/../d/file", true),
            ("dangling", true, "gone", false),
            ("away", true, "../secret", false),
            ("/", true, "", true),
            ("../..", true, "../..", true),
        ] {
            assert_eq!(found(path, follow), (wanted.to_owned(), there), "{path}");
        }
        assert!(scope.find(Path::new("loop"), true).unwrap_err().to_string().contains("too many links"));
        assert!(scope.find(Path::new("/none/x"), true).is_err());
    }
}
