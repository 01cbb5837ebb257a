//! The layer store: snapshots with names, parents and states, on volumes of one driver, safe against death at any
//! instant and against any number of commands at once.
//!
//! The verbs are containerd's (core/snapshots/snapshotter.go): [`Store::prepare`] an active snapshot on a committed
//! parent, [`Store::mounts`] to write it, [`Store::commit`] it under a new name, [`Store::view`] a committed one
//! read-only, [`Store::remove`], [`Store::stat`], [`Store::usage`], [`Store::walk`].
//!
//! # Rules on keys and parents
//! A key names one snapshot, active or committed alike. A parent is committed. A snapshot with children cannot be
//! removed. A committed one never changes.
//!
//! # Intent, act, publish
//! Every change writes its intent (a row 'creating' or 'removing'), lets the driver do one durable thing, and publishes
//! (the row 'ready', or gone). A row that is not finished, or that is not `kept`, belongs to the process that holds the
//! lock of its volume; once that lock is free its owner is dead and [`recovery`](Store::recover) removes volume and row.
//! Removing is therefore nothing but no longer keeping: see docs/crash-safety.md.

mod admission;
mod begin;
mod blob;
mod changes;
mod check;
mod database;
mod download;
mod filling;
mod ground;
mod held;
mod in_use;
mod layout;
mod lock;
mod locking;
mod lost;
mod pool;
mod recovery;
mod repair;
mod snapshot;
pub mod waiting;

use std::path::Path;

use rusqlite::{Transaction, named_params};

pub use self::{
    blob::BlobFile,
    check::Finding,
    download::{Download, Downloads},
    held::Held,
    layout::Layout,
    pool::{Made, PoolOptions},
    snapshot::{Blob, BlobFormat, Info, Key, SnapshotKind},
};
use self::{
    database::Database,
    lock::Locks,
    snapshot::{State, has_children, parents},
};
pub(crate) use self::{
    database::Sql,
    filling::Filling,
    lock::{HeldImages, Lock},
    pool::no_pool,
    snapshot::parsed,
};
use crate::{
    crash,
    driver::{Access, Driver, PoolStatus, Usage},
    error::{Error, Kind, Result},
    fs::MountSpec,
    id::VolumeId,
    units::Bytes,
};

/// An open store: one root directory with its pool up.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    database: Database,
    locks: Locks,
    driver: Box<dyn Driver>,
}

/// A snapshot's volume and ancestors, as the driver wants them.
#[derive(Debug)]
struct Stack {
    volume: VolumeId,
    parents: Vec<VolumeId>,
}

impl Store {
    /// Makes an active snapshot named `key` on the committed `parent`, or an empty one.
    ///
    /// # Errors
    /// `Exists` if the key is taken, `NotFound` or `Invalid` for a parent that is missing or not committed, `Full`.
    pub fn prepare(&self, key: &Key, parent: Option<&Key>) -> Result<()> {
        self.prepare_held(key, parent, None, |_, _| Ok(())).map(drop)
    }

    /// [`Store::prepare`], of a snapshot to which no more than `limit` may be written, with further rows published in the same
    /// transaction. It is locked until the returned value is dropped, from before anybody sees its row.
    ///
    /// # Errors
    /// As [`Store::prepare`]; those of `publish`, and then nothing stays; `Unsupported` where the driver has no limits.
    pub(crate) fn prepare_held(
        &self,
        key: &Key,
        parent: Option<&Key>,
        limit: Option<Bytes>,
        publish: impl FnOnce(&Transaction<'_>, VolumeId) -> Result<()>,
    ) -> Result<Held<'_>> {
        let held = self.begin(SnapshotKind::Active, key, parent)?;
        if let Some(limit) = limit {
            self.driver.limit(held.volume(), limit).map_err(|error| self.explain(error))?;
            crash::point(crash::Point::LimitSet);
        }
        held.publish(|tx| {
            if let Some(limit) = limit {
                let note = "UPDATE snapshots SET size_limit = :limit WHERE volume = :v";
                tx.execute(note, named_params! {":limit": limit.0, ":v": held.volume().get()}).sql()?;
            }
            publish(tx, held.volume())
        })?;
        Ok(held)
    }

    /// Makes a read-only snapshot named `key` of the committed `parent`.
    ///
    /// # Errors
    /// As [`Store::prepare`].
    pub fn view(&self, key: &Key, parent: &Key) -> Result<()> {
        self.begin(SnapshotKind::View, key, Some(parent))?.publish(|_| Ok(()))
    }

    /// Makes the active snapshot `key`, not mounted, the committed snapshot `name`.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` if it is not active, `Exists` if the name is taken, `InUse` if it is mounted.
    pub fn commit(&self, name: &Key, key: &Key) -> Result<()> {
        let _lock = self.lock(key)?;
        let info = self.stat(key)?;
        if info.kind != SnapshotKind::Active {
            return Err(Error::new(
                Kind::Invalid,
                format!("commit snapshot {key}: it is {}, not active", info.kind.name()),
            ));
        }
        // Asked before the volume is sealed, and by the database again when it is: that refusal is for the rare case that
        // another command takes the name at the same moment, and the sealed snapshot can still be committed by another.
        self.database.read("look up a snapshot", |tx| match Info::find(tx, name)? {
            Some(_) => Err(Error::new(Kind::Exists, format!("commit snapshot {key} as {name}: that exists already"))),
            None => Ok(()),
        })?;
        self.retire(info.volume, &format!("commit snapshot {key}"))?;
        self.driver.seal(info.volume)?;
        crash::point(crash::Point::CommitSealed);
        self.database.write(&format!("commit snapshot {key} as {name}"), |tx| {
            let changed = tx
                .execute(
                    "UPDATE snapshots SET key = :name, kind = 'committed' WHERE key = :key AND kind = 'active' AND state = 'ready'",
                    named_params! {":name": name.as_str(), ":key": key.as_str()},
                )
                .sql()?;
            if changed == 1 { Ok(()) } else { Err(gone(key)) }
        })
    }

    /// Removes the snapshot `key`.
    ///
    /// # Errors
    /// `NotFound`; `InUse` if it has children or is mounted.
    pub fn remove(&self, key: &Key) -> Result<()> {
        let lock = self.lock(key)?;
        let info = self.stat(key)?;
        self.retire(info.volume, &format!("remove snapshot {key}"))?;
        self.database.write(&format!("remove snapshot {key}"), |tx| {
            if has_children(tx, info.volume)? {
                return Err(Error::new(
                    Kind::InUse,
                    format!("remove snapshot {key}: other snapshots lie on it; remove them first"),
                ));
            }
            self.disown(tx, info.volume)
        })?;
        drop(lock);
        self.recover_volume(info.volume)
    }

    /// From this transaction on nobody wants `volume`; [`Store::recover_volume`] removes it.
    /// [`Store::disown`] of one that has no children, with the intent to remove it: one transaction for both.
    pub(crate) fn discard(&self, tx: &Transaction<'_>, volume: VolumeId) -> Result<()> {
        self.disown(tx, volume)?;
        recovery::intend_removal(tx, volume)
    }

    pub(crate) fn disown(&self, tx: &Transaction<'_>, volume: VolumeId) -> Result<()> {
        tx.execute("UPDATE snapshots SET kept = 0 WHERE volume = :v", named_params! {":v": volume.get()})
            .sql()
            .map(drop)
    }

    /// How to mount the snapshot `key`: read-write if it is active, else read-only.
    ///
    /// What it activates is to be mounted, or opened, before another command opens the store, or with the snapshot's
    /// lock held: recovery takes an active volume that nobody holds and nobody locks for what a dead process left.
    ///
    /// # Errors
    /// `NotFound`, or the driver's.
    pub fn mounts(&self, key: &Key) -> Result<MountSpec> {
        let info = self.stat(key)?;
        let access = if info.kind == SnapshotKind::Active { Access::ReadWrite } else { Access::ReadOnly };
        let stack = self.stack(info.volume)?;
        self.driver.mounts(stack.volume, &stack.parents, access)
    }

    /// Ends what [`Store::mounts`] activated. Idempotent.
    ///
    /// # Errors
    /// `NotFound`, or the driver's.
    pub fn release(&self, key: &Key) -> Result<()> {
        self.driver.release(self.stat(key)?.volume)
    }

    /// Where the snapshot `key` lies in the pool, by the driver's names for that.
    ///
    /// # Errors
    /// `NotFound`, or the driver's.
    pub fn place(&self, key: &Key) -> Result<Vec<(&'static str, String)>> {
        let stack = self.stack(self.stat(key)?.volume)?;
        self.driver.place(stack.volume, &stack.parents)
    }

    /// What is known of the snapshot `key`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn stat(&self, key: &Key) -> Result<Info> {
        let info = self.database.read("look up a snapshot", |tx| Info::find(tx, key))?;
        info.filter(|info| info.state == State::Ready).ok_or_else(|| gone(key))
    }

    /// Blocks of the pool that belong to the snapshot `key` and not to its parents.
    ///
    /// # Errors
    /// `NotFound`, or the driver's.
    pub fn usage(&self, key: &Key) -> Result<Usage> {
        let info = self.stat(key)?;
        if let Some(exclusive) = info.own {
            return Ok(Usage { exclusive });
        }
        let stack = self.stack(info.volume)?;
        let usage = self.driver.usage(stack.volume, &stack.parents)?;
        if info.kind == SnapshotKind::Committed {
            // A layer never changes, so its answer is kept.
            self.database.write("note a layer's own bytes", |tx| {
                tx.execute(
                    "UPDATE snapshots SET own = :own WHERE volume = :v AND kind = 'committed'",
                    named_params! {":own": usage.exclusive.0, ":v": info.volume.get()},
                )
                .sql()
            })?;
        }
        Ok(usage)
    }

    /// Apparent bytes of the files that the active snapshot `key` added or changed, where the driver tells it of one that
    /// may be written meanwhile.
    ///
    /// # Errors
    /// `NotFound`, or the driver's.
    pub fn written(&self, key: &Key) -> Result<Option<Bytes>> {
        let stack = self.stack(self.stat(key)?.volume)?;
        match self.driver.written(stack.volume, &stack.parents) {
            // Something went while it was looked at: a sealed copy holds still.
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            written => written,
        }
    }

    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn walk(&self) -> Result<Vec<Info>> {
        let mut all = self.database.read("list snapshots", Info::all)?;
        all.retain(|info| info.state == State::Ready);
        Ok(all)
    }

    fn stack(&self, volume: VolumeId) -> Result<Stack> {
        let parents = self.database.read("look up a snapshot's ancestors", |tx| parents(tx, volume))?;
        Ok(Stack { volume, parents })
    }

    /// The pool's state.
    ///
    /// # Errors
    /// The driver's.
    pub fn status(&self) -> Result<PoolStatus> {
        self.driver.status()
    }

    /// The driver below.
    pub fn driver(&self) -> &dyn Driver {
        self.driver.as_ref()
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

/// Another command may have destroyed the pool since this one opened it.
fn refuse_without_pool(tx: &Transaction<'_>, root: &Path) -> Result<()> {
    let mut statement = tx.prepare_cached("SELECT EXISTS (SELECT 1 FROM pool WHERE state = 'ready')").sql()?;
    if statement.query_row([], |row| row.get(0)).sql()? { Ok(()) } else { Err(no_pool(root)) }
}

fn gone(key: &Key) -> Error {
    Error::new(Kind::NotFound, format!("snapshot {key} does not exist"))
}

/// The present time as the image-spec and Docker write it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}
