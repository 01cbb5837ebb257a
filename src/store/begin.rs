//! The first half of every new snapshot: the intent, and what the driver does. [`Held`] has the other.

use rusqlite::{Transaction, named_params};

use super::{
    Held, Info, Key, SnapshotKind, Sql as _, Store, gone, now, refuse_without_pool,
    snapshot::{State, next_volume},
};
use crate::{
    crash,
    error::{Error, Kind, Result},
    id::{CacheId, VolumeId},
};

impl Store {
    /// Begins an active snapshot that nobody else knows; it is gone when the value is dropped or the process dies.
    ///
    /// # Errors
    /// As [`Store::prepare`].
    pub fn draft(&self, parent: Option<&Key>) -> Result<Held<'_>> {
        self.begin(SnapshotKind::Active, &temporary_key()?, parent)
    }

    pub(super) fn begin(&self, kind: SnapshotKind, key: &Key, parent: Option<&Key>) -> Result<Held<'_>> {
        self.admit()?;
        self.begin_with(kind, key, parent, |volume| match self.stack(volume)?.parents.as_slice() {
            [] => self.driver.create(volume),
            parents => self.driver.snapshot(volume, parents),
        })
    }

    /// Intent, act, and 'ready'; published it is only by [`Held::publish`].
    pub(super) fn begin_with(
        &self,
        kind: SnapshotKind,
        key: &Key,
        parent: Option<&Key>,
        act: impl FnOnce(VolumeId) -> Result<()>,
    ) -> Result<Held<'_>> {
        let held = self.intend(kind, key, parent)?;
        if let Err(error) = act(held.volume()) {
            let error = self.explain(error).within(format!("make snapshot {key}"));
            if error.kind() == Kind::Exists {
                return Err(held.leave_to_its_owner(error));
            }
            return Err(error);
        }
        crash::point(crash::Point::PrepareActed);
        Ok(held)
    }

    /// Writes the intent to make a snapshot. Its lock is taken before anybody can see the row.
    fn intend(&self, kind: SnapshotKind, key: &Key, parent: Option<&Key>) -> Result<Held<'_>> {
        crash::point(crash::Point::PrepareStart);
        let held = self.database.write(&format!("note the new snapshot {key}"), |tx| {
            if let Some(other) = Info::find(tx, key)? {
                let what = if other.state == State::Ready {
                    "exists already"
                } else {
                    "is being made or removed by another command"
                };
                return Err(Error::new(Kind::Exists, format!("make snapshot {key}: it {what}")));
            }
            refuse_without_pool(tx, self.layout.root())?;
            let parent = parent.map(|parent| self.usable_parent(tx, parent)).transpose()?;
            let volume = next_volume(tx, self.driver.kind())?;
            let cache_id = CacheId::random();
            tx.prepare_cached(
                "INSERT INTO snapshots (volume, key, kind, parent, state, kept, cache_id, created)
                 VALUES (:volume, :key, :kind, :parent, 'creating', 0, :cache_id, :created)",
            )
            .sql()?
            .execute(named_params! {
                ":volume": volume.get(), ":key": key.as_str(), ":kind": kind, ":parent": parent.map(VolumeId::get),
                ":cache_id": cache_id.as_str(), ":created": now(),
            })
            .sql()?;
            Ok(Held::new(self, volume, cache_id, self.locks.volume(volume)?))
        })?;
        crash::point(crash::Point::PrepareIntent);
        Ok(held)
    }

    fn usable_parent(&self, tx: &Transaction<'_>, key: &Key) -> Result<VolumeId> {
        match Info::find(tx, key)? {
            Some(Info { state: State::Ready, kind: SnapshotKind::Committed, volume, .. }) => Ok(volume),
            Some(Info { state: State::Ready, kind, .. }) => Err(Error::new(
                Kind::Invalid,
                format!("parent {key} is {} and only a committed snapshot can be a parent", kind.name()),
            )),
            _ => Err(gone(key)),
        }
    }
}

pub(super) fn temporary_key() -> Result<Key> {
    format!("tmp-{}", CacheId::random()).parse()
}
