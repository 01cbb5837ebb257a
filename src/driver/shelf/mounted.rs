//! Which mounts show volumes: a bind mount shows its directory as its root, an overlay as its source.

use std::path::Path;

use super::Shelf;
use crate::{
    driver::{Recogniser, pool::PoolSpec},
    error::{Act as _, Error, Kind, Result},
    fs::{MountEntry, holders, home, lasting_mounts, mount_table},
    id::VolumeId,
};

impl Shelf {
    /// Tells of a mount which volume it shows, if any.
    fn shown(&self) -> Result<impl Fn(&MountEntry) -> Option<VolumeId> + use<>> {
        let given = self.base();
        let base = given.canonicalize().act(|| format!("find {}", given.display()))?;
        let home = home(&mount_table()?, &base);
        let volume = |path: &Path, base: &Path| -> Option<VolumeId> {
            path.strip_prefix(base).ok()?.components().next()?.as_os_str().to_str()?.parse().ok()
        };
        Ok(move |mount: &MountEntry| match (mount.fstype.as_str(), &home) {
            ("overlay", _) => volume(&mount.source, &base).or_else(|| volume(&mount.source, &given)),
            (_, Some((device, inside))) if mount.device == *device => volume(&mount.root, inside),
            _ => None,
        })
    }

    /// The volumes that are mounted here.
    pub(in crate::driver) fn active(&self) -> Result<Vec<VolumeId>> {
        let mut found: Vec<VolumeId> = mount_table()?.iter().filter_map(self.shown()?).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// See [`crate::driver::Driver::recognise`].
    pub(in crate::driver) fn recognise(&self, id: VolumeId) -> Result<Recogniser> {
        let shown = self.shown()?;
        Ok(Box::new(move |mount| shown(mount) == Some(id)))
    }
}

/// Fails if a volume of a whole pool is mounted in any namespace.
///
/// # Errors
/// `InUse` with who has it.
pub(in crate::driver) fn refuse_if_mounted(spec: &PoolSpec) -> Result<()> {
    if !["pool", "volumes", "work"].iter().all(|name| spec.directory.join(name).exists()) {
        return Ok(());
    }
    let shown = Shelf::open(spec)?.shown()?;
    let found = lasting_mounts(|mount| shown(mount).is_some())?;
    match found.first().and_then(|first| shown(&first.mount)) {
        None => Ok(()),
        Some(id) => Err(Error::new(Kind::InUse, format!("volume {id} is {}", holders(&found)))),
    }
}
