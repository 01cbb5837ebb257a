//! The thin driver: a volume is a thin device in one pool, and a snapshot is one message to that pool.
//!
//! Volume `n` is thin device `n`; thin device 0 is the empty base volume, formatted when the pool was made and marked
//! with the pool's UUID as its file system's. All devices have one constant virtual length ([`filesystem`]).
//!
//! Invariant: the pool's own metadata is the only record of which volumes exist.

mod backing;
mod changes;
mod check;
mod damage;
mod filesystem;
mod growth;
mod lifecycle;
mod limit;
mod marks;
mod pool;
mod volume;

use std::os::fd::BorrowedFd;

use super::{Access, Changes, Driver, DriverKind, PoolStatus, Recogniser, Space, Usage, pool::PoolSpec};
use crate::{
    block::{
        self, Info,
        thin_pool::{Filled, METADATA_BLOCK, Message, Status},
    },
    error::{Act as _, Error, Kind, Result},
    fs::MountSpec,
    id::VolumeId,
    units::Bytes,
};
use lifecycle::{BASE, Backings};

/// See [`Driver`].
#[derive(Debug)]
pub struct Thin {
    spec: PoolSpec,
    pool: pool::Pool,
}

pub(super) fn supported() -> Result<()> {
    pool::control().map(drop)
}

pub(super) use check::repair;
pub(super) use lifecycle::{close, create, destroy, is_up, loops};

impl Thin {
    pub(super) fn open(spec: &PoolSpec) -> Result<Self> {
        Ok(Self { spec: spec.clone(), pool: lifecycle::open(spec)? })
    }

    pub(super) fn open_up(spec: &PoolSpec) -> Result<Option<Self>> {
        Ok(lifecycle::open_up(spec)?.map(|pool| Self { spec: spec.clone(), pool }))
    }

    fn active_if(&self, wanted: impl Fn(&Info) -> bool) -> Result<Vec<VolumeId>> {
        let active = lifecycle::active(&self.pool).act(|| "list active volumes")?;
        let wanted = active.into_iter().filter(|(id, info)| *id != BASE && wanted(info));
        wanted.map(|(id, _)| VolumeId::new(id.into())).collect()
    }

    fn own(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Usage> {
        let chunks = u64::try_from(self.difference(id, parents)?.own.len()).unwrap_or(u64::MAX);
        Ok(Usage { exclusive: Bytes(chunks.saturating_mul(self.spec.chunk.0)) })
    }

    fn reject_base(id: VolumeId) -> Result<u32> {
        match id.get() {
            BASE => Err(Error::new(Kind::Invalid, "volume 0 is the pool's own empty volume")),
            id => Ok(id),
        }
    }
}

impl Driver for Thin {
    fn kind(&self) -> DriverKind {
        DriverKind::Thin
    }

    fn create(&self, id: VolumeId) -> Result<()> {
        let message = Message::CreateSnap { id: Self::reject_base(id)?, origin: BASE };
        self.pool.message(message).act(|| format!("create volume {id}"))
    }

    fn snapshot(&self, id: VolumeId, parents: &[VolumeId]) -> Result<()> {
        let new = Self::reject_base(id)?;
        let parent = parents.first().ok_or_else(|| Error::new(Kind::Invalid, "a snapshot needs a parent"))?;
        self.pool.snapshot(new, parent.get()).act(|| format!("create snapshot {id} of {parent}"))
    }

    fn capture(&self, id: VolumeId, source: VolumeId, _: Access) -> Result<()> {
        let new = Self::reject_base(id)?;
        let act = || format!("capture volume {source} as {id}");
        self.pool.snapshot(new, source.get()).act(act)?;
        // Frozen, the source left nothing to replay; unmounted, it may have been killed by a power failure.
        let settled = self.pool.settle(new, self.spec.fs);
        settled.map_err(|error| error.and_undo(self.pool.delete(new))).act(act)
    }

    fn seal(&self, id: VolumeId) -> Result<()> {
        let sealed = self.pool.deactivate(id.get()).and_then(|()| self.pool.settle(id.get(), self.spec.fs));
        sealed.act(|| format!("seal volume {id}"))
    }

    fn delete(&self, id: VolumeId) -> Result<()> {
        self.pool.delete(Self::reject_base(id)?).act(|| format!("delete volume {id}"))
    }

    fn mounts(&self, id: VolumeId, _: &[VolumeId], access: Access) -> Result<MountSpec> {
        let device = self.pool.activate(Self::reject_base(id)?, access)?;
        if access == Access::ReadWrite {
            damage::mend_if_noted(&device).map_err(|error| error.and_undo(self.release(id)))?;
        }
        Ok(filesystem::mount_spec(self.spec.fs, device, access))
    }

    fn release(&self, id: VolumeId) -> Result<()> {
        self.pool.deactivate(id.get()).act(|| format!("release volume {id}"))
    }

    fn reserve(&self, id: VolumeId, root: BorrowedFd<'_>, bytes: Bytes) -> Result<()> {
        filesystem::reserve(self.spec.fs, root, bytes).act(|| format!("make room in volume {id}"))
    }

    fn limit(&self, id: VolumeId, size: Bytes) -> Result<()> {
        self.limit_volume(Self::reject_base(id)?, size).act(|| format!("limit volume {id} to {size}"))
    }

    fn unlimit(&self, id: VolumeId) -> Result<()> {
        self.unlimit_volume(Self::reject_base(id)?).act(|| format!("take the limit from volume {id}"))
    }

    fn usage(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Usage> {
        self.own(id, parents).act(|| format!("measure volume {id}"))
    }

    fn marks(&self, ids: &[VolumeId]) -> Result<Vec<Option<String>>> {
        self.content_marks(ids).act(|| "tell what was written to volumes")
    }

    fn written(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Option<Bytes>> {
        self.written_now(id, parents).act(|| format!("tell what was written to volume {id}"))
    }

    fn changes(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes> {
        self.tree_changes(id, parents).act(|| format!("compare volume {id} with its parent"))
    }

    fn volumes(&self) -> Result<Vec<VolumeId>> {
        let devices = self.pool.with_metadata(|metadata| metadata.devices()).act(|| "list volumes")?;
        devices.into_keys().filter(|id| *id != u64::from(BASE)).map(VolumeId::new).collect()
    }

    fn active(&self) -> Result<Vec<VolumeId>> {
        self.active_if(|_| true)
    }

    fn recognise(&self, id: VolumeId) -> Result<Recogniser> {
        let device = self.pool.control.info(&self.pool.names.volume(Self::reject_base(id)?))?.map(|info| info.number);
        Ok(Box::new(move |mount| Some(mount.device) == device))
    }

    fn idle(&self) -> Result<Vec<VolumeId>> {
        self.active_if(|info| info.open_count == 0)
    }

    fn place(&self, id: VolumeId, _: &[VolumeId]) -> Result<Vec<(&'static str, String)>> {
        let number = Self::reject_base(id)?;
        Ok(vec![
            ("DeviceId", number.to_string()),
            ("DeviceName", self.pool.names.volume(number).name),
            ("DeviceSize", filesystem::LENGTH.0.to_string()),
        ])
    }

    fn status(&self) -> Result<PoolStatus> {
        let status = self.pool.status()?;
        let chunk = self.pool.chunk();
        let space = |filled: Filled, unit: Bytes| Space {
            total: Bytes(filled.total.saturating_mul(unit.0)),
            used: Bytes(filled.used.saturating_mul(unit.0)),
        };
        let (data, metadata) = match status {
            Status::Fail => (Space::default(), Space::default()),
            Status::Up { data, metadata, .. } => (space(data, chunk), space(metadata, METADATA_BLOCK)),
        };
        let backing_free = Backings::of(&self.spec).data.free_below()?;
        Ok(PoolStatus { data, metadata, backing_free, chunk, health: pool::health(&status) })
    }

    fn grow(&self, size: Bytes) -> Result<()> {
        growth::grow(&self.spec, size)
    }

    fn extend_metadata(&self) -> Result<bool> {
        growth::extend_metadata(&self.spec, &self.pool)
    }

    fn check(&self) -> Result<Vec<String>> {
        let mut findings = block::harms(&lifecycle::loops(&self.spec)?)?;
        findings.extend(check::check(&self.pool)?);
        Ok(findings)
    }

    fn damaged(&self) -> Result<Vec<(VolumeId, String)>> {
        self.damaged_volumes().act(|| "look at the volumes' file systems")
    }

    fn mend(&self, id: VolumeId) -> Result<()> {
        let id = Self::reject_base(id)?;
        self.pool.while_active(id, Access::ReadWrite, |device| damage::mend_if_noted(&device))
    }
}
