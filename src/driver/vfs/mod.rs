//! The vfs driver: a full copy of the tree for every volume. It shares nothing, on purpose: it is what the other
//! mechanisms are compared with.
//!
//! Invariant: see [`shelf`]. Files are copied by reading and writing, also where the file system below could share
//! their blocks.
//!
//! [`Driver::capture`] of a volume that is written meanwhile copies file by file: each file is as it was when it was
//! opened, but not all of one instant, because a directory of the host cannot be frozen.

use std::os::fd::{AsFd as _, BorrowedFd};

use super::{Access, Changes, Driver, DriverKind, PoolStatus, Recogniser, Usage, pool::PoolSpec, shelf, shelf::Shelf};
use crate::{
    error::{Error, Kind, Result},
    fs::{MountSpec, Verdict, allocated, apparent, compare},
    id::VolumeId,
    units::Bytes,
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

impl Driver for Vfs {
    fn kind(&self) -> DriverKind {
        DriverKind::Vfs
    }

    fn create(&self, id: VolumeId) -> Result<()> {
        self.shelf.make(id, Access::ReadWrite, |_| Ok(()))
    }

    fn snapshot(&self, id: VolumeId, parents: &[VolumeId]) -> Result<()> {
        let parent = parents.first().ok_or_else(|| Error::new(Kind::Invalid, "a snapshot needs a parent"))?;
        self.shelf.copy(id, *parent, Access::ReadWrite)
    }

    fn capture(&self, id: VolumeId, source: VolumeId, _: &[VolumeId]) -> Result<()> {
        self.shelf.copy(id, source, Access::ReadOnly)
    }

    fn seal(&self, id: VolumeId) -> Result<()> {
        self.shelf.seal(id)
    }

    fn delete(&self, id: VolumeId) -> Result<()> {
        self.shelf.delete(id)
    }

    fn mounts(&self, id: VolumeId, _: &[VolumeId], access: Access) -> Result<MountSpec> {
        self.shelf.admit(id, access)?;
        Ok(MountSpec::Bind { directory: self.shelf.base().join(id.to_string()), access })
    }

    fn release(&self, _: VolumeId) -> Result<()> {
        Ok(())
    }

    fn reserve(&self, _: VolumeId, _: BorrowedFd<'_>, _: Bytes) -> Result<()> {
        Ok(())
    }

    fn usage(&self, id: VolumeId, _: &[VolumeId]) -> Result<Usage> {
        Ok(Usage { exclusive: allocated(self.shelf.tree(id)?.as_fd())? })
    }

    fn changes(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes> {
        let parent = parents.first().map(|parent| self.shelf.tree(*parent)).transpose()?;
        let child = self.shelf.tree(id)?;
        compare(parent.as_ref().map(|dir| dir.as_fd()), child.as_fd(), &mut |_| Ok(Verdict::Unknown))
    }

    fn written(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Option<Bytes>> {
        let changes = self.changes(id, parents)?;
        apparent(self.shelf.tree(id)?.as_fd(), &changes).map(Some)
    }

    fn volumes(&self) -> Result<Vec<VolumeId>> {
        self.shelf.volumes()
    }

    fn active(&self) -> Result<Vec<VolumeId>> {
        self.shelf.active()
    }

    fn recognise(&self, id: VolumeId) -> Result<Recogniser> {
        self.shelf.recognise(id)
    }

    fn place(&self, id: VolumeId, _: &[VolumeId]) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("Directory", self.shelf.base().join(id.to_string()).display().to_string())])
    }

    fn status(&self) -> Result<PoolStatus> {
        self.shelf.status()
    }

    fn grow(&self, _: Bytes) -> Result<()> {
        Err(self.shelf.no_growth(self.kind()))
    }

    fn check(&self) -> Result<Vec<String>> {
        self.shelf.check()
    }
}
