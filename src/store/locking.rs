//! The locks as the store's users take them: by a snapshot's key, a data volume's number, an image.

use super::{HeldImages, Info, Key, Lock, Store, gone, refuse_without_pool, snapshot::State};
use crate::{error::Result, id::ImageId};

impl Store {
    /// Keeps every other command away from the snapshot `key` until the returned value is dropped.
    ///
    /// # Errors
    /// `NotFound`, also if it went while this waited.
    pub(crate) fn lock(&self, key: &Key) -> Result<Lock> {
        let lock = self.locks.volume(self.stat(key)?.volume)?;
        // It may have been removed while this waited; then its volume is only there until recovery takes it. Or the pool
        // is being destroyed, which was decided while nobody had this lock.
        let info = self.database.read("look up a snapshot", |tx| {
            refuse_without_pool(tx, self.layout.root())?;
            Info::find(tx, key)
        })?;
        if info.is_some_and(|info| info.state == State::Ready && info.kept) { Ok(lock) } else { Err(gone(key)) }
    }

    /// Says that a container is being made, from before it has directories until it has a row or they are gone.
    ///
    /// # Errors
    /// When the lock file cannot be used.
    pub(crate) fn announce(&self) -> Result<Lock> {
        self.locks.announce()
    }

    /// Whether anybody says so.
    ///
    /// # Errors
    /// When the lock file cannot be used.
    pub(crate) fn is_announced(&self) -> Result<bool> {
        self.locks.is_announced()
    }

    /// Keeps every other command away from the data volume with this number.
    ///
    /// # Errors
    /// When the lock file cannot be used.
    pub(crate) fn lock_data(&self, number: u64) -> Result<Lock> {
        self.locks.data(number)
    }

    /// The same, or nothing if another command has it.
    ///
    /// # Errors
    /// As [`Store::lock_data`].
    pub(crate) fn try_lock_data(&self, number: u64) -> Result<Option<Lock>> {
        self.locks.try_data(number)
    }

    /// [`Store::lock`], or none if another command has it.
    ///
    /// # Errors
    /// As [`Store::lock`].
    pub(crate) fn try_lock(&self, key: &Key) -> Result<Option<Lock>> {
        let lock = self.locks.try_volume(self.stat(key)?.volume)?;
        if self.stat(key)?.kept { Ok(lock) } else { Err(gone(key)) }
    }

    /// Images that this process will hold, as yet none.
    ///
    /// # Errors
    /// When the lock file cannot be used.
    pub(crate) fn held_images(&self) -> Result<HeldImages> {
        self.locks.images()
    }

    /// Keeps everybody from beginning to hold an image, or nothing if somebody holds it.
    ///
    /// # Errors
    /// As [`Store::held_images`].
    pub(crate) fn try_lock_image(&self, image: ImageId) -> Result<Option<Lock>> {
        self.locks.try_image(image)
    }
}
