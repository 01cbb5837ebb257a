//! The first use of a data volume: it is filled with what the image has in its place.
//!
//! Invariant: the copy is made beside the volume's empty directory and takes its place by one rename, before any container
//! has had the volume. So it is there whole or not at all, and no container ever has a directory that was replaced.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rusqlite::named_params;
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, fsync, mkdirat, openat2, renameat, syncfs},
    io::Errno,
};

use super::{DATA, Volume, Volumes, open};
use crate::{
    crash,
    error::{Act as _, Error, Result, kind_of},
    fs::{Place, copy_tree, names, remove_tree},
    store::Sql as _,
};

/// The copy before it is whole.
const PARTIAL: &std::ffi::CStr = c"_data.partial";

impl Volumes<'_> {
    /// Makes the volume ready for a container and tells which directory to bind. The first time, if it is empty, it is
    /// filled with what the tree at `root` has at `target`: content, owners, modes, attributes. Links on the way to
    /// `target` are followed inside `root` and nowhere else. Called before each start.
    ///
    /// # Errors
    /// `Full`, or what the system says; then the volume is as it was.
    pub fn enter(&self, volume: &Volume, root: BorrowedFd<'_>, target: &Path) -> Result<PathBuf> {
        let act = || format!("fill volume {} with what the image has at {}", volume.name, target.display());
        self.first(volume, || match below(root, target)? {
            Some(source) => self.fill(volume, source.as_fd()),
            None => Ok(()),
        })
        .act(act)
    }

    /// The same for a volume that is not to be filled (`:nocopy`).
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn enter_empty(&self, volume: &Volume) -> Result<PathBuf> {
        self.first(volume, || Ok(())).act(|| format!("use volume {}", volume.name))
    }

    fn first(&self, volume: &Volume, fill: impl FnOnce() -> Result<()>) -> Result<PathBuf> {
        // Asked without the lock first: all but the first use need no more.
        if self.is_used(volume)? {
            return Ok(self.path(volume));
        }
        let _lock = self.store.lock_data(volume.number)?;
        if !self.is_used(volume)? {
            fill()?;
            crash::point(crash::Point::DataFilled);
            self.store.database().write("note the first use of a volume", |tx| {
                let used = "UPDATE volumes SET used = 1 WHERE number = :n";
                tx.execute(used, named_params! {":n": volume.number}).sql().map(drop)
            })?;
        }
        Ok(self.path(volume))
    }

    /// With its lock held.
    fn fill(&self, volume: &Volume, source: BorrowedFd<'_>) -> Result<()> {
        let directory: OwnedFd = open(&self.directory(&volume.name))?.into();
        // What an earlier command was killed at.
        remove_tree(directory.as_fd(), PARTIAL)?;
        let empty = |dir: BorrowedFd<'_>| Ok::<_, Error>(names(dir)?.is_empty());
        if !empty(open(&self.path(volume))?.as_fd())? || empty(source)? {
            return Ok(());
        }
        let copy = || -> Result<()> {
            mkdirat(&directory, PARTIAL, Mode::RWXU).act(|| "make a directory")?;
            let partial = Place::new(&directory, PARTIAL).open_dir()?;
            copy_tree(source, partial.as_fd())?;
            // write(2) only fills memory: a full disk shows here.
            syncfs(&partial).act(|| "write it to disk")?;
            crash::point(crash::Point::DataCopied);
            match renameat(&directory, PARTIAL, &directory, DATA) {
                // Somebody put something there meanwhile, which stays.
                Err(Errno::NOTEMPTY | Errno::EXIST) => remove_tree(directory.as_fd(), PARTIAL),
                renamed => renamed.act(|| "give it its name"),
            }?;
            fsync(&directory).act(|| "write its name to disk")
        };
        copy().map_err(|error| error.and_undo(remove_tree(directory.as_fd(), PARTIAL)))
    }
}

/// The directory `path` inside the tree at `root`; `None` if there is none.
fn below(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = Path::new(".").join(path.strip_prefix("/").unwrap_or(path));
    loop {
        return match openat2(root, &path, flags, Mode::empty(), resolve) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            // Something was renamed or mounted somewhere while this stood at a `..` (`handle_dots`, fs/namei.c).
            Err(Errno::AGAIN) => {
                crate::interrupt::check()?;
                continue;
            }
            Err(errno) => {
                let error = io::Error::from(errno);
                Err(Error::with_source(kind_of(&error), format!("look for {} in the image", path.display()), error))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::{fd::AsFd as _, unix::fs::symlink},
        path::Path,
    };

    use super::below;

    #[test]
    fn links_on_the_way_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (directory.path().join("root"), directory.path().join("outside"));
        fs::create_dir_all(root.join("data")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("/data", root.join("absolute")).unwrap();
        symlink("../../outside", root.join("up")).unwrap();
        symlink(&outside, root.join("away")).unwrap();
        let open = File::open(&root).unwrap();
        let found = |path: &str| below(open.as_fd(), Path::new(path)).unwrap().is_some();
        assert!(found("/data") && found("/absolute") && found("/") && found("/../data"));
        assert!(!found("/up") && !found("/away") && !found("/file") && !found("/none"));
    }
}
