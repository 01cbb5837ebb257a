//! The vfs driver.

use super::{Access, Changes, Driver, DriverKind, PoolStatus, Usage, pool::PoolSpec};
use crate::{
    error::{Error, Kind, Result},
    fs::MountSpec,
    id::VolumeId,
    units::Bytes,
};

/// See [`Driver`].
#[derive(Debug)]
pub struct Vfs {}

fn not_yet<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "driver vfs is not there yet"))
}

pub(super) fn supported() -> Result<()> {
    not_yet()
}
pub(super) fn create(_: &PoolSpec) -> Result<()> {
    not_yet()
}
pub(super) fn is_up(_: &PoolSpec) -> Result<bool> {
    not_yet()
}
pub(super) fn close(_: &PoolSpec) -> Result<()> {
    not_yet()
}
pub(super) fn destroy(_: &PoolSpec) -> Result<()> {
    not_yet()
}

impl Vfs {
    pub(super) fn open(_: &PoolSpec) -> Result<Self> {
        not_yet()
    }
}

impl Driver for Vfs {
    fn kind(&self) -> DriverKind {
        DriverKind::Vfs
    }
    fn create(&self, _: VolumeId) -> Result<()> {
        not_yet()
    }
    fn snapshot(&self, _: VolumeId, _: &[VolumeId]) -> Result<()> {
        not_yet()
    }
    fn capture(&self, _: VolumeId, _: VolumeId, _: &[VolumeId]) -> Result<()> {
        not_yet()
    }
    fn seal(&self, _: VolumeId) -> Result<()> {
        not_yet()
    }
    fn delete(&self, _: VolumeId) -> Result<()> {
        not_yet()
    }
    fn mounts(&self, _: VolumeId, _: &[VolumeId], _: Access) -> Result<MountSpec> {
        not_yet()
    }
    fn release(&self, _: VolumeId) -> Result<()> {
        not_yet()
    }
    fn reserve(&self, _: VolumeId, _: std::os::fd::BorrowedFd<'_>, _: Bytes) -> Result<()> {
        not_yet()
    }
    fn usage(&self, _: VolumeId, _: &[VolumeId]) -> Result<Usage> {
        not_yet()
    }
    fn changes(&self, _: VolumeId, _: &[VolumeId]) -> Result<Changes> {
        not_yet()
    }
    fn volumes(&self) -> Result<Vec<VolumeId>> {
        not_yet()
    }
    fn active(&self) -> Result<Vec<VolumeId>> {
        not_yet()
    }
    fn status(&self) -> Result<PoolStatus> {
        not_yet()
    }
    fn grow(&self, _: Bytes) -> Result<()> {
        not_yet()
    }
    fn check(&self) -> Result<Vec<String>> {
        not_yet()
    }
}
