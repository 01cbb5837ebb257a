//! A root directory whose pool may be missing, down, or half made: what every command stands on before it has a store.
//!
//! Invariant: the pool's lock is held for whatever changes the pool's row. A pool whose row says 'creating' or
//! 'destroying' was left by a dead command and is removed by the next one that holds the lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};

use super::{
    PoolOptions, Store, blob,
    database::{Database, Sql as _},
    download,
    layout::{DATABASE, Layout},
    lock::Locks,
    lost::refuse_if_lost,
};
use crate::{
    crash,
    driver::{
        Driver, DriverKind,
        pool::{self, PoolSpec},
    },
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, mounts_below},
    id::CacheId,
    units::Bytes,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolState {
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
    pub(super) layout: Layout,
    pub(super) database: Database,
    pub(super) locks: Locks,
}

impl Ground {
    /// The ground of a root directory that was used before; looking at another must not make anything in it.
    pub(super) fn existing(root: &Path) -> Result<Option<Self>> {
        if is_there(root)? { Self::at(root).map(Some) } else { not_lost(root).map(|()| None) }
    }

    /// The ground of a root directory that is to be used. A new database beside an old pool would be in the way of the
    /// right one, whose write-ahead log has the same name.
    pub(super) fn new(root: &Path) -> Result<Self> {
        if !is_there(root)? {
            not_lost(root)?;
        }
        Self::at(root)
    }

    fn at(root: &Path) -> Result<Self> {
        let layout = Layout::new(root)?;
        let locks = Locks::new(&layout.locks());
        let database = Database::open(&layout.database(), &locks)?;
        Ok(Self { layout, database, locks })
    }

    pub(super) fn spec(&self, kind: DriverKind, options: &PoolOptions) -> Result<PoolSpec> {
        let absolute = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let given = options.data.as_deref().map(length).transpose()?.flatten();
        if let (Some(given), Some(_), Some(path)) = (given, options.size, &options.data) {
            let what = format!("{} has {given} already; leave --size out", path.display());
            return Err(Error::new(Kind::Invalid, what));
        }
        Ok(PoolSpec {
            kind,
            uuid: CacheId::random().as_str()[..32].to_owned(),
            directory: self.layout.pool(),
            size: given.or(options.size).unwrap_or(Bytes::gib(100)),
            chunk: options.chunk.unwrap_or(Bytes::kib(64)),
            fs: options.fs.unwrap_or(BlockFs::Ext4),
            data: absolute(&options.data)?,
            metadata: absolute(&options.metadata)?,
        })
    }

    pub(super) fn pool(&self) -> Result<Option<(PoolSpec, PoolState)>> {
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
            "destroying" => PoolState::Destroying,
            other => return Err(Error::new(Kind::Corrupt, format!("the pool's row has the unknown state '{other}'"))),
        };
        Ok(Some((PoolSpec { kind: driver.parse()?, fs: fs.parse()?, ..spec }, state)))
    }

    /// With the lock held: removes a pool that a dead command left half made or half destroyed; returns a ready one.
    pub(super) fn settle(&self) -> Result<Option<PoolSpec>> {
        match self.pool()? {
            None => refuse_if_lost(self.layout.root()).map(|()| None),
            Some((spec, PoolState::Ready)) => Ok(Some(spec)),
            Some((spec, PoolState::Creating | PoolState::Destroying)) => self
                .remove(&spec)
                .map(|()| None)
                .map_err(|error| error.within("finish what an earlier command left of the pool")),
        }
    }

    pub(super) fn write_intent(&self, spec: &PoolSpec) -> Result<()> {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let (data, metadata) = (text(&spec.data), text(&spec.metadata));
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

    pub(super) fn set_state(&self, state: PoolState) -> Result<()> {
        self.set_state_if(state, || Ok(()))
    }

    /// Sets the state unless `refuse` does. Nobody begins a snapshot meanwhile: that takes a transaction of its own,
    /// which looks at the state.
    pub(super) fn set_state_if(&self, state: PoolState, refuse: impl FnOnce() -> Result<()>) -> Result<()> {
        self.database.write("note the pool's state", |tx| {
            refuse()?;
            tx.execute("UPDATE pool SET state = :state", named_params! {":state": state.name()}).sql().map(drop)
        })
    }

    /// Destroys the pool itself, then all that the database knew of it.
    pub(super) fn remove(&self, spec: &PoolSpec) -> Result<()> {
        pool::destroy(spec)?;
        blob::remove_all(&self.layout)?;
        download::remove_all(&self.layout)?;
        crash::point(crash::Point::DestroyActed);
        self.database.write("forget the pool", forget_everything)
    }

    /// While a container is mounted, or another command works on a volume, the pool must stay.
    pub(super) fn refuse_if_used(&self, act: &str) -> Result<()> {
        let mounted = mounted_containers(&self.layout)?;
        if let Some((target, id)) = mounted.first_key_value() {
            let containers: BTreeSet<&String> = mounted.values().collect();
            let what = format!(
                "{act}: {} containers are mounted, among them {id:.12} at {}; unmount them with 'lamina umount', or with \
                 'umount' what is mounted there and no container",
                containers.len(),
                target.display()
            );
            return Err(Error::new(Kind::InUse, what));
        }
        if self.locks.any()? {
            return Err(Error::new(Kind::InUse, format!("{act}: another command is at work; let it end first")));
        }
        Ok(())
    }

    pub(super) fn bring_up(self, spec: &PoolSpec) -> Result<Store> {
        let driver = pool::open(spec)?;
        let store = self.store(driver);
        store.finish_growth()?;
        Ok(store)
    }

    pub(super) fn store(self, driver: Box<dyn Driver>) -> Store {
        let store = Store { layout: self.layout, database: self.database, locks: self.locks, driver };
        store.recover_or_tell();
        store
    }
}

/// Fails if a pool has lost its database.
fn not_lost(root: &Path) -> Result<()> {
    match refuse_if_lost(root) {
        // Another first command has made database and pool since the database was looked for.
        Err(_) if is_there(root)? => Ok(()),
        result => result,
    }
}

/// An empty file is no database: one that was emptied must be told like one that is gone, and one that another command
/// is just making has no pool yet.
fn is_there(root: &Path) -> Result<bool> {
    let database = root.join(DATABASE);
    match fs::metadata(&database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|found| found.len() > 0).act(|| format!("look for {}", database.display())),
    }
}

/// The length of a file or block device that is there and not empty.
fn length(path: &Path) -> Result<Option<Bytes>> {
    let act = || format!("ask for the length of {}", path.display());
    match File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0))) {
        Ok(0) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        length => Ok(Some(Bytes(length.act(act)?))),
    }
}

/// Absolute, because a working directory does not outlive the command; and UTF-8, as the database's text is.
fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).act(|| format!("find {}", path.display()))?;
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(Error::new(Kind::Invalid, format!("path {} is not UTF-8; choose another", path.display()))),
    }
}

fn forget_everything(tx: &Transaction<'_>) -> Result<()> {
    tx.execute_batch(
        "DELETE FROM containers; DELETE FROM tags; DELETE FROM images;
         UPDATE snapshots SET parent = NULL; DELETE FROM snapshots; DELETE FROM pool;",
    )
    .sql()
}

/// Which containers are mounted: each mount point below `mounts/`, also one inside a container, with the container's ID.
pub(super) fn mounted_containers(layout: &Layout) -> Result<BTreeMap<PathBuf, String>> {
    let mounts = layout.mounts();
    let container = |target: PathBuf| {
        let id = target.strip_prefix(&mounts).ok()?.components().next()?.as_os_str().to_str()?.to_owned();
        Some((target, id))
    };
    Ok(mounts_below(&mounts)?.into_iter().filter_map(|mount| container(mount.target)).collect())
}
