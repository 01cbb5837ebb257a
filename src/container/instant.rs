//! A container as it is at one instant, also while it runs.
//!
//! Invariant: its processes are stopped for that instant only, and go on whatever comes of it. A mechanism that copies
//! block by block freezes the file system itself, within the kernel; one that copies files cannot, so there the
//! processes are stopped where they are while it copies.

use std::time::{self, Duration};

use super::{Container, Containers};
use crate::{
    driver::{Changes, DriverKind},
    error::Result,
    runtime::Cgroup,
    store::Held,
};

/// A sealed copy of one instant, and how it differs from the image.
pub(super) struct Instant<'store> {
    pub(super) held: Held<'store>,
    pub(super) changes: Changes,
    /// Whether the copy holds mount points that are not among the changes.
    pub(super) holds_more: bool,
}

impl<'store> Containers<'store> {
    pub(super) fn captured(&self, container: &Container) -> Result<Instant<'store>> {
        let runs = self.status(container)?.state == super::State::Running;
        let by_file = matches!(self.store.driver().kind(), DriverKind::Overlay | DriverKind::Vfs);
        let cgroup = Cgroup::new(container.id.as_str());
        let mut stopped = Duration::ZERO;
        let around = |capture: &dyn Fn() -> Result<()>| {
            let begun = time::Instant::now();
            let freeze = runs && by_file;
            if freeze {
                cgroup.freeze(true)?;
            }
            let captured = capture();
            let thawed = if freeze { cgroup.freeze(false) } else { Ok(()) };
            stopped = begun.elapsed();
            match (captured, thawed) {
                (Ok(()), thawed) => thawed,
                (Err(error), thawed) => Err(error.and_undo(thawed)),
            }
        };
        let (held, changes) =
            self.store.changes_around(&container.key(), around).map_err(|error| self.told(container, error))?;
        if runs {
            let micros = stopped.as_micros();
            tracing::info!("container {} could not write for {micros} µs at most", container.name);
        }
        let (changes, holds_more) = self.without_mount_points(container, &held, changes)?;
        Ok(Instant { held, changes, holds_more })
    }
}
