//! Data volumes: directories of the host's own file system that bypass the driver, are shared by containers, and outlive
//! them.
//!
//! A data volume is `ROOT/volumes/NAME/_data` and a row. Making, filling and removing one follow the store's rule:
//! intent, act, publish. A row that is not 'ready' belongs to the process that holds the volume's lock; once that lock is
//! free its owner is dead, and [`Volumes::of`] removes directory and row.
//!
//! Invariant: a ready row has its directory; a volume that a container has cannot be removed; what an image has in a
//! volume's place is copied whole or not at all, and only into a volume that no container has had.

mod draft;
mod fill;
mod recovery;
mod uses;

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::PathBuf,
};

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use rustix::fs::{Mode, OFlags, fchmod};

pub use self::{
    draft::Draft,
    uses::{Attached, attach},
};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::apparent_tree,
    id::CacheId,
    store::{Lock, Sql as _, Store, now},
    units::Bytes,
};

/// The directory in a volume's directory that holds its content.
const DATA: &str = "_data";

/// The mode of the directories above it, as Docker's: others may pass through, as a container's user who is not root does
/// on the host, and see nothing.
const PASSABLE: u32 = 0o701;

/// The data volumes of a store.
#[derive(Clone, Copy, Debug)]
pub struct Volumes<'store> {
    store: &'store Store,
}

/// One data volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    number: u64,
    /// Its name.
    pub name: String,
    /// Whether it was made for one container, under a random name.
    pub anonymous: bool,
    /// What the user noted with it.
    pub labels: BTreeMap<String, String>,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// What [`Volumes::prune`] did.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// The names of what is gone.
    pub removed: Vec<String>,
    /// The apparent bytes of their files.
    pub size: Bytes,
}

impl Volume {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let labels: String = row.get("labels")?;
        Ok(Self {
            number: row.get("number")?,
            name: row.get("name")?,
            anonymous: row.get("anonymous")?,
            labels: serde_json::from_str(&labels).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
            })?,
            created: row.get("created")?,
        })
    }

    fn find(tx: &Transaction<'_>, name: &str) -> Result<Option<Self>> {
        let question = "SELECT * FROM volumes WHERE name = :name AND state = 'ready'";
        tx.query_row(question, named_params! {":name": name}, Self::from_row).optional().sql()
    }
}

impl<'store> Volumes<'store> {
    /// The data volumes of `store`. What dead commands left of some is removed first; what cannot be is told.
    pub fn of(store: &'store Store) -> Self {
        let volumes = Self { store };
        if let Err(error) = volumes.recover() {
            tracing::warn!("remove what is left of data volumes: {error}; the next command tries again");
        }
        volumes
    }

    /// The volume `name`, which is made if there is none, with these labels; without a name, a new anonymous one.
    ///
    /// # Errors
    /// `Invalid` for a name that Docker would refuse; `NotOurs` if its directory is there already and nobody's.
    pub fn create(&self, name: Option<&str>, labels: &BTreeMap<String, String>) -> Result<Volume> {
        let random = CacheId::random();
        let name = name.map_or(Ok(random.as_str()), checked_name)?;
        let anonymous = name == random.as_str();
        loop {
            self.refuse_if_lost(name)?;
            match self.begin(name, anonymous, labels)? {
                Begun::There(volume) => return Ok(volume),
                Begun::New(number, lock) => return self.make(number, lock, name),
                // Somebody makes or removes it at this moment, or died at it.
                Begun::Unfinished(number) => {
                    drop(self.store.lock_data(number)?);
                    self.recover()?;
                }
            }
        }
    }

    /// What lies in a volume's place and no row tells of is somebody else's: no intent may say that it is to be removed.
    fn refuse_if_lost(&self, name: &str) -> Result<()> {
        let directory = self.directory(name);
        // Asked again at the end: one that another command removes loses its row last.
        if !directory.exists() || self.is_known(name)? || !directory.exists() {
            return Ok(());
        }
        Err(Error::new(
            Kind::NotOurs,
            format!(
                "make volume {name}: {} lies there already, of a volume that the database does not know; bring lamina.db back, or move it away",
                directory.display()
            ),
        ))
    }

    /// Writes the intent to make a volume, whose lock is taken within the transaction.
    fn begin(&self, name: &str, anonymous: bool, labels: &BTreeMap<String, String>) -> Result<Begun> {
        let labels = serde_json::to_string(labels)
            .map_err(|error| Error::with_source(Kind::Invalid, "write down the labels", error))?;
        self.store.database().write(&format!("note the new volume {name}"), |tx| {
            if let Some(volume) = Volume::find(tx, name)? {
                return Ok(Begun::There(volume));
            }
            let question = "SELECT number FROM volumes WHERE name = :name";
            let unfinished: Option<u64> =
                tx.query_row(question, named_params! {":name": name}, |row| row.get(0)).optional().sql()?;
            if let Some(number) = unfinished {
                return Ok(Begun::Unfinished(number));
            }
            let number = tx
                .query_row(
                    "INSERT INTO volumes (name, anonymous, labels, state, used, created)
                     VALUES (:name, :anonymous, :labels, 'creating', 0, :created) RETURNING number",
                    named_params! {":name": name, ":anonymous": anonymous, ":labels": labels, ":created": now()},
                    |row| row.get(0),
                )
                .sql()?;
            Ok(Begun::New(number, self.store.lock_data(number)?))
        })
    }

    fn make(&self, number: u64, lock: Lock, name: &str) -> Result<Volume> {
        crash::point(crash::Point::DataIntent);
        let made = self.make_directory(name).and_then(|()| {
            crash::point(crash::Point::DataMade);
            self.store.database().write(&format!("publish volume {name}"), |tx| {
                let ready = "UPDATE volumes SET state = 'ready' WHERE number = :n RETURNING *";
                tx.query_row(ready, named_params! {":n": number}, Volume::from_row).sql()
            })
        });
        made.map_err(|error| {
            // Of what lay there before, nothing is ours.
            let undo = match error.kind() {
                Kind::NotOurs => self.forget(number),
                _ => self.remove_unfinished(number),
            };
            drop(lock);
            error.and_undo(undo).within(format!("make volume {name}"))
        })
    }

    fn make_directory(&self, name: &str) -> Result<()> {
        let all = self.store.layout().volumes();
        let act = || format!("make the directory of volume {name}");
        DirBuilder::new().recursive(true).mode(PASSABLE).create(&all).act(act)?;
        let directory = all.join(name);
        match DirBuilder::new().mode(PASSABLE).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let what = format!("somebody has just put something at {}", directory.display());
                return Err(Error::new(Kind::NotOurs, what));
            }
            made => made.act(act)?,
        }
        // Not what the umask makes of them.
        for passable in [&all, &directory] {
            fs::set_permissions(passable, fs::Permissions::from_mode(PASSABLE)).act(act)?;
        }
        let data = directory.join(DATA);
        DirBuilder::new().mode(0o755).create(&data).act(act)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let data = rustix::fs::open(&data, flags, Mode::empty()).act(act)?;
        fchmod(&data, Mode::from_raw_mode(0o755)).act(act)?;
        [data.into(), open(&directory)?, open(&all)?].iter().try_for_each(|file: &File| file.sync_all()).act(act)
    }

    /// The volume `name`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn find(&self, name: &str) -> Result<Volume> {
        let found = self.store.database().read("look up a volume", |tx| Volume::find(tx, name))?;
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("no such volume: {name}")))
    }

    /// All volumes in the order of their names.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>> {
        self.store.database().read("list volumes", |tx| {
            let mut statement = tx.prepare("SELECT * FROM volumes WHERE state = 'ready' ORDER BY name").sql()?;
            statement.query_map([], Volume::from_row).sql()?.collect::<rusqlite::Result<_>>().sql()
        })
    }

    /// Where its content lies.
    pub fn path(&self, volume: &Volume) -> PathBuf {
        self.directory(&volume.name).join(DATA)
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.store.layout().volumes().join(name)
    }

    /// The apparent bytes of its files, as Docker counts them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn size(&self, volume: &Volume) -> Result<Bytes> {
        use std::os::fd::AsFd as _;
        apparent_tree(open(&self.path(volume))?.as_fd()).act(|| format!("measure volume {}", volume.name))
    }

    /// Removes a volume with its content.
    ///
    /// # Errors
    /// `InUse` while a container has it, with the containers; `NotFound` if another command removed it.
    pub fn remove(&self, volume: &Volume) -> Result<()> {
        let name = &volume.name;
        let lock = self.store.lock_data(volume.number)?;
        self.store.database().write(&format!("note the removal of volume {name}"), |tx| {
            let users = uses::users(tx, volume.number)?;
            if !users.is_empty() {
                let what = format!(
                    "remove volume {name}: it is in use by {}; remove these containers first",
                    users.join(", ")
                );
                return Err(Error::new(Kind::InUse, what));
            }
            let intent = "UPDATE volumes SET state = 'removing' WHERE number = :n AND state = 'ready'";
            match tx.execute(intent, named_params! {":n": volume.number}).sql()? {
                1 => Ok(()),
                _ => Err(Error::new(Kind::NotFound, format!("no such volume: {name}"))),
            }
        })?;
        crash::point(crash::Point::DataRemoving);
        let removed = self.remove_unfinished(volume.number);
        drop(lock);
        removed
    }

    /// Removes the volumes that no container has: anonymous ones, and with `all` those with a name.
    ///
    /// # Errors
    /// When one cannot be read or removed; what was removed before stays so.
    pub fn prune(&self, all: bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for volume in self.list()?.into_iter().filter(|volume| all || volume.anonymous) {
            crate::interrupt::check()?;
            if !self.users(&volume)?.is_empty() {
                continue;
            }
            let size = self.size(&volume)?;
            match self.remove(&volume) {
                Ok(()) => {
                    pruned.size += size;
                    pruned.removed.push(volume.name);
                }
                // A container got it, or another command removed it, since we looked.
                Err(error) if matches!(error.kind(), Kind::InUse | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }
}

/// How far it is with a volume that is wanted.
enum Begun {
    There(Volume),
    New(u64, Lock),
    Unfinished(u64),
}

fn open(path: &std::path::Path) -> Result<File> {
    fs::File::open(path).act(|| format!("open {}", path.display()))
}

/// `name`, if a volume may be called so. Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
///
/// # Errors
/// `Invalid`.
pub fn checked_name(name: &str) -> Result<&str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && (2..=255).contains(&name.len()) && name.chars().all(fine) {
        return Ok(name);
    }
    Err(Error::new(
        Kind::Invalid,
        format!(
            "invalid volume name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, 2 to 255 of them; a directory of the host is named by its absolute path",
            name.escape_debug()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::checked_name;

    #[test]
    fn names_are_those_that_docker_takes() {
        for name in ["ab", "my_data-1", "A.b"] {
            assert_eq!(checked_name(name).unwrap(), name);
        }
        for name in ["", "k", "-ab", "a b", "a/b", "..", "../x", "ä1", &"a".repeat(256)] {
            assert!(checked_name(name).is_err(), "{name}");
        }
    }
}
