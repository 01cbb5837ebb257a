//! `check`: the pool, the database and the mounts against each other.
//!
//! Invariant: it may run beside other commands. A volume is only called foreign if no row had it before and after the
//! pool was listed, and it is still there then; a row only lost if it was ready before and after.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Key, Store,
    snapshot::{Info, State},
};
use crate::{
    error::Result,
    fs::{mounts_below, unmount},
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
        findings.extend(self.driver.check()?.into_iter().map(Finding::new));
        if self.driver.status()?.health.is_stopped() {
            let what = "the kernel has stopped writing to the pool; 'lamina check --repair' takes it down, mends it and brings it up";
            findings.push(Finding::new(what));
            // Neither can its volumes be listed then, nor anything be put right.
            return Ok(findings);
        }
        findings.extend(self.compare_volumes(repair)?);
        findings.extend(self.stray_mounts(repair)?);
        findings.extend(self.stray_devices(repair)?);
        Ok(findings)
    }

    fn rows(&self) -> Result<BTreeMap<VolumeId, Info>> {
        let rows = self.database.read("list snapshots", Info::all)?;
        Ok(rows.into_iter().map(|info| (info.volume, info)).collect())
    }

    fn compare_volumes(&self, repair: bool) -> Result<Vec<Finding>> {
        let before = self.rows()?;
        let there = self.driver.volumes()?;
        let after = self.rows()?;
        let unknown = |volume: &VolumeId| !before.contains_key(volume) && !after.contains_key(volume);
        let still = if there.iter().any(unknown) { self.driver.volumes()? } else { Vec::new() };
        let foreign = there.iter().filter(|volume| unknown(volume) && still.contains(volume)).map(|volume| {
            Finding::new(format!("volume {volume} is in the pool and the database does not know it")).repaired_by(
                repair,
                || {
                    self.driver.release(*volume)?;
                    self.driver.delete(*volume)
                },
            )
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

    /// A mount below `mounts/` whose container is gone.
    fn stray_mounts(&self, repair: bool) -> Result<Vec<Finding>> {
        let mounted = mounts_below(&self.layout.mounts())?;
        let rows = self.rows()?;
        let known = |name: &str| rows.values().any(|info| info.key.as_str() == name);
        let stray = mounted
            .into_iter()
            .filter(|mount| !mount.target.file_name().and_then(|name| name.to_str()).is_some_and(known));
        Ok(stray
            .map(|mount| {
                Finding::new(format!("{} is mounted and belongs to no container", mount.target.display()))
                    .repaired_by(repair, || unmount(&mount.target))
            })
            .collect())
    }

    /// An active volume that is neither mounted nor worked on: a command died between activating and mounting.
    fn stray_devices(&self, repair: bool) -> Result<Vec<Finding>> {
        let mounted = mounts_below(&self.layout.mounts())?;
        let rows = self.rows()?;
        let mut findings = Vec::new();
        for volume in self.driver.active()? {
            let key = rows.get(&volume).map(|info: &Info| &info.key);
            let in_use = |key: &Key| mounted.iter().any(|mount| mount.target.ends_with(key.as_str()));
            if key.is_some_and(in_use) {
                continue;
            }
            let Some(_lock) = self.locks.try_volume(volume)? else { continue };
            let finding = Finding::new(format!("volume {volume} is active and nobody uses it"));
            findings.push(finding.repaired_by(repair, || self.driver.release(volume)));
        }
        Ok(findings)
    }
}
