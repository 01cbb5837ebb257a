//! The pool's life: made, opened by every command, grown, taken down, destroyed.
//!
//! Invariant: the pool's lock is held for each of these, except for opening a pool that is up.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rusqlite::named_params;

use super::{
    Store,
    database::Sql as _,
    ground::{Ground, PoolState},
    refuse_without_pool,
};
use crate::{
    crash,
    driver::{DriverKind, pool},
    error::{Error, Kind, Result},
    fs::BlockFs,
    units::Bytes,
};

/// What a user may choose of a pool.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions {
    /// The mechanism; `None` is thin where the kernel has it, else btrfs.
    pub driver: Option<DriverKind>,
    /// Data space; `None` is 100 GiB.
    pub size: Option<Bytes>,
    /// Unit of sharing, of a thin-pool; `None` is 64 KiB.
    pub chunk: Option<Bytes>,
    /// File system on thin volumes; `None` is ext4.
    pub fs: Option<BlockFs>,
    /// Backing file or device.
    pub data: Option<PathBuf>,
    /// Backing file or device of a thin-pool's metadata.
    pub metadata: Option<PathBuf>,
}

impl PoolOptions {
    /// Refuses what a pool of `kind` has no use for, rather than ignoring what a user relies on.
    fn require_use(&self, kind: DriverKind) -> Result<()> {
        let (thin, block) = (kind == DriverKind::Thin, kind.has_device());
        let given = [
            ("--size", self.size.is_some(), block),
            ("--data", self.data.is_some(), block),
            ("--metadata", self.metadata.is_some(), thin),
            ("--chunk", self.chunk.is_some(), thin),
            ("--fs", self.fs.is_some(), thin),
        ];
        match given.into_iter().find(|(_, given, used)| *given && !used) {
            Some((name, ..)) => {
                Err(Error::new(Kind::Invalid, format!("a pool of the {kind} driver has no {name}; leave it out")))
            }
            None => Ok(()),
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
        if self.driver.has_device() {
            return write!(f, "a {} pool of {} in {directory}; it takes space as it fills", self.driver, self.size);
        }
        // One of directories is as large as the file system it lies on.
        let article = if self.driver == DriverKind::Overlay { "an" } else { "a" };
        write!(f, "{article} {} pool in {directory}", self.driver)
    }
}

/// What there is of a pool without bringing it up.
enum Up {
    Store(Box<Store>),
    Ground(Ground),
    Nothing,
}

impl Store {
    /// Opens the store at `root`, with its pool brought up if it was down, and what dead commands left repaired.
    /// `None` if there is no pool.
    ///
    /// # Errors
    /// The driver's, when the pool cannot be brought up.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let ground = match Self::of_pool_up(root)? {
            Up::Store(store) => return Ok(Some(*store)),
            Up::Ground(ground) => ground,
            Up::Nothing => return Ok(None),
        };
        let _lock = ground.locks.pool()?;
        // Looked up again: while this waited, another command may have grown the pool, or destroyed it.
        ground.settle()?.map(|spec| ground.bring_up(&spec)).transpose()
    }

    /// Opens the store at `root` if its pool is up; one that is down is left so.
    ///
    /// # Errors
    /// When the kernel's state or the database cannot be read.
    pub fn open_if_up(root: &Path) -> Result<Option<Self>> {
        match Self::of_pool_up(root)? {
            Up::Store(store) => Ok(Some(*store)),
            Up::Ground(_) | Up::Nothing => Ok(None),
        }
    }

    fn of_pool_up(root: &Path) -> Result<Up> {
        let Some(ground) = Ground::existing(root)? else { return Ok(Up::Nothing) };
        match ground.pool()? {
            Some((spec, PoolState::Ready)) => Ok(match pool::open_up(&spec)? {
                Some(driver) => Up::Store(Box::new(ground.store(driver))),
                None => Up::Ground(ground),
            }),
            _ => Ok(Up::Ground(ground)),
        }
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
        options.require_use(kind)?;
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
        let spec = ground.spec(kind, options)?;
        pool::examine(&spec)?;
        ground.write_intent(&spec)?;
        crash::point(crash::Point::PoolIntent);
        if let Err(error) = pool::create(&spec) {
            let undone = ground.remove(&spec);
            return Err(error.and_undo(undone));
        }
        crash::point(crash::Point::PoolActed);
        ground.set_state(PoolState::Ready)?;
        Ok(Made { driver: kind, size: spec.size, directory: spec.directory })
    }

    /// Takes the pool of `root` down, unless `refuse` does. Returns whether it was up.
    ///
    /// # Errors
    /// `NotFound` without a pool; `InUse` while a container is mounted; those of `refuse`.
    pub fn close_pool(root: &Path, refuse: &dyn Fn() -> Result<()>) -> Result<bool> {
        let ground = Ground::existing(root)?.ok_or_else(|| no_pool(root))?;
        let _lock = ground.locks.pool()?;
        let spec = ground.settle()?.ok_or_else(|| no_pool(root))?;
        let was_up = pool::is_up(&spec)?;
        // In this order: who works on a volume now may have it in use when that is asked next.
        ground.refuse_if_used("take the pool down").and_then(|()| refuse())?;
        pool::require_kept(&spec)?;
        // Also one that is down: a process that died on the way up or down may have left a loop device.
        pool::close(&spec)?;
        ground.database.settle().map(|()| was_up)
    }

    /// Destroys the pool of `root` with everything in it, unless `refuse` does; `forget` does what is to be done before
    /// anybody can make another.
    ///
    /// # Errors
    /// `NotFound` without a pool; `InUse` while a container is mounted; those of `refuse` and `forget`.
    pub fn destroy_pool(root: &Path, refuse: &dyn Fn() -> Result<()>, forget: &dyn Fn() -> Result<()>) -> Result<()> {
        let ground = Ground::existing(root)?.ok_or_else(|| no_pool(root))?;
        let _lock = ground.locks.pool()?;
        let spec = ground.settle()?.ok_or_else(|| no_pool(root))?;
        let refuse = || ground.refuse_if_used("destroy the pool").and_then(|()| refuse());
        refuse()?;
        // What refuses must refuse before the intent is written, or the next command would destroy instead.
        pool::close(&spec)?;
        ground.set_state_if(PoolState::Destroying, refuse)?;
        crash::point(crash::Point::DestroyIntent);
        ground.remove(&spec)?;
        forget()
    }

    /// Enlarges the pool's data space to `size`.
    ///
    /// # Errors
    /// `Invalid` for a size that is not larger, `Full` if the disk below cannot hold it.
    pub fn grow(&self, size: Bytes) -> Result<()> {
        let _lock = self.locks.pool()?;
        let now = self.database.read("look up the pool's size", |tx| {
            refuse_without_pool(tx, self.layout.root())?;
            tx.query_row("SELECT size FROM pool", [], |row| row.get(0).map(Bytes)).sql()
        })?;
        // A pool without a device says by itself that it has no size to grow.
        if size <= now && self.driver.kind().has_device() {
            let what = format!("grow pool to {size}: it has {now} already, and a pool never shrinks");
            return Err(Error::new(Kind::Invalid, what));
        }
        self.note_growth(Some(size))?;
        crash::point(crash::Point::GrowIntent);
        if let Err(error) = self.driver.grow(size) {
            let undone = self.note_growth(None);
            return Err(self.explain(error).and_undo(undone));
        }
        crash::point(crash::Point::GrowActed);
        self.note_grown()
    }

    /// Finishes a growth that a dead command began. One that cannot be finished is given up: the pool is as good as it
    /// was, and must come up.
    pub(super) fn finish_growth(&self) -> Result<()> {
        let begun = self.database.read("look for an unfinished growth", |tx| {
            tx.query_row("SELECT grow_to FROM pool", [], |row| row.get::<_, Option<u64>>(0)).sql()
        })?;
        let Some(size) = begun.map(Bytes) else { return Ok(()) };
        // As large as that already: the driver refuses then, and only the note is left to do.
        match self.driver.grow(size) {
            Err(error) if error.kind() != Kind::Invalid => {
                tracing::warn!("finish growing the pool to {size}: {error}; it keeps the size that it has");
                self.note_growth(None)
            }
            _ => self.note_grown(),
        }
    }

    fn note_grown(&self) -> Result<()> {
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
