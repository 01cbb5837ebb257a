//! A step that writes files: a snapshot of the image before it, written, sealed, and published as a layer.

use std::{cell::Cell, os::fd::BorrowedFd, time::Duration};

use rustix::fs::{AtFlags, Timespec, Timestamps, utimensat};

use super::{Build, cache::StepKey, settings::Settings};
use crate::{
    driver::{Access, ChangeKind},
    error::{Act as _, Result},
    fs::{FileSystem, Mounted, locate},
    id::ChainId,
    image::{
        catalog::Image,
        config::{Config, Step},
        layer,
    },
    store::{Filling, Held, Key},
    units::Bytes,
};

/// A mounted snapshot that a step writes.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    held: &'a Held<'a>,
    build: &'a Build<'a>,
    /// Whether it was said that no more room can be made.
    is_warned: Cell<bool>,
}

impl Draft<'_> {
    pub(super) fn mounted(&self) -> Result<Mounted> {
        self.held.mounted(Access::ReadWrite)
    }

    /// Sees to it that its file system has so many more bytes, for what is written by others.
    pub(super) fn room(&self, mounted: &Mounted, bytes: Bytes) -> Result<()> {
        self.build.store.driver().reserve(self.held.volume(), mounted.root(), bytes)
    }

    /// Sees to it that what is written into it fits.
    pub(super) fn filling<'m>(&'m self, mounted: &'m Mounted) -> Result<Filling<'m>> {
        Filling::of(self.held, mounted)
    }

    /// Sees to it, while a command writes below `root` of `file_system`, that half of `room` more fits, and that the disk below the pool
    /// does not end. Tells when to look again.
    ///
    /// # Errors
    /// `Full`, upon which the command must end; the driver's.
    pub(super) fn look_ahead(&self, root: BorrowedFd<'_>, file_system: &FileSystem, room: Bytes) -> Result<Duration> {
        let store = self.build.store;
        if !self.is_warned.get()
            && let Err(error) = store.driver().reserve(self.held.volume(), root, Bytes(room.0 / 2))
        {
            // What does not fit then, the writer is told.
            self.is_warned.set(true);
            tracing::warn!("{error}");
        }
        store.watch_below(root, file_system)
    }
}

impl Build<'_> {
    /// Makes a layer of what `write` writes, and the image with it.
    pub(super) fn layer(
        &self,
        before: &Config,
        key: &StepKey,
        created_by: &str,
        write: impl FnOnce(&Draft<'_>) -> Result<()>,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Image> {
        let parent = ChainId::chain(before.diff_ids()).last().copied();
        let held = self.store.draft(parent.map(Key::layer).as_ref())?;
        write(&Draft { held: &held, build: self, is_warned: Cell::new(false) })
            .map_err(|error| self.store.explain(error))?;
        if self.options.epoch.is_some() {
            self.forget_the_present(&held)?;
        }
        let layer = layer::stack(&held, &held.changes()?, before)?;
        let (comment, layer_id) = (super::COMMENT, Some(layer.diff_id));
        let step = Step { created_by, comment, author: "", created: self.started, layer: layer_id };
        let config = before.stepped(&step, change)?;
        layer.publish(self.store, &held, || self.publish(key, &config))
    }

    /// Gives everything that is younger than `SOURCE_DATE_EPOCH` that time, so that the same input makes the same layer.
    fn forget_the_present(&self, held: &Held<'_>) -> Result<()> {
        let changes = held.captured(Access::ReadOnly)?.changes()?;
        let mounted = held.mounted(Access::ReadWrite)?;
        let file_system = mounted.file_system()?;
        let epoch = self.started.as_second();
        let time = Timespec { tv_sec: epoch, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        for change in changes.iter().filter(|change| change.kind != ChangeKind::Deleted) {
            let Some(located) = locate(mounted.root(), &change.path)? else { continue };
            let place = located.place();
            if place.stat()?.is_some_and(|stat| stat.st_mtime >= epoch) {
                let set = utimensat(place.dir, place.name, &times, AtFlags::SYMLINK_NOFOLLOW);
                set.act(|| format!("set the time of {}", change.path.display()))?;
            }
        }
        file_system.write_out()
    }
}
