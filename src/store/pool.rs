//! The pool's life: made, opened by every command, grown, taken down, destroyed.
//!
//! Invariant: the pool's lock is held for each of these, except for opening a pool that is up. A pool whose row says
//! 'creating' or 'destroying' was left by a dead command and is removed by the next one that holds the lock.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};

use super::{
    Store,
    database::{Database, Sql as _},
    layout::Layout,
    lock::Locks,
};
use crate::{
    crash,
    driver::{
        DriverKind,
        pool::{self, PoolSpec},
    },
    error::{Error, Kind, Result},
    fs::{BlockFs, mounts_below},
    id::CacheId,
    units::Bytes,
};

/// What a user may choose of a pool.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// The mechanism; `None` is thin where the kernel has it, else btrfs.
    pub driver: Option<DriverKind>,
    /// Data space.
    pub size: Bytes,
    /// Unit of sharing, of a thin-pool.
    pub chunk: Bytes,
    /// File system on thin volumes.
    pub fs: BlockFs,
    /// Backing file or device.
    pub data: Option<PathBuf>,
    /// Backing file or device of a thin-pool's metadata.
    pub metadata: Option<PathBuf>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            driver: None,
            size: Bytes::gib(100),
            chunk: Bytes::kib(64),
            fs: BlockFs::Ext4,
            data: None,
            metadata: None,
        }
    }
}

/// A pool that was made just now.
#[derive(Clone, Debug)]
pub struct Made {
    /// Which mechanism.
    pub driver: DriverKind,
    /// Its data space.
    pub size: Bytes,
    /// Where its files are.
    pub directory: PathBuf,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        match self.driver {
            DriverKind::Thin | DriverKind::Btrfs => {
                write!(f, "a {} pool of {} in {directory}; it takes space as it fills", self.driver, self.size)
            }
            // These are as large as the file system they lie on.
            DriverKind::Overlay | DriverKind::Vfs => write!(f, "{} pool in {directory}", with_article(self.driver)),
        }
    }
}

fn with_article(driver: DriverKind) -> &'static str {
    if driver == DriverKind::Overlay { "an overlay" } else { "a vfs" }
}

impl Store {
    /// Opens the store at `root`, with its pool brought up if it was down, and what dead commands left repaired.
    /// `None` if there is no pool.
    ///
    /// # Errors
    /// The driver's, when the pool cannot be brought up.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let ground = Ground::new(root)?;
        let Some((spec, state)) = ground.pool()? else { return Ok(None) };
        if state != PoolState::Ready {
            let _lock = ground.locks.pool()?;
            return match ground.settle()? {
                Some(spec) => ground.bring_up(&spec).map(Some),
                None => Ok(None),
            };
        }
        if pool::is_up(&spec)? {
            return ground.store(&spec).map(Some);
        }
        let _lock = ground.locks.pool()?;
        ground.bring_up(&spec).map(Some)
    }

    /// Opens the store at `root` and makes a pool by `options` if it has none.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::create_pool`].
    pub fn open_or_make(root: &Path, options: &PoolOptions) -> Result<(Self, Option<Made>)> {
        if let Some(store) = Self::open(root)? {
            return Ok((store, None));
        }
        match Self::create_pool(root, options) {
            Ok(made) => Self::reopen(root).map(|store| (store, Some(made))),
            // Another first command was faster.
            Err(error) if error.kind() == Kind::Exists => Self::reopen(root).map(|store| (store, None)),
            Err(error) => Err(error),
        }
    }

    fn reopen(root: &Path) -> Result<Self> {
        Self::open(root)?
            .ok_or_else(|| Error::new(Kind::NotFound, "the pool was destroyed by another command meanwhile; try again"))
    }

    /// Makes the pool of `root` and leaves it up.
    ///
    /// # Errors
    /// `Exists` if there is one; otherwise the driver's; nothing stays then.
    pub fn create_pool(root: &Path, options: &PoolOptions) -> Result<Made> {
        let kind = match options.driver {
            Some(kind) => pool::supported(kind).map(|()| kind)?,
            None => choose()?,
        };
        let ground = Ground::new(root)?;
        let _lock = ground.locks.pool()?;
        if let Some(spec) = ground.settle()? {
            return Err(Error::new(
                Kind::Exists,
                format!(
                    "make pool in {}: there is a {} pool already; use another --root, or remove it with 'lamina pool destroy --yes'",
                    root.display(),
                    spec.kind
                ),
            ));
        }
        let spec = ground.spec(kind, options);
        pool::examine(&spec)?;
        ground.write_intent(&spec)?;
        crash::point(crash::Point::PoolIntent);
        if let Err(error) = pool::create(&spec) {
            let undone = ground.remove(&spec);
            return Err(error.within(format!("make {kind} pool")).and_undo(undone));
        }
        crash::point(crash::Point::PoolActed);
        ground.set_state(PoolState::Ready)?;
        Ok(Made { driver: kind, size: spec.size, directory: spec.directory })
    }

    /// Takes the pool of `root` down. Returns whether it was up.
    ///
    /// # Errors
    /// `NotFound` without a pool; `InUse` while a container is mounted.
    pub fn close_pool(root: &Path) -> Result<bool> {
        let ground = Ground::new(root)?;
        let _lock = ground.locks.pool()?;
        let spec = ground.settle()?.ok_or_else(|| no_pool(root))?;
        if !pool::is_up(&spec)? {
            return Ok(false);
        }
        ground.refuse_if_mounted("take the pool down")?;
        pool::close(&spec).map(|()| true)
    }

    /// Destroys the pool of `root` with everything in it.
    ///
    /// # Errors
    /// `NotFound` without a pool; `InUse` while a container is mounted.
    pub fn destroy_pool(root: &Path) -> Result<()> {
        let ground = Ground::new(root)?;
        let _lock = ground.locks.pool()?;
        let spec = ground.settle()?.ok_or_else(|| no_pool(root))?;
        ground.refuse_if_mounted("destroy the pool")?;
        ground.set_state(PoolState::Destroying)?;
        crash::point(crash::Point::DestroyIntent);
        ground.remove(&spec)
    }

    /// Enlarges the pool's data space to `size`.
    ///
    /// # Errors
    /// `Invalid` for a size that is not larger, `Full` if the disk below cannot hold it.
    pub fn grow(&self, size: Bytes) -> Result<()> {
        let _lock = self.locks.pool()?;
        self.note_growth(Some(size))?;
        crash::point(crash::Point::GrowIntent);
        if let Err(error) = self.driver.grow(size) {
            let undone = self.note_growth(None);
            return Err(error.within(format!("grow pool to {size}")).and_undo(undone));
        }
        crash::point(crash::Point::GrowActed);
        self.database.write("note the pool's new size", |tx| {
            tx.execute("UPDATE pool SET size = max(size, grow_to), grow_to = NULL", []).sql().map(drop)
        })
    }

    fn note_growth(&self, size: Option<Bytes>) -> Result<()> {
        self.database.write("note the pool's growth", |tx| {
            tx.execute("UPDATE pool SET grow_to = :size", named_params! {":size": size.map(|size| size.0)})
                .sql()
                .map(drop)
        })
    }
}

/// The mechanism for a pool that nobody chose one for.
fn choose() -> Result<DriverKind> {
    match pool::supported(DriverKind::Thin) {
        Ok(()) => Ok(DriverKind::Thin),
        Err(thin) => match pool::supported(DriverKind::Btrfs) {
            Ok(()) => Ok(DriverKind::Btrfs),
            Err(btrfs) => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "this machine can run neither a thin nor a btrfs pool ({thin}; {btrfs}); 'lamina pool create --driver overlay' may work"
                ),
            )),
        },
    }
}

/// A command that needs a pool found none.
pub(crate) fn no_pool(root: &Path) -> Error {
    Error::new(Kind::NotFound, format!("there is no pool in {}; make one with 'lamina pool create'", root.display()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolState {
    Creating,
    Ready,
    Destroying,
}

impl PoolState {
    const fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Destroying => "destroying",
        }
    }
}

/// A root directory whose pool may be missing or down.
pub(super) struct Ground {
    layout: Layout,
    database: Database,
    pub(super) locks: Locks,
}

impl Ground {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let layout = Layout::new(root)?;
        layout.make()?;
        let database = Database::open(&layout.database())?;
        let locks = Locks::new(&layout.locks());
        Ok(Self { layout, database, locks })
    }

    fn spec(&self, kind: DriverKind, options: &PoolOptions) -> PoolSpec {
        PoolSpec {
            kind,
            uuid: CacheId::random().as_str()[..32].to_owned(),
            directory: self.layout.pool(),
            size: options.size,
            chunk: options.chunk,
            fs: options.fs,
            data: options.data.clone(),
            metadata: options.metadata.clone(),
        }
    }

    fn pool(&self) -> Result<Option<(PoolSpec, PoolState)>> {
        let row = |row: &Row<'_>| -> rusqlite::Result<(String, String, String, PoolSpec)> {
            let path = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(column)?.map(PathBuf::from));
            let spec = PoolSpec {
                kind: DriverKind::Vfs,
                uuid: row.get("uuid")?,
                directory: self.layout.pool(),
                size: Bytes(row.get("size")?),
                chunk: Bytes(row.get("chunk")?),
                fs: BlockFs::Ext4,
                data: path("data")?,
                metadata: path("metadata")?,
            };
            Ok((row.get("driver")?, row.get("fs")?, row.get("state")?, spec))
        };
        let found = self
            .database
            .read("look up the pool", |tx| tx.query_row("SELECT * FROM pool", [], row).optional().sql())?;
        let Some((driver, fs, state, spec)) = found else { return Ok(None) };
        let state = match state.as_str() {
            "creating" => PoolState::Creating,
            "ready" => PoolState::Ready,
            _ => PoolState::Destroying,
        };
        Ok(Some((PoolSpec { kind: driver.parse()?, fs: fs.parse()?, ..spec }, state)))
    }

    /// With the lock held: removes a pool that a dead command left half made or half destroyed; returns a ready one.
    pub(super) fn settle(&self) -> Result<Option<PoolSpec>> {
        match self.pool()? {
            None => Ok(None),
            Some((spec, PoolState::Ready)) => Ok(Some(spec)),
            Some((spec, PoolState::Creating | PoolState::Destroying)) => self
                .remove(&spec)
                .map(|()| None)
                .map_err(|error| error.within("finish what an earlier command left of the pool")),
        }
    }

    fn write_intent(&self, spec: &PoolSpec) -> Result<()> {
        let path = |path: &Option<PathBuf>| -> Result<Option<String>> {
            path.as_ref().map(|path| absolute_text(path)).transpose()
        };
        let (data, metadata) = (path(&spec.data)?, path(&spec.metadata)?);
        self.database.write("note the new pool", |tx| {
            tx.execute(
                "INSERT INTO pool (one, uuid, driver, size, chunk, fs, data, metadata, state)
                 VALUES (1, :uuid, :driver, :size, :chunk, :fs, :data, :metadata, 'creating')",
                named_params! {
                    ":uuid": spec.uuid, ":driver": spec.kind.name(), ":size": spec.size.0, ":chunk": spec.chunk.0,
                    ":fs": spec.fs.name(), ":data": data, ":metadata": metadata,
                },
            )
            .sql()
            .map(drop)
        })
    }

    fn set_state(&self, state: PoolState) -> Result<()> {
        self.database.write("note the pool's state", |tx| {
            tx.execute("UPDATE pool SET state = :state", named_params! {":state": state.name()}).sql().map(drop)
        })
    }

    /// Destroys the pool itself, then all that the database knew of it.
    fn remove(&self, spec: &PoolSpec) -> Result<()> {
        pool::destroy(spec)?;
        crash::point(crash::Point::DestroyActed);
        self.database.write("forget the pool", forget_everything)
    }

    pub(super) fn refuse_if_mounted(&self, act: &str) -> Result<()> {
        let mounted = mounts_below(&self.layout.mounts())?;
        let Some(first) = mounted.first() else { return Ok(()) };
        let name = first.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Err(Error::new(
            Kind::InUse,
            format!(
                "{act}: {} containers are mounted, among them {name:.12}; unmount them with 'lamina umount'",
                mounted.len()
            ),
        ))
    }

    pub(super) fn bring_up(self, spec: &PoolSpec) -> Result<Store> {
        let act = || format!("bring the {} pool up", spec.kind);
        let store = self.store(spec).map_err(|error| match error.kind() {
            Kind::Corrupt => error.within("'lamina check --repair' may help").within(act()),
            _ => error.within(act()),
        })?;
        let growth = store.database.read("look for an unfinished growth", |tx| {
            tx.query_row("SELECT grow_to FROM pool", [], |row| row.get::<_, Option<u64>>(0)).sql()
        })?;
        if let Some(size) = growth.map(Bytes) {
            store.driver.grow(size).map_err(|error| error.within(act()))?;
            store.database.write("note the pool's new size", |tx| {
                tx.execute("UPDATE pool SET size = max(size, grow_to), grow_to = NULL", []).sql().map(drop)
            })?;
        }
        Ok(store)
    }

    fn store(self, spec: &PoolSpec) -> Result<Store> {
        let driver = pool::open(spec)?;
        let store = Store { layout: self.layout, database: self.database, locks: self.locks, driver };
        store.recover()?;
        Ok(store)
    }
}

fn absolute_text(path: &Path) -> Result<String> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::with_source(Kind::Invalid, format!("find {}", path.display()), error))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::new(Kind::Invalid, format!("path {} is not UTF-8; choose another", path.display())))
}

fn forget_everything(tx: &Transaction<'_>) -> Result<()> {
    tx.execute_batch(
        "DELETE FROM containers; DELETE FROM tags; DELETE FROM images;
         UPDATE snapshots SET parent = NULL; DELETE FROM snapshots; DELETE FROM pool;",
    )
    .sql()
}
