//! Layers that wait for their image: finished by a pull or load that is still at work, or that died before it had the
//! whole image. The next one finds them.
//!
//! Invariant: a waiting layer is kept, so recovery leaves it alone; it waits until an image has it, until whoever made it
//! gives it up, or until `image prune` finds that nobody is at work on it.

use rusqlite::{OptionalExtension as _, Transaction, named_params};

use super::{
    Info, Store,
    database::Sql as _,
    snapshot::{State, volume},
};
use crate::{
    error::{Kind, Result},
    id::VolumeId,
    units::Bytes,
};

/// From this transaction on `volume` waits for its image, and is kept.
pub(super) fn add(tx: &Transaction<'_>, volume: VolumeId) -> Result<()> {
    tx.execute("UPDATE snapshots SET kept = 1 WHERE volume = :v", named_params! {":v": volume.get()}).sql()?;
    tx.execute("INSERT INTO waiting (volume) VALUES (:v)", named_params! {":v": volume.get()}).sql().map(drop)
}

/// From this transaction on `volume` is an image's.
pub(crate) fn end(tx: &Transaction<'_>, volume: VolumeId) -> Result<()> {
    remove(tx, volume).map(drop)
}

fn remove(tx: &Transaction<'_>, volume: VolumeId) -> Result<bool> {
    let removed = tx.execute("DELETE FROM waiting WHERE volume = :v", named_params! {":v": volume.get()}).sql()?;
    Ok(removed > 0)
}

/// From this transaction on `layer` is no longer kept, nor what it lies on, down to the first that an image, another
/// snapshot, or a waiting one needs.
pub(crate) fn unkeep(tx: &Transaction<'_>, layer: VolumeId) -> Result<()> {
    let mut next = Some(layer.get());
    while let Some(volume) = next {
        let unkept: Option<Option<u32>> = tx
            .query_row(
                "UPDATE snapshots SET kept = 0 WHERE volume = :v
                 AND NOT EXISTS (SELECT 1 FROM images WHERE top = :v)
                 AND NOT EXISTS (SELECT 1 FROM waiting WHERE volume = :v)
                 AND NOT EXISTS (SELECT 1 FROM snapshots child WHERE child.parent = :v AND child.kept = 1)
                 RETURNING parent",
                named_params! {":v": volume},
                |row| row.get(0),
            )
            .optional()
            .sql()?;
        next = unkept.flatten();
    }
    Ok(())
}

/// What of the waiting layers went.
#[derive(Clone, Copy, Debug, Default)]
pub struct GivenUp {
    /// Bytes in the pool that were their own.
    pub own: Bytes,
    /// Bytes of the archives that they came from.
    pub blobs: Bytes,
}

impl Store {
    /// The layers that wait for an image, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn waiting(&self) -> Result<Vec<Info>> {
        let volumes = self.database.read("list layers that wait for their image", |tx| {
            let mut statement = tx.prepare("SELECT volume FROM waiting").sql()?;
            statement.query_map([], |row| volume(row, "volume")).sql()?.collect::<rusqlite::Result<Vec<_>>>().sql()
        })?;
        Ok(if volumes.is_empty() {
            Vec::new()
        } else {
            self.walk()?.into_iter().filter(|info| volumes.contains(&info.volume)).collect()
        })
    }

    /// Removes the layers that wait for an image which nobody is making.
    ///
    /// # Errors
    /// When something cannot be read or removed; what was removed before stays so.
    pub fn prune_waiting(&self) -> Result<GivenUp> {
        let mut all = GivenUp::default();
        // The uppermost first: the others carry them.
        for info in self.waiting()?.into_iter().rev() {
            let Some(lock) = self.locks.try_volume(info.volume)? else { continue };
            let usage = match self.usage(&info.key) {
                Err(error) if error.kind() == Kind::NotFound => continue,
                usage => usage?,
            };
            drop(lock);
            self.give_up(info.volume)?;
            let left = self.database.read("look for a layer", |tx| Info::of_volume(tx, info.volume))?;
            if left.is_none_or(|left| left.state != State::Ready) {
                all.own += usage.exclusive;
                all.blobs += info.blob.map(|blob| blob.size).unwrap_or_default();
            }
        }
        Ok(all)
    }

    /// Lets a layer wait no longer, and removes it unless something needs it.
    pub(super) fn give_up(&self, volume: VolumeId) -> Result<()> {
        self.database.write("give up a layer that waits for its image", |tx| {
            if remove(tx, volume)? { unkeep(tx, volume) } else { Ok(()) }
        })?;
        self.recover_volume(volume)
    }
}
