//! What drivers whose volumes lie on a [`Shelf`] answer alike.

use std::{
    fmt,
    os::fd::{AsFd as _, BorrowedFd},
};

use super::Shelf;
use crate::{
    driver::{Access, Changes, Driver, DriverKind, PoolStatus, Recogniser, Usage},
    error::{Error, Kind, Result},
    fs::{MountSpec, allocated, apparent},
    id::VolumeId,
    units::Bytes,
};

/// A driver whose volumes lie on a shelf, and what it does in its own way.
pub(in crate::driver) trait Shelved: fmt::Debug + Send + Sync {
    /// [`Driver::kind`].
    const KIND: DriverKind;

    /// Where the volumes lie.
    fn shelf(&self) -> &Shelf;

    /// [`Driver::snapshot`].
    fn make_child(&self, id: VolumeId, parent: VolumeId) -> Result<()>;

    /// [`Driver::mounts`], of a volume that may be mounted so.
    fn spec(&self, id: VolumeId, parents: &[VolumeId], access: Access) -> Result<MountSpec>;

    /// [`Driver::changes`].
    fn compared(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes>;
}

impl<T: Shelved> Driver for T {
    fn kind(&self) -> DriverKind {
        T::KIND
    }

    fn create(&self, id: VolumeId) -> Result<()> {
        self.shelf().make(id, Access::ReadWrite, |_| Ok(()))
    }

    fn snapshot(&self, id: VolumeId, parents: &[VolumeId]) -> Result<()> {
        let parent = parents.first().ok_or_else(|| Error::new(Kind::Invalid, "a snapshot needs a parent"))?;
        self.make_child(id, *parent)
    }

    fn capture(&self, id: VolumeId, source: VolumeId, _: &[VolumeId]) -> Result<()> {
        self.shelf().copy(id, source, Access::ReadOnly)
    }

    fn seal(&self, id: VolumeId) -> Result<()> {
        self.shelf().seal(id)
    }

    fn delete(&self, id: VolumeId) -> Result<()> {
        self.shelf().delete(id)
    }

    fn mounts(&self, id: VolumeId, parents: &[VolumeId], access: Access) -> Result<MountSpec> {
        self.shelf().admit(id, access)?;
        self.spec(id, parents, access)
    }

    fn release(&self, _: VolumeId) -> Result<()> {
        Ok(())
    }

    fn reserve(&self, _: VolumeId, _: BorrowedFd<'_>, _: Bytes) -> Result<()> {
        Ok(())
    }

    fn usage(&self, id: VolumeId, _: &[VolumeId]) -> Result<Usage> {
        Ok(Usage { exclusive: allocated(self.shelf().tree(id)?.as_fd())? })
    }

    fn changes(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes> {
        self.compared(id, parents)
    }

    fn written(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Option<Bytes>> {
        let changes = self.compared(id, parents)?;
        apparent(self.shelf().tree(id)?.as_fd(), &changes).map(Some)
    }

    fn volumes(&self) -> Result<Vec<VolumeId>> {
        self.shelf().volumes()
    }

    fn active(&self) -> Result<Vec<VolumeId>> {
        self.shelf().active()
    }

    fn recognise(&self, id: VolumeId) -> Result<Recogniser> {
        self.shelf().recognise(id)
    }

    fn status(&self) -> Result<PoolStatus> {
        self.shelf().status()
    }

    fn grow(&self, _: Bytes) -> Result<()> {
        Err(self.shelf().no_growth(T::KIND))
    }

    fn check(&self) -> Result<Vec<String>> {
        self.shelf().check()
    }
}
