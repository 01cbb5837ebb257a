//! A container as it is at one instant, also while it runs.
//!
//! Invariant: its processes are stopped for that instant only, and go on whatever comes of it. A mechanism that copies
//! block by block freezes the file system itself, within the kernel; one that copies files cannot, so there the
//! processes are stopped where they are while it copies. That is noted before, with the container's lock held: a note
//! whose container is locked by nobody was left by a command that died, and the next command lets the processes go on.

use std::time;

use super::{Container, Containers, State, removal::gone_is_well};
use crate::{
    crash,
    driver::{Changes, DriverKind},
    error::Result,
    runtime::{Cgroup, RunDirectory, runs_in, runs_of},
    store::Held,
};

/// A sealed copy of one instant, and how it differs from the image.
pub(super) struct Instant<'store> {
    pub(super) held: Held<'store>,
    pub(super) changes: Changes,
    /// The mount points that the copy holds and that are not among the changes, children first.
    pub(super) mount_points: Changes,
}

impl<'store> Containers<'store> {
    /// What the container is at this instant, and its changes.
    pub(super) fn captured(&self, container: &Container) -> Result<Instant<'store>> {
        let around = |capture: &dyn Fn() -> Result<()>| self.stilled(container, capture);
        let (held, changes) =
            self.store.changes_around(&container.key(), around).map_err(|error| self.told(container, error))?;
        let (changes, mount_points) = self.without_mount_points(container, &held, changes)?;
        Ok(Instant { held, changes, mount_points })
    }

    /// What the container is at this instant.
    pub(super) fn sealed(&self, container: &Container) -> Result<Held<'store>> {
        let around = |capture: &dyn Fn() -> Result<()>| self.stilled(container, capture);
        self.store.capture_around(&container.key(), around).map_err(|error| self.told(container, error))
    }

    /// Captures while the container does not write. With its lock held.
    fn stilled(&self, container: &Container, capture: &dyn Fn() -> Result<()>) -> Result<()> {
        if self.status(container)?.state != State::Running {
            return capture();
        }
        let begun = time::Instant::now();
        let by_file = matches!(self.store.driver().kind(), DriverKind::Overlay | DriverKind::Vfs);
        let captured = if by_file { self.frozen_while(container, capture) } else { capture() };
        let micros = begun.elapsed().as_micros();
        tracing::info!("container {} could not write for {micros} µs at most", container.name);
        captured
    }

    fn frozen_while(&self, container: &Container, act: &dyn Fn() -> Result<()>) -> Result<()> {
        let run = self.run_directory(container);
        run.note_still()?;
        let acted = Cgroup::new(run.id()).freeze(true).and_then(|()| {
            crash::point(crash::Point::InstantFrozen);
            act()
        });
        match (acted, go_on(&run)) {
            (Ok(()), gone_on) => gone_on,
            (Err(error), gone_on) => Err(error.and_undo(gone_on)),
        }
    }

    /// Lets go on what commands that died had stopped for an instant.
    ///
    /// # Errors
    /// The first failure, after all others have been tried.
    pub fn thaw_left(&self) -> Result<()> {
        let runs = runs_of(self.store.layout().root());
        let mut left = Vec::new();
        for id in runs_in(&runs)? {
            if RunDirectory::new(&runs, &id).is_still()? {
                left.push(id);
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let left = self.list()?.into_iter().filter(|container| left.contains(&container.id.to_string()));
        left.map(|container| gone_is_well(self.thaw_if_left(&container))).fold(Ok(()), Result::and)
    }

    fn thaw_if_left(&self, container: &Container) -> Result<()> {
        let run = self.run_directory(container);
        match self.try_lock(container)? {
            Some(_lock) if run.is_still()? => go_on(&run),
            _ => Ok(()),
        }
    }
}

/// Lets the processes go on, and then forgets that they were stopped.
fn go_on(run: &RunDirectory) -> Result<()> {
    let cgroup = Cgroup::new(run.id());
    let thawed = if cgroup.is_frozen()? { cgroup.freeze(false) } else { Ok(()) };
    thawed.and_then(|()| run.forget_still())
}
