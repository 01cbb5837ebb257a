//! An anonymous volume for a container that is being made.
//!
//! Invariant: it is published in the transaction that publishes its container, and its lock is held until then. Dropped
//! before, or left by a process that died, it goes as any unfinished volume does.

use std::collections::BTreeMap;

use rusqlite::{Transaction, named_params};

use super::{Begun, Volume, Volumes};
use crate::{
    crash,
    error::{Error, Kind, Result},
    id::CacheId,
    store::{Lock, Sql as _},
};

/// See the module's comment.
#[derive(Debug)]
pub struct Draft<'store> {
    volumes: Volumes<'store>,
    number: u64,
    lock: Option<Lock>,
}

impl<'store> Volumes<'store> {
    /// Makes an anonymous volume that is nobody's yet.
    ///
    /// # Errors
    /// The system's; nothing stays then.
    pub fn draft(&self) -> Result<Draft<'store>> {
        let name = CacheId::random();
        let Begun::New(number, lock) = self.begin(name.as_str(), true, &BTreeMap::new())? else {
            return Err(Error::new(Kind::Exists, format!("there is a volume {name} already; try again")));
        };
        crash::point(crash::Point::DataIntent);
        let draft = Draft { volumes: *self, number, lock: Some(lock) };
        match self.make_directory(name.as_str()) {
            // Of what lay there before, nothing is ours.
            Err(error) if error.kind() == Kind::NotOurs => Err(error.and_undo(self.forget(number))),
            made => made.map(|()| draft),
        }
    }
}

impl Draft<'_> {
    /// From the end of this transaction on it is a volume as any other.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn publish(&self, tx: &Transaction<'_>) -> Result<Volume> {
        let ready = "UPDATE volumes SET state = 'ready' WHERE number = :n RETURNING *";
        tx.query_row(ready, named_params! {":n": self.number}, Volume::from_row).sql()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // Of a published one nothing is removed.
        if let Err(error) = self.volumes.remove_unfinished(self.number) {
            tracing::warn!("remove an anonymous volume that has no container: {error}; the next command tries again");
        }
        drop(self.lock.take());
    }
}
