//! Copy-on-write volumes by one mechanism of the kernel: the trait, its contract, and the four drivers.
//!
//! # Model
//! A **volume** is a file system tree that the driver stores, known by a [`VolumeId`] that the caller chooses. A volume
//! starts empty ([`Driver::create`]) or as a copy-on-write child of a sealed volume ([`Driver::snapshot`]); it is mounted
//! and written; then it is sealed ([`Driver::seal`]) and never changes again, or deleted. A running volume's present
//! state becomes a sibling of it by [`Driver::capture`].
//!
//! Drivers hold no names, parents, or states: the layer store does. Where a driver needs the ancestry (overlay stacks
//! directories; usage is exclusive of parents) the caller passes `parents`, nearest first, every one of them sealed.
//!
//! # Contract of every method
//! - A call either takes effect durably before it returns, or fails and leaves what was there before.
//! - Killed at any instant, it leaves at most a volume under the `id` that it was given: [`Driver::volumes`] lists it,
//!   and [`Driver::delete`] removes whatever there is of it, also half of one.
//! - Calls for different volumes may run at once, from several threads and several processes. Calls for the same
//!   volume are serialised by the caller.
//! - A full pool is [`Kind::Full`], told with numbers and remedy.
//!
//! # Example
//! An import: `create(1)`, mount the [`Driver::mounts`] of 1, unpack, unmount, `release(1)`, `seal(1)`. A container on
//! it: `snapshot(2, [1])`, mount, write. Its changes: `capture(3, 2, [1])`, `changes(3, [1])`, `delete(3)`.

pub mod btrfs;
mod making;
pub mod overlay;
pub mod pool;
mod shelf;
pub mod thin;
pub mod vfs;

use std::{fmt, os::fd::BorrowedFd, str::FromStr};

use serde::{Deserialize, Serialize};

pub use crate::fs::{Access, Change, ChangeKind, Changes};
use crate::{
    error::{Error, Kind, Result},
    fs::{MountEntry, MountSpec, Unwritten, unwritten, unwritten_of_all},
    id::VolumeId,
    units::Bytes,
};

/// Which mechanism stores the volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Device-mapper thin snapshots.
    Thin,
    /// btrfs subvolume snapshots.
    Btrfs,
    /// One directory per layer, stacked by overlayfs: file-level copy-on-write, for comparison.
    Overlay,
    /// A full copy of the tree per volume, for comparison.
    Vfs,
}

impl DriverKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Thin, Self::Btrfs, Self::Overlay, Self::Vfs];

    /// The name on the command line and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Btrfs => "btrfs",
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }

    /// Whether a pool lies on a device of its own and has a size, rather than in directories of the host.
    pub const fn has_device(self) -> bool {
        matches!(self, Self::Thin | Self::Btrfs)
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DriverKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("driver '{text}' is not one of thin, btrfs, overlay, vfs"))
        })
    }
}

/// The file system that a pool lies on must keep this much: the data of writers who are already in goes there.
pub const BACKING_RESERVE: Bytes = Bytes::mib(128);

/// Space that belongs to one volume and not to its parents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks of the pool that this volume has and its parents have not, file system metadata included.
    pub exclusive: Bytes,
}

/// How full one kind of space is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Space {
    /// All there is.
    #[serde(rename = "total_bytes")]
    pub total: Bytes,
    /// What is taken.
    #[serde(rename = "used_bytes")]
    pub used: Bytes,
}

impl Space {
    /// What is left.
    pub fn free(&self) -> Bytes {
        self.total.saturating_sub(self.used)
    }
}

/// Where a pool is between well and broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Reads and writes work.
    Ok,
    /// Data space ran out; writes that need a new block fail until it grows or something is deleted.
    OutOfSpace,
    /// The kernel made the pool read-only; it must be taken down, checked, and brought up again.
    ReadOnly,
    /// The kernel gave the pool up; it must be taken down and repaired.
    Failed,
}

impl Health {
    /// Whether nothing can be written any more, not even a delete, until the pool was taken down.
    pub fn is_stopped(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Failed)
    }
}

/// The state of a pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolStatus {
    /// Space for data.
    pub data: Space,
    /// Space for the mechanism's own metadata.
    pub metadata: Space,
    /// What is free on the file system below sparse backing files; `None` on devices.
    pub backing_free: Option<Bytes>,
    /// The unit in which blocks are shared.
    pub chunk: Bytes,
    /// How it does.
    pub health: Health,
}

impl PoolStatus {
    /// What is taken of both kinds of space.
    pub fn used(&self) -> Bytes {
        self.data.used + self.metadata.used
    }
}

/// Tells of a mount whether it shows a certain volume.
pub type Recogniser = Box<dyn Fn(&MountEntry) -> bool>;

/// See the module's comment for the model and for what holds of every method.
pub trait Driver: fmt::Debug + Send + Sync {
    /// Which mechanism this is.
    fn kind(&self) -> DriverKind;

    /// Makes an empty volume, without running mkfs.
    fn create(&self, id: VolumeId) -> Result<()>;

    /// Makes `id` a writable child of the sealed `parents[0]`: one kernel operation for the block-level drivers,
    /// with no mkfs, no mount and no fork. The parent may be mounted.
    fn snapshot(&self, id: VolumeId, parents: &[VolumeId]) -> Result<()>;

    /// Makes `id` a sibling of `source` that holds its content of one instant, while `source` may be mounted and written:
    /// sealed, or for writing. Never leaves `source` frozen or suspended.
    fn capture(&self, id: VolumeId, source: VolumeId, access: Access) -> Result<()>;

    /// Makes `id`, not mounted, unchangeable from now on. Idempotent. A mechanism that has no mark for it (thin) relies on
    /// the caller, who mounts a sealed volume read-only; the kernel then keeps to that, the journal included.
    fn seal(&self, id: VolumeId) -> Result<()>;

    /// Deletes `id`, not mounted, or what there is of it. Idempotent: nothing there is success.
    fn delete(&self, id: VolumeId) -> Result<()>;

    /// How to mount `id`; activates what must be active for that.
    fn mounts(&self, id: VolumeId, parents: &[VolumeId], access: Access) -> Result<MountSpec>;

    /// Deactivates `id`: now, or if it is mounted, with its last unmount. Idempotent.
    fn release(&self, id: VolumeId) -> Result<()>;

    /// Sees to it that `bytes` more fit into the file system of `id`, mounted read-write with its root open as `root`,
    /// as far as the volume's own size limits it; a full pool shows at the write.
    fn reserve(&self, id: VolumeId, root: BorrowedFd<'_>, bytes: Bytes) -> Result<()>;

    /// What lies in memory still of what was written into a volume's file system, whose root is open as `root`, and counts
    /// as free on the disk below.
    fn unwritten(&self, root: BorrowedFd<'_>) -> Result<Unwritten> {
        if self.kind().has_device() {
            return unwritten(root);
        }
        // Most of the file systems below count what is to be written as used already, but they need not.
        Ok(Unwritten { least: Bytes(0), most: unwritten_of_all()? })
    }

    /// Limits what may be written to `id`, a new snapshot that is not mounted, to `size` beside what its parents have: who
    /// writes more is told that the disk is full, or the quota exceeded, and nobody else notices. It lasts as long as the
    /// volume. Refused where the mechanism has no such limit.
    fn limit(&self, id: VolumeId, size: Bytes) -> Result<()> {
        let what = format!(
            "limit volume {id} to {size}: the {} driver cannot; its volumes are directories of a file system whose project quotas are not its own to set; use btrfs or thin",
            self.kind()
        );
        Err(Error::new(Kind::Unsupported, what))
    }

    /// Takes away what a [`Driver::capture`] has of its source's limit, before others are made of it.
    fn unlimit(&self, id: VolumeId) -> Result<()> {
        let _ = id;
        Ok(())
    }

    /// What belongs to the sealed or unmounted or mounted `id` and not to its parents.
    fn usage(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Usage>;

    /// For each of these volumes a mark of its present content, as it lies on the disk when this returns: equal marks of
    /// one volume mean that nothing was written between, and a volume that nothing was written to has its parent's.
    /// `None` where the mechanism cannot tell without looking at all of it, or there is no such volume.
    ///
    /// What was found after a mark may be kept with it if two calls, one after the other and both before, gave the same.
    fn marks(&self, ids: &[VolumeId]) -> Result<Vec<Option<String>>> {
        Ok(vec![None; ids.len()])
    }

    /// The apparent bytes of the regular files that `id`, which may be mounted and written, added or changed, as
    /// [`Driver::changes`] would tell them. `None` where only that can tell, on a sealed copy.
    fn written(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Option<Bytes>> {
        let _ = (id, parents);
        Ok(None)
    }

    /// How the sealed `id` differs from its nearest parent; from the empty tree if it has none. By content.
    fn changes(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes>;

    /// Every volume that really exists in the pool, in ascending order, the driver's own hidden ones left out.
    fn volumes(&self) -> Result<Vec<VolumeId>>;

    /// The volumes that are in use by the kernel at present (mounted or activated), in ascending order.
    fn active(&self) -> Result<Vec<VolumeId>>;

    /// Tells of mounts, also those of other namespaces, whether they show `id`.
    fn recognise(&self, id: VolumeId) -> Result<Recogniser>;

    /// Those of [`Driver::active`] that no mount and no process holds: activated, and not mounted. None where mounting
    /// is one step.
    fn idle(&self) -> Result<Vec<VolumeId>> {
        Ok(Vec::new())
    }

    /// Where `id` lies, by names that Docker's driver of this mechanism uses too, where it has some (its `GraphDriver.Data`).
    fn place(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Vec<(&'static str, String)>>;

    /// How full and how well the pool is.
    fn status(&self) -> Result<PoolStatus>;

    /// Enlarges the pool's data space to `size`, online. Shrinking is refused.
    fn grow(&self, size: Bytes) -> Result<()>;

    /// Gives what is free in the pool back to the disk below, where deleting does not do so at once.
    fn give_back(&self) -> Result<()> {
        Ok(())
    }

    /// Enlarges the space for the mechanism's own metadata, online, where that is a thing of its own and its backing can
    /// grow. Tells whether it did. Called by one process at a time, as [`Driver::grow`] is.
    fn extend_metadata(&self) -> Result<bool> {
        Ok(false)
    }

    /// Looks for damage: returns a line per finding, empty if the pool is well. May use the mechanism's checker.
    fn check(&self) -> Result<Vec<String>>;

    /// The volumes whose own file system is damaged or has noted errors, and what they are. None where all volumes are
    /// of one file system, which [`Driver::check`] asks.
    fn damaged(&self) -> Result<Vec<(VolumeId, String)>> {
        Ok(Vec::new())
    }

    /// Mends the file system of `id`, not mounted, as far as that loses nothing; a mount for writing does so by itself.
    fn mend(&self, id: VolumeId) -> Result<()> {
        let _ = id;
        Ok(())
    }
}
