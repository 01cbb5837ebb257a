//! Bringing back a pool that the kernel has stopped, or that does not come up for damage.
//!
//! Invariant: a pool that works is left alone, and one whose backing is missing or somebody else's is not touched.

use std::path::Path;

use super::{Finding, Store, ground::Ground};
use crate::{
    driver::{Health, pool},
    error::{Kind, Result},
    store::no_pool,
};

impl Store {
    /// Opens the store at `root` after bringing its pool back if that was needed, and tells what was wrong.
    ///
    /// # Errors
    /// `NotFound` without a pool; `InUse` while a container is mounted on a pool that must be taken down; `Corrupt` if
    /// it cannot be mended.
    pub fn open_repaired(root: &Path) -> Result<(Self, Vec<Finding>)> {
        let ground = Ground::existing(root)?.ok_or_else(|| no_pool(root))?;
        let _lock = ground.locks.pool()?;
        let spec = ground.settle()?.ok_or_else(|| no_pool(root))?;
        // Before anything is opened: what is missing under its name is the kernel's still, and can be saved.
        pool::require_kept(&spec)?;
        let wrong = match pool::open(&spec).and_then(|driver| driver.status()) {
            Ok(status) if !status.health.is_stopped() => None,
            Ok(status) if status.health == Health::Failed => Some("the kernel had given the pool up".to_owned()),
            Ok(_) => Some("the kernel had stopped writing to the pool".to_owned()),
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Io) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        let Some(wrong) = wrong else { return Ok((ground.bring_up(&spec)?, Vec::new())) };
        ground.refuse_if_used("take the pool down to repair it")?;
        let done = pool::repair(&spec).map_err(|error| error.within(format!("{wrong}; repair the pool")))?;
        let store = ground.bring_up(&spec)?;
        let repaired = !store.driver.status()?.health.is_stopped();
        let what = [&[wrong], done.as_slice()].concat().join("; ");
        Ok((store, vec![Finding { what, repaired }]))
    }
}
