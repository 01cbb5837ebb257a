//! What a snapshot became since its parent: sealed copies of one instant, and how they differ.

use super::{Held, Key, SnapshotKind, Store, begin::temporary_key};
use crate::{
    driver::Changes,
    error::{Error, Kind, Result},
};

impl Store {
    /// How the snapshot `key` differs from its parent, and the sealed copy of one instant that was compared.
    ///
    /// # Errors
    /// `NotFound`, `Full`, or the driver's.
    pub fn changes(&self, key: &Key) -> Result<(Held<'_>, Changes)> {
        self.changes_around(key, |capture| capture())
    }

    /// [`Store::changes`] with something done around the instant that is copied.
    ///
    /// # Errors
    /// As [`Store::changes`], and those of `around`.
    pub(crate) fn changes_around(
        &self,
        key: &Key,
        around: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()>,
    ) -> Result<(Held<'_>, Changes)> {
        let held = self.capture_around(key, around)?;
        let stack = self.stack(held.volume())?;
        let changes = self.driver.changes(stack.volume, &stack.parents)?;
        Ok((held, changes))
    }

    /// How the layer `key` differs from its parent. Layers never change, so nothing is copied.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is not a layer; the driver's.
    pub fn layer_changes(&self, key: &Key) -> Result<Changes> {
        let info = self.stat(key)?;
        if info.kind != SnapshotKind::Committed {
            let what = format!("compare snapshot {key} as a layer: it is {}", info.kind.name());
            return Err(Error::new(Kind::Invalid, what));
        }
        let stack = self.stack(info.volume)?;
        self.driver.changes(stack.volume, &stack.parents)
    }

    /// Takes a sealed copy of one instant of the snapshot `key`, which may be mounted and written.
    ///
    /// # Errors
    /// `NotFound`, `Full`, or the driver's.
    pub fn capture(&self, key: &Key) -> Result<Held<'_>> {
        self.capture_around(key, |capture| capture())
    }

    /// [`Store::capture`] within `around`, with the snapshot's lock held.
    pub(crate) fn capture_around(
        &self,
        key: &Key,
        around: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()>,
    ) -> Result<Held<'_>> {
        let _lock = self.lock(key)?;
        let info = self.stat(key)?;
        let stack = self.stack(info.volume)?;
        self.begin_with(SnapshotKind::Active, &temporary_key()?, info.parent.as_ref(), |volume| {
            around(&|| self.driver.capture(volume, info.volume, &stack.parents))
        })
    }
}
