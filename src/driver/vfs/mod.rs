//! The vfs driver: a full copy of the tree for every volume. It shares nothing, on purpose: it is what the other
//! mechanisms are compared with.
//!
//! Invariant: see [`shelf`]. Files are copied by reading and writing, also where the file system below could share
//! their blocks.
//!
//! [`Driver::capture`] of a volume that is written meanwhile copies file by file: each file is as it was when it was
//! opened, but not all of one instant, because a directory of the host cannot be frozen.

use std::os::fd::AsFd as _;

use super::{
    Access, Changes, DriverKind,
    pool::PoolSpec,
    shelf::{self, Shelf, Shelved},
};
use crate::{
    error::Result,
    fs::{MountSpec, Verdict, compare},
    id::VolumeId,
};

/// See [`Driver`].
#[derive(Debug)]
pub struct Vfs {
    shelf: Shelf,
}

pub(super) fn supported() -> Result<()> {
    Ok(())
}

pub(super) fn create(spec: &PoolSpec) -> Result<()> {
    shelf::create(spec, |_| Ok(()))
}

pub(super) fn destroy(spec: &PoolSpec) -> Result<()> {
    shelf::destroy(spec)
}

impl Vfs {
    pub(super) fn open(spec: &PoolSpec) -> Result<Self> {
        Ok(Self { shelf: Shelf::open(spec)? })
    }
}

impl Shelved for Vfs {
    const KIND: DriverKind = DriverKind::Vfs;

    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn make_child(&self, id: VolumeId, parent: VolumeId) -> Result<()> {
        self.shelf.copy(id, parent, Access::ReadWrite)
    }

    fn spec(&self, id: VolumeId, _: &[VolumeId], access: Access) -> Result<MountSpec> {
        Ok(MountSpec::Bind { directory: self.shelf.base().join(id.to_string()), access })
    }

    fn compared(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes> {
        let parent = parents.first().map(|parent| self.shelf.tree(*parent)).transpose()?;
        let child = self.shelf.tree(id)?;
        compare(parent.as_ref().map(|dir| dir.as_fd()), child.as_fd(), &mut |_| Ok(Verdict::Unknown))
    }
}
