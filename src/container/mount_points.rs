//! The mount points that a container's runs made in its volume: `/proc`, `/dev`, `/etc/hosts` and the like, where the
//! image has none. They are no change of the container's, and in no layer.
//!
//! Invariant: only what was missing before a run, and is as bare as the runtime made it, is left out. A file in a
//! directory that was a mount point is the container's, and so is then the directory.

use std::{
    collections::HashSet,
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    thread,
};

use rustix::fs::FileType;

use super::{Container, Containers};
use crate::{
    driver::{Access, Change, ChangeKind, Changes},
    error::{Act as _, Error, Kind, Result},
    fs::{Mounted, differs, file_type, is_dir, locate},
    image::{
        config::Config,
        layer::{self, Stacked},
        pack::pack,
        unpack::unpack,
    },
    runtime::made_mount_points,
    store::{Filling, Held, Key},
};

impl<'store> Containers<'store> {
    /// `changes` of the sealed copy `held` without mount points, and whether any was left out.
    pub(super) fn without_mount_points(
        &self,
        container: &Container,
        held: &Held<'_>,
        changes: Changes,
    ) -> Result<(Changes, bool)> {
        let made = made_mount_points(&self.home(container).mount_points())?;
        let made: HashSet<PathBuf> = made.into_iter().map(PathBuf::from).collect();
        if !changes.iter().any(|change| made.contains(&change.path)) {
            return Ok((changes, false));
        }
        let tree = held.mounted(Access::ReadOnly)?;
        let below = self.parent_tree(container)?;
        let trees = Trees { child: tree.root(), parent: below.as_ref().map(Mounted::root) };
        let before = changes.len();
        let kept = trees.leave_out(changes, &made)?;
        let left_out = kept.len() < before;
        Ok((kept, left_out))
    }

    fn parent_tree(&self, container: &Container) -> Result<Option<Mounted>> {
        let Some(parent) = self.snapshot(container)?.parent else { return Ok(None) };
        let mounted = Mounted::detached(&self.store.mounts(&parent)?)?;
        self.store.release(&parent)?;
        Ok(Some(mounted))
    }

    /// Makes the layer of `changes` on those of `below` from the sealed copy `held`, which holds more than these: a new
    /// snapshot gets just them. It is held: published it is with the image.
    pub(super) fn layer_of(
        &self,
        held: &Held<'_>,
        changes: &Changes,
        below: &Config,
    ) -> Result<(Held<'store>, Stacked)> {
        let parent = crate::id::ChainId::chain(below.diff_ids()).last().copied();
        let draft = self.store.draft(parent.map(Key::layer).as_ref())?;
        let (from, to) = (held.mounted(Access::ReadOnly)?, draft.mounted(Access::ReadWrite)?);
        let mut filling = Filling::of(&draft, &to)?;
        let (reader, writer) = io::pipe().act(|| "make a pipe")?;
        let source = from.root();
        thread::scope(|scope| {
            let packer = scope.spawn(move || pack(source, changes, writer));
            let mut room = |bytes| filling.room(bytes);
            let unpacked = unpack(to.root(), reader, &mut room).map(drop);
            let packed = packer.join().unwrap_or_else(|_| Err(Error::new(Kind::Io, "the packing thread panicked")));
            // A reader that failed is why the writer did.
            unpacked.and(packed.map(drop))
        })
        .map_err(|error| self.store.explain(error))?;
        filling.finish()?;
        drop((from, to));
        let made = draft.changes()?;
        let layer = layer::stack(&draft, &made, below)?;
        Ok((draft, layer))
    }
}

struct Trees<'t> {
    child: BorrowedFd<'t>,
    parent: Option<BorrowedFd<'t>>,
}

impl Trees<'_> {
    fn leave_out(&self, changes: Changes, made: &HashSet<PathBuf>) -> Result<Changes> {
        // Directories below which something is kept, or was left out.
        let (mut holds, mut held): (HashSet<PathBuf>, HashSet<PathBuf>) = (HashSet::new(), HashSet::new());
        let above = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
        let mut kept = Vec::with_capacity(changes.len());
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
            } else {
                holds.insert(above(&change.path));
                kept.push(change);
            }
        }
        kept.reverse();
        Ok(kept)
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
