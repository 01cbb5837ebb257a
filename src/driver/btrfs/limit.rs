//! How much a volume may write: by simple quotas, which count each block once, for the subvolume that wrote it.
//!
//! Classic quota groups would count what a volume shares with its image and with every sealed copy of it, and cost every
//! commit of everybody time in proportion to what is shared: they are not used. Simple quotas are turned on when the first
//! limit is asked for. From then on kernels before 6.7 cannot mount the pool (`BTRFS_FEATURE_INCOMPAT_SIMPLE_QUOTA`), which
//! is told.

use std::{fs, io, path::Path};

use super::{Btrfs, superblock::dashed};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::VolumeId,
    sys::btrfs,
    units::Bytes,
};

impl Btrfs {
    /// See [`crate::driver::Driver::limit`].
    pub(super) fn limit_volume(&self, id: VolumeId, size: Bytes) -> Result<()> {
        let (_, info) = self.volume(id)?;
        let before = self.quotas()?;
        if before.is_none() {
            btrfs::enable_simple_quota(&self.root).map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => {
                    Error::new(Kind::Unsupported, "this kernel's btrfs has no simple quotas, which came with Linux 6.7")
                }
                _ => Error::with_source(crate::error::kind_of(&error), "turn simple quotas on", error),
            })?;
            tracing::warn!(
                "simple quotas of the btrfs pool are on from now on; kernels before 6.7 cannot bring it up any more"
            );
        }
        match self.quotas()?.as_deref() {
            Some("squota") => {}
            other => {
                let mode = other.unwrap_or("none");
                let what = format!(
                    "the pool has quotas of another kind ({mode}), which somebody turned on; turn them off with 'btrfs quota disable {}'",
                    self.place.mount_point().display()
                );
                return Err(Error::new(Kind::NotOurs, what));
            }
        }
        btrfs::limit_subvolume(&self.root, info.id, size.0).act(|| "set the limit")?;
        // The limit is as durable as the volume. What others have in memory is written, too: there is no commit alone.
        btrfs::sync(&self.root).act(|| "write the limit to disk")
    }

    /// Which kind of quotas is on, if any.
    fn quotas(&self) -> Result<Option<String>> {
        let mode = Path::new("/sys/fs/btrfs").join(dashed(self.place.uuid)).join("qgroups/mode");
        match fs::read_to_string(&mode) {
            Ok(mode) => Ok(Some(mode.trim().to_owned()).filter(|mode| mode != "disabled")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).act(|| format!("read {}", mode.display())),
        }
    }
}
