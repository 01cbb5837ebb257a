//! Directories and files of the host seen in a detached mount's tree, as a container sees its volumes.
//!
//! Invariant: the tree is put together in a mount namespace of a thread's own, so nobody else sees any of it, and it
//! vanishes with the value. A place in the tree is found by the kernel inside it, whatever links it holds.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use super::{
    mount::{Access, Mounted, aside, enter_private_namespace, restrict},
    scope::Scope,
};
use crate::error::{Act as _, Result};

/// What of the host is seen where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graft {
    /// The directory or file of the host, with what is mounted below it.
    pub source: PathBuf,
    /// The place in the tree.
    pub target: PathBuf,
    /// Whether it may be written there.
    pub access: Access,
}

impl Mounted {
    /// The same tree with `grafts` in it, in this order; one whose place is not there is left out. Itself it is written
    /// as `access` says.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn with(self, grafts: &[Graft], access: Access) -> Result<Self> {
        let sources = grafts.iter().map(Graft::open).collect::<Result<Vec<_>>>()?;
        let root = self.root().try_clone_to_owned().act(|| "hold a mount")?;
        restrict(&root, access.attributes(), false).act(|| "part a mount from others")?;
        if grafts.is_empty() {
            return Ok(self);
        }
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        aside(move || {
            enter_private_namespace()?;
            self.attach(Path::new("/"))?;
            for (graft, source) in grafts.iter().zip(&sources) {
                graft.attach(source.as_fd(), root.as_fd())?;
            }
            // The clone stays when this thread, its namespace and what is mounted there go.
            open_tree(&root, c"", clone | OpenTreeFlags::AT_EMPTY_PATH).act(|| "take hold of a tree of mounts")
        })
        .map(Self::of_root)
    }
}

impl Graft {
    fn open(&self) -> Result<OwnedFd> {
        let act = || format!("bind {}", self.source.display());
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(CWD, &self.source, flags).act(act)?;
        restrict(&tree, self.access.attributes(), true).act(act)?;
        Ok(tree)
    }

    fn attach(&self, source: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
        let act = || format!("bind {} at {}", self.source.display(), self.target.display());
        let spot = Scope::tree(root).find(&self.target, true).act(act)?;
        if spot.stat.is_none() {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(&spot.dir, &spot.name, flags, Mode::empty()).act(act)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(source, c"", target, c"", flags).act(act)
    }
}
