//! `check`: the pool, its file systems, the database and the mounts against each other.
//!
//! Invariant: it may run beside other commands. A volume is only called foreign if no row had it before and after the
//! pool was listed, and it is still there then; a row only lost if it was ready before and after.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path};

use serde::Serialize;

use super::{
    Lock, SnapshotKind, Store, blob,
    ground::mounted_containers,
    snapshot::{Info, State},
};
use crate::{
    error::{Act as _, Result},
    fs::{MountEntry, mounts_below, unmount},
    id::VolumeId,
};

/// One thing that is not as it should be.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// Whether it was put right.
    pub repaired: bool,
}

impl Finding {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), repaired: false }
    }

    fn repaired_by(self, repair: bool, act: impl FnOnce() -> Result<()>) -> Self {
        if !repair {
            return self;
        }
        match act() {
            Ok(()) => Self { repaired: true, ..self },
            Err(error) => Self::new(format!("{}; repairing it failed: {error}", self.what)),
        }
    }
}

impl Store {
    /// Looks for everything that contradicts, and with `repair` puts right what can be put right without losing data.
    ///
    /// # Errors
    /// When the pool or the database cannot be read at all.
    pub fn check(&self, repair: bool) -> Result<Vec<Finding>> {
        let mut findings: Vec<Finding> = self.database.integrity()?.into_iter().map(Finding::new).collect();
        if self.driver.status()?.health.is_stopped() {
            let what = "the kernel has stopped writing to the pool; 'lamina check --repair' takes it down, mends it and brings it up";
            findings.push(Finding::new(what));
            // Neither can its volumes be listed then, nor anything be put right.
            return Ok(findings);
        }
        findings.extend(self.driver.check()?.into_iter().map(Finding::new));
        findings.extend(self.damaged_volumes(repair)?);
        findings.extend(self.compare_volumes()?);
        findings.extend(self.compare_blobs(repair)?);
        findings.extend(self.stray_mounts(repair)?);
        findings.extend(self.stray_devices(repair)?);
        findings.extend(self.unwanted()?);
        Ok(findings)
    }

    fn rows(&self) -> Result<BTreeMap<VolumeId, Info>> {
        let rows = self.database.read("list snapshots", Info::all)?;
        Ok(rows.into_iter().map(|info| (info.volume, info)).collect())
    }

    fn compare_volumes(&self) -> Result<Vec<Finding>> {
        let before = self.rows()?;
        let there = self.driver.volumes()?;
        let after = self.rows()?;
        let unknown = |volume: &VolumeId| !before.contains_key(volume) && !after.contains_key(volume);
        let still = if there.iter().any(unknown) { self.driver.volumes()? } else { Vec::new() };
        let foreign = there.iter().filter(|volume| unknown(volume) && still.contains(volume)).map(|volume| {
            // Nobody but its owner knows what it is worth: the database may be an old copy.
            Finding::new(format!(
                "volume {volume} is in the pool and the database does not know it; it stays until a database that does is brought back, or the pool is destroyed"
            ))
        });
        let ready =
            |rows: &BTreeMap<VolumeId, Info>, volume| rows.get(volume).is_some_and(|info| info.state == State::Ready);
        let lost = after.values().filter(|info| ready(&before, &info.volume) && ready(&after, &info.volume));
        let lost = lost.filter(|info| !there.contains(&info.volume)).map(|info| {
            Finding::new(format!(
                "volume {} of {} snapshot {} is not in the pool; remove what needs it with 'lamina rm' and 'lamina rmi'",
                info.volume,
                info.kind.name(),
                info.key
            ))
        });
        Ok(foreign.chain(lost).collect())
    }

    /// The kept archives of layers against the rows that tell of them.
    fn compare_blobs(&self, repair: bool) -> Result<Vec<Finding>> {
        let before = self.rows()?;
        let there = blob::list(&self.layout)?;
        let after = self.rows()?;
        let known = |name: &OsStr| before.values().chain(after.values()).any(|info| info.cache_id.as_str() == name);
        // A file goes before its row does, so what is there still when no row is, belongs to none.
        let still = if there.keys().all(|name| known(name)) { BTreeMap::new() } else { blob::list(&self.layout)? };
        let stray = still.keys().filter(|name| there.contains_key(*name) && !known(name)).map(|name| {
            let path = self.layout.blobs().join(name);
            Finding::new(format!("{} belongs to no layer", path.display()))
                .repaired_by(repair, || fs::remove_file(&path).act(|| format!("remove {}", path.display())))
        });
        let lasting = after.values().filter(|info| info.state == State::Ready && before.contains_key(&info.volume));
        let wrong = lasting.filter_map(|info| {
            let wanted = before.get(&info.volume)?.blob?.size;
            let what = match there.get(OsStr::new(info.cache_id.as_str())) {
                Some(size) if *size == wanted => return None,
                Some(size) => format!("has {} bytes and {} were expected", size.0, wanted.0),
                None => "is missing".to_owned(),
            };
            let path = self.layout.blob(&info.cache_id);
            Some(Finding::new(format!(
                "{}, the archive that layer {} came from, {what}; remove the images that need it with 'lamina rmi' and load them again",
                path.display(),
                info.key
            )))
        });
        Ok(stray.chain(wrong).collect())
    }

    /// Volumes whose file system has noted errors. What somebody works on is told and left alone.
    fn damaged_volumes(&self, repair: bool) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (volume, what) in self.driver.damaged()? {
            // Looked at with the lock held, so that nobody is about to mount it.
            let lock = self.locks.try_volume(volume)?;
            // What is being made or removed has no file system, or no more.
            let row = self.rows()?.remove(&volume).filter(|info| info.state == State::Ready && info.kept);
            let Some(info) = row else { continue };
            let finding = Finding::new(format!("volume {volume} of snapshot {:.12}: {what}", info.key.as_str()));
            let mounted = mounted_containers(&self.layout)?.values().any(|id| id == info.key.as_str());
            findings.push(match lock {
                // A layer never changes, not even for the better.
                _ if info.kind == SnapshotKind::Committed => finding,
                Some(_lock) if !mounted => finding.repaired_by(repair, || self.driver.mend(volume)),
                _ => Finding::new(format!("{}; it is in use: unmounted, the next mount mends it", finding.what)),
            });
        }
        Ok(findings)
    }

    /// Mounts below `mounts/` whose container is gone, and what is no container's. Only ours are unmounted.
    fn stray_mounts(&self, repair: bool) -> Result<Vec<Finding>> {
        let mut rows = self.rows()?;
        let mut findings = Vec::new();
        let mounts = mounts_below(&self.layout.mounts())?;
        // Of what is made or removed meanwhile, too.
        rows.extend(self.rows()?);
        // The deepest first, as they must be unmounted. What is mounted inside a container is its user's.
        for mount in mounts {
            let Ok(below) = mount.target.strip_prefix(self.layout.mounts()) else { continue };
            let owner = rows.values().find(|info| below == Path::new(info.key.as_str()));
            let inside = rows.values().any(|info| below.starts_with(info.key.as_str()));
            if owner.map_or(Ok(inside), |info| self.recognises(&mount, info.volume))? {
                continue;
            }
            let target = &mount.target;
            findings.push(if owner.is_none() && self.is_ours(&mount)? {
                Finding::new(format!("{} is mounted and belongs to no container", target.display()))
                    .repaired_by(repair, || unmount(target))
            } else {
                Finding::new(format!(
                    "a {} is mounted at {}, where only containers belong; unmount it with 'umount {1}'",
                    mount.fstype,
                    target.display()
                ))
            });
        }
        Ok(findings)
    }

    /// Whether the mount shows any volume of the pool.
    fn is_ours(&self, mount: &MountEntry) -> Result<bool> {
        for volume in self.driver.active()? {
            if self.recognises(mount, volume)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What should have been released when this store was opened, and could not be.
    fn stray_devices(&self, repair: bool) -> Result<Vec<Finding>> {
        let finding = |(volume, _lock): (VolumeId, Lock)| {
            Finding::new(format!("volume {volume} is active and nobody uses it"))
                .repaired_by(repair, || self.driver.release(volume))
        };
        Ok(self.abandoned()?.into_iter().map(finding).collect())
    }

    /// What should have been removed when this store was opened, and cannot be.
    fn unwanted(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let is_unwanted = |info: &Info| info.state != State::Ready || !info.kept;
        for info in self.rows()?.into_values().filter(is_unwanted) {
            // It may have been given up since, by a command that is about to remove it.
            let cause = match self.recover_volume(info.volume) {
                Err(error) => format!(": {error}"),
                // Held by whoever works on it, or finished or gone since.
                Ok(()) if self.locks.try_volume(info.volume)?.is_none() => continue,
                Ok(()) if !self.rows()?.get(&info.volume).is_some_and(is_unwanted) => continue,
                Ok(()) => String::new(),
            };
            let what = format!("volume {} is wanted by nobody and could not be removed{cause}", info.volume);
            findings.push(Finding::new(what));
        }
        Ok(findings)
    }
}
