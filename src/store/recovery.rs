//! Undoing what a dead command left, and removing what nobody wants: the same act.
//!
//! Invariant: only a row that is not 'ready' or not kept, whose volume's lock is free, and that has no children, is
//! touched; so a living command's work and every published layer are safe. Each step may be repeated.

use rusqlite::{Transaction, named_params};

use super::{
    Lock, Store, blob,
    database::Sql as _,
    snapshot::{Info, State, has_children, volume},
};
use crate::{crash, error::Result, id::VolumeId};

impl Store {
    /// Removes everything that dead commands left unfinished and everything that nobody wants. Called by every command
    /// when it opens the store; costs one indexed query when there is nothing.
    ///
    /// # Errors
    /// The first failure, after all others have been tried.
    pub fn recover(&self) -> Result<()> {
        let idle = self.release_idle();
        let unfinished = self.database.read("look for unfinished snapshots", |tx| {
            let mut statement = tx
                .prepare("SELECT volume FROM snapshots WHERE state <> 'ready' OR kept = 0 ORDER BY volume DESC")
                .sql()?;
            statement.query_map([], |row| volume(row, "volume")).sql()?.collect::<rusqlite::Result<Vec<_>>>().sql()
        })?;
        // On a pool that the kernel has stopped nothing can be removed; the one who repairs it comes by here again.
        if unfinished.is_empty() || self.driver.status()?.health.is_stopped() {
            return idle;
        }
        // Children mostly have higher numbers than their parents, so this order takes them first; where not, removing
        // the child takes the parent.
        unfinished.into_iter().map(|volume| self.recover_volume(volume)).fold(idle, Result::and)
    }

    fn release_idle(&self) -> Result<()> {
        let release = |(volume, _lock)| self.driver.release(volume);
        self.abandoned()?.into_iter().map(release).fold(Ok(()), Result::and)
    }

    /// The volumes that a command activated and died before it mounted them, with their locks.
    ///
    /// Whoever is about to mount one holds its lock. A layer is looked at without; whoever does finds it gone and
    /// activates it again.
    pub(super) fn abandoned(&self) -> Result<Vec<(VolumeId, Lock)>> {
        let idle = self.driver.idle()?;
        if idle.is_empty() {
            return Ok(Vec::new());
        }
        let mut locked = Vec::new();
        for volume in idle {
            locked.extend(self.locks.try_volume(volume)?.map(|lock| (volume, lock)));
        }
        // Asked again with the locks held, so that none was mounted between.
        let still = self.driver.idle()?;
        locked.retain(|(volume, _)| still.contains(volume));
        Ok(locked)
    }

    /// [`Store::recover`] for those who came to do something else: what cannot be removed now must not keep anybody from
    /// looking, unmounting or growing. The rows stay, so the next command tries again, and `check` tells of them.
    pub(crate) fn recover_or_tell(&self) {
        if let Err(error) = self.recover() {
            tracing::warn!("remove what nobody wants any more: {error}; the next command tries again");
        }
    }

    /// Removes one volume if nobody wants it and its owner is gone, and then its ancestors for which the same holds.
    pub(crate) fn recover_volume(&self, volume: VolumeId) -> Result<()> {
        let mut next = Some(volume);
        while let Some(volume) = next {
            next = self.remove_unwanted(volume).map_err(|error| {
                self.explain(error)
                    .within("it is removed, and a later command gives back the space, as this one could not")
            })?;
        }
        Ok(())
    }

    /// Returns the parent if the volume was removed.
    fn remove_unwanted(&self, volume: VolumeId) -> Result<Option<VolumeId>> {
        let Some(_lock) = self.locks.try_volume(volume)? else {
            return Ok(None);
        };
        let unwanted = |tx: &Transaction<'_>| {
            let Some(info) = Info::of_volume(tx, volume)? else { return Ok(None) };
            if (info.state == State::Ready && info.kept) || has_children(tx, volume)? {
                return Ok(None);
            }
            let parent = super::parents(tx, volume)?.first().copied();
            Ok(Some((info.cache_id, parent, info.state)))
        };
        // The intent of one that was discarded is written already.
        let noted = self.database.read("look up a volume that is to be removed", unwanted)?;
        let intent = match noted {
            Some((.., State::Removing)) => noted,
            _ => self.database.write("note the removal of a volume", |tx| {
                let found = unwanted(tx)?;
                found.iter().try_for_each(|_| intend_removal(tx, volume))?;
                Ok(found)
            })?,
        };
        let Some((cache_id, parent, _)) = intent else { return Ok(None) };
        crash::point(crash::Point::RemoveIntent);
        self.driver.release(volume)?;
        self.driver.delete(volume)?;
        crash::point(crash::Point::RemoveActed);
        blob::remove(&self.layout, &cache_id)?;
        // Not synced: a loss of power brings back a row of a volume that is no more, which is removed again.
        self.database.write_unsynced("forget a removed volume", |tx| {
            tx.execute("DELETE FROM snapshots WHERE volume = :v", named_params! {":v": volume.get()}).sql()
        })?;
        crash::point(crash::Point::RemovePublished);
        Ok(parent)
    }
}

/// Its key is free from now on: the same layer may be made anew before the old volume is gone.
pub(super) fn intend_removal(tx: &Transaction<'_>, volume: VolumeId) -> Result<()> {
    let intent = "UPDATE snapshots SET state = 'removing', key = 'removing-' || volume WHERE volume = :v";
    tx.execute(intent, named_params! {":v": volume.get()}).sql().map(drop)
}
