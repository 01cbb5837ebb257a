//! The first use of a data volume: it is filled with what the image has in its place.
//!
//! Invariant: the copy is made beside the volume's empty directory and takes its place by one rename, before any container
//! has had the volume. So it is there whole or not at all, and no container ever has a directory that was replaced.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rusqlite::named_params;
use rustix::{
    fs::{Mode, fsync, mkdirat, renameat, syncfs},
    io::Errno,
};

use super::{DATA, Volume, Volumes, open};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::{Place, Scope, copy_tree, names, remove_tree},
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
        self.first(volume, || match Scope::tree(root).open(target) {
            Ok(source) => self.fill(volume, source.as_fd()),
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
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
