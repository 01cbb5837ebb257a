//! A snapshot that is being made: its volume exists, its owner lives, nobody wants it yet.
//!
//! Invariant: dropped without having been published, its volume and row are removed; if the process dies first, the
//! next command's recovery removes them, unless it is a layer that waits for its image.

use std::cell::Cell;

use rusqlite::{Transaction, named_params};

use super::{
    Blob, BlobFile, Info, Key, Layout, SnapshotKind, Store, begin::temporary_key, database::Sql as _, lock::Lock,
    waiting,
};
use crate::{
    crash,
    driver::{Access, Changes},
    error::{Error, Kind, Result},
    fs::Mounted,
    id::{CacheId, VolumeId},
    units::Bytes,
};

/// See the module's comment.
#[derive(Debug)]
pub struct Held<'store> {
    store: &'store Store,
    volume: VolumeId,
    cache_id: CacheId,
    lock: Option<Lock>,
    published: Cell<bool>,
    /// Whether it is a layer that waits for its image.
    waiting: Cell<bool>,
}

impl<'store> Held<'store> {
    pub(super) fn new(store: &'store Store, volume: VolumeId, cache_id: CacheId, lock: Lock) -> Self {
        Self { store, volume, cache_id, lock: Some(lock), published: Cell::new(false), waiting: Cell::new(false) }
    }

    /// The volume.
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    pub(super) fn store(&self) -> &'store Store {
        self.store
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.store.layout
    }

    pub(super) fn cache_id(&self) -> &CacheId {
        &self.cache_id
    }

    /// Mounts it where nobody else sees it.
    ///
    /// # Errors
    /// The driver's or the kernel's.
    pub fn mounted(&self, access: Access) -> Result<Mounted> {
        let stack = self.store.stack(self.volume)?;
        Mounted::detached(&self.store.driver.mounts(self.volume, &stack.parents, access)?)
    }

    /// Makes the file that keeps the archive which this layer comes from. It goes with the row.
    ///
    /// # Errors
    /// `Exists` if it was made before; the system's.
    pub fn blob(&self) -> Result<BlobFile> {
        BlobFile::create(&self.store.layout, &self.cache_id)
    }

    /// Makes it the layer `name` whose files have `size` apparent bytes, and which came from the archive `blob`. It is
    /// still held: published it is with the image that needs it.
    ///
    /// # Errors
    /// `Exists` if another command committed the same layer meanwhile.
    pub fn commit(&self, name: &Key, size: Bytes, blob: Option<&Blob>) -> Result<()> {
        self.commit_with(name, size, blob, |_| Ok(()))
    }

    /// [`Held::commit`] of a layer that waits for its image, for the case that this process dies before there is one.
    /// Dropped, it is given up.
    ///
    /// # Errors
    /// As [`Held::commit`].
    pub fn commit_waiting(&self, name: &Key, size: Bytes, blob: Option<&Blob>) -> Result<()> {
        self.commit_with(name, size, blob, |tx| waiting::add(tx, self.volume))?;
        self.waiting.set(true);
        Ok(())
    }

    fn commit_with(
        &self,
        name: &Key,
        size: Bytes,
        blob: Option<&Blob>,
        also: impl FnOnce(&Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        self.seal()?;
        crash::point(crash::Point::CommitSealed);
        self.store.database.write(&format!("commit layer {name}"), |tx| {
            tx.execute(
                "UPDATE snapshots SET key = :name, kind = 'committed', state = 'ready', size = :size,
                 blob_format = :format, blob_digest = :digest, blob_size = :stored, blob_plain = :plain
                 WHERE volume = :v",
                named_params! {
                    ":name": name.as_str(), ":size": size.0, ":v": self.volume.get(),
                    ":format": blob.map(|blob| blob.format), ":digest": blob.map(|blob| blob.digest.to_string()),
                    ":stored": blob.map(|blob| blob.size.0), ":plain": blob.map(|blob| blob.plain.0),
                },
            )
            .sql()?;
            also(tx)
        })?;
        crash::point(crash::Point::CommitPublished);
        Ok(())
    }

    /// Makes it unchangeable from now on.
    ///
    /// # Errors
    /// The driver's.
    pub fn seal(&self) -> Result<()> {
        self.store.driver.release(self.volume)?;
        self.store.driver.seal(self.volume)
    }

    /// Seals it and tells how it differs from its parent.
    ///
    /// # Errors
    /// The driver's.
    pub fn changes(&self) -> Result<Changes> {
        self.seal()?;
        let stack = self.store.stack(self.volume)?;
        self.store.driver.changes(stack.volume, &stack.parents)
    }

    /// A copy of it as it is now, sealed or for writing.
    ///
    /// # Errors
    /// As [`Store::capture`].
    pub fn captured(&self, access: Access) -> Result<Held<'store>> {
        let own = self.store.database.read("look up a snapshot", |tx| Info::of_volume(tx, self.volume))?;
        let parent = own.and_then(|info| info.parent);
        self.store.begin_with(SnapshotKind::Active, &temporary_key()?, parent.as_ref(), |volume| {
            self.store.driver.capture(volume, self.volume, access)
        })
    }

    /// Publishes it together with what `body` writes: from then on it is kept.
    ///
    /// # Errors
    /// Those of `body`; then nothing is published, and dropping this removes it.
    pub(crate) fn publish(&self, body: impl FnOnce(&Transaction<'_>) -> Result<()>) -> Result<()> {
        self.store.database.write("publish a snapshot", |tx| {
            let changed = tx
                .prepare_cached("UPDATE snapshots SET state = 'ready', kept = 1 WHERE volume = :v")
                .sql()?
                .execute(named_params! {":v": self.volume.get()})
                .sql()?;
            if changed != 1 {
                let what = format!("volume {} lost its row while it was made", self.volume);
                return Err(Error::new(Kind::Corrupt, what));
            }
            body(tx)
        })?;
        self.published.set(true);
        crash::point(crash::Point::PreparePublished);
        Ok(())
    }
}

impl Held<'_> {
    /// Lets a layer that waits for its image go on waiting.
    pub fn leave_waiting(self) {
        self.published.set(self.waiting.get());
    }

    /// The pool has a volume of this number already, so the database is older than the pool. It is not ours to delete:
    /// only the row goes.
    pub(super) fn leave_to_its_owner(&self, error: Error) -> Error {
        self.published.set(true);
        let forgotten = self.store.database.write("forget a volume that is another's", |tx| {
            tx.execute("DELETE FROM snapshots WHERE volume = :v", named_params! {":v": self.volume.get()})
                .sql()
                .map(drop)
        });
        error
            .within("the pool has volumes that the database does not know, as if it were an old copy; 'lamina check' lists them")
            .and_undo(forgotten)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        drop(self.lock.take());
        if self.published.get() {
            // Whoever no longer wants it removes it.
            return;
        }
        let removed = match self.waiting.get() {
            true => self.store.give_up(self.volume),
            false => self.store.recover_volume(self.volume),
        };
        if let Err(error) = removed {
            // Nothing is lost: the row still says that nobody wants the volume, so the next command tries again.
            tracing::warn!("remove unfinished volume {}: {error}; the next command tries again", self.volume);
        }
    }
}
