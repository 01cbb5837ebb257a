//! The mount points that a container's runs made in its volume: `/proc`, `/dev`, `/etc/hosts` and the like, where the
//! image has none. They are no change of the container's, and in no layer.
//!
//! Invariant: only what was missing before a run, and is as bare as the runtime made it, is left out. A file in a
//! directory that was a mount point is the container's, and so is then the directory.

use std::{
    collections::HashSet,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Stat, fstat, unlinkat, utimensat};

use super::{Container, Containers};
use crate::{
    driver::{Access, Change, ChangeKind, Changes},
    error::{Act as _, Error, Kind, Result},
    fs::{Mounted, Place, differs, file_type, is_dir, locate, times},
    runtime::made_mount_points,
    store::Held,
};

impl<'store> Containers<'store> {
    /// `changes` of the sealed copy `held` without mount points, and those that were left out, children first.
    pub(super) fn without_mount_points(
        &self,
        container: &Container,
        held: &Held<'_>,
        changes: Changes,
    ) -> Result<(Changes, Changes)> {
        let made = made_mount_points(&self.home(container).mount_points())?;
        let made: HashSet<PathBuf> = made.into_iter().map(PathBuf::from).collect();
        if !changes.iter().any(|change| made.contains(&change.path)) {
            return Ok((changes, Changes::new()));
        }
        let tree = held.mounted(Access::ReadOnly)?;
        let below = self.parent_tree(container)?;
        let trees = Trees { child: tree.root(), parent: below.as_ref().map(Mounted::root) };
        trees.leave_out(changes, &made)
    }

    fn parent_tree(&self, container: &Container) -> Result<Option<Mounted>> {
        let Some(parent) = self.snapshot(container)?.parent else { return Ok(None) };
        let mounted = Mounted::detached(&self.store.mounts(&parent)?)?;
        self.store.release(&parent)?;
        Ok(Some(mounted))
    }

    /// The sealed copy `held` of the container without the mount points `left_out`: one more snapshot, from which they are
    /// taken away, so that it shares with the container all else that it has.
    pub(super) fn bared(&self, container: &Container, held: &Held<'store>, left_out: &Changes) -> Result<Held<'store>> {
        let bared = held.captured(Access::ReadWrite)?;
        self.unlimit(container, &bared)?;
        let below = self.parent_tree(container)?;
        let tree = bared.mounted(Access::ReadWrite)?;
        Trees { child: tree.root(), parent: below.as_ref().map(Mounted::root) }
            .take_away(left_out)
            .map_err(|error| self.store.explain(error))?;
        drop(tree);
        bared.seal()?;
        Ok(bared)
    }

    /// A container's limit is not the image's.
    pub(super) fn unlimit(&self, container: &Container, held: &Held<'_>) -> Result<()> {
        match self.snapshot(container)?.size_limit {
            Some(_) => self.store.driver().unlimit(held.volume()),
            None => Ok(()),
        }
    }
}

struct Trees<'t> {
    child: BorrowedFd<'t>,
    parent: Option<BorrowedFd<'t>>,
}

impl Trees<'_> {
    fn leave_out(&self, changes: Changes, made: &HashSet<PathBuf>) -> Result<(Changes, Changes)> {
        // Directories below which something is kept, or was left out.
        let (mut holds, mut held): (HashSet<PathBuf>, HashSet<PathBuf>) = (HashSet::new(), HashSet::new());
        let above = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
        let (mut kept, mut left_out) = (Vec::with_capacity(changes.len()), Vec::new());
        // From the end on: what is in a directory comes before it then.
        for change in changes.into_iter().rev() {
            let empty = !holds.contains(&change.path);
            let bare = match change.kind {
                ChangeKind::Added => empty && made.contains(&change.path) && self.is_bare(&change.path)?,
                ChangeKind::Changed => empty && held.contains(&change.path) && !self.differs(&change)?,
                ChangeKind::Deleted => false,
            };
            if bare {
                held.insert(above(&change.path));
                left_out.push(change);
            } else {
                holds.insert(above(&change.path));
                kept.push(change);
            }
        }
        kept.reverse();
        Ok((kept, left_out))
    }

    /// Removes them, and gives the directories that hold them the times that they had.
    fn take_away(&self, left_out: &Changes) -> Result<()> {
        for change in left_out {
            let act = || format!("take away the mount point {}", change.path.display());
            let gone = || Error::new(Kind::Corrupt, format!("{}: it is not there any more", act()));
            let located = locate(self.child, &change.path)?.ok_or_else(gone)?;
            let Place { dir, name } = located.place();
            let stat = located.place().stat()?.ok_or_else(gone)?;
            if change.kind == ChangeKind::Added {
                let above = fstat(dir).act(act)?;
                let flags = if is_dir(&stat) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                unlinkat(dir, name, flags).act(act)?;
                utimensat(dir, c".", &times(&above), AtFlags::empty()).act(act)?;
            } else if let Some(before) = self.in_parent(&change.path)? {
                utimensat(dir, name, &times(&before), AtFlags::SYMLINK_NOFOLLOW).act(act)?;
            }
        }
        Ok(())
    }

    fn in_parent(&self, path: &Path) -> Result<Option<Stat>> {
        let Some(parent) = self.parent else { return Ok(None) };
        locate(parent, path)?.map_or(Ok(None), |located| located.place().stat())
    }

    /// As a runtime makes it: a directory, or a file without content.
    fn is_bare(&self, path: &Path) -> Result<bool> {
        let Some(located) = locate(self.child, path)? else { return Ok(false) };
        let Some(stat) = located.place().stat()? else { return Ok(false) };
        Ok(is_dir(&stat) || (file_type(&stat) == FileType::RegularFile && stat.st_size == 0))
    }

    /// Whether a directory that both trees have differs, apart from what is in it.
    fn differs(&self, change: &Change) -> Result<bool> {
        let Some(parent) = self.parent else { return Ok(true) };
        let (Some(old), Some(new)) = (locate(parent, &change.path)?, locate(self.child, &change.path)?) else {
            return Ok(true);
        };
        match (old.place().stat()?, new.place().stat()?) {
            (Some(before), Some(after)) => differs((old.place(), &before), (new.place(), &after)),
            _ => Ok(true),
        }
    }
}
