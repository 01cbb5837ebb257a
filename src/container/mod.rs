//! Containers: an image plus a thin writable layer that is its own, and goes with it.
//!
//! Invariant: a container's row and its snapshot appear and disappear together, and it is mounted where the mount
//! table says so and nowhere else; no state about mounts is kept that a reboot would make wrong.

mod exec;
mod home;
mod instant;
mod life;
mod logs;
mod mount_points;
mod mounts;
mod removal;
mod settings;
mod status;
mod volumes;

use std::{collections::HashSet, os::fd::BorrowedFd};

use jiff::Timestamp;

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use rustix::fs::FileType;

use self::instant::Instant;
pub use self::{
    exec::ExecRequest,
    life::{Watch, Watched},
    logs::{LogsRequest, Piece},
    removal::{forget_all, running},
    settings::{Overrides, Settings, Source, Tmpfs, VolumeMount, signal_of},
    status::{State, Status, UNKNOWN_CODE},
    volumes::parse_volume,
};
use crate::{
    driver::{Access, ChangeKind, Changes},
    error::{Error, Kind, Result},
    fs::{file_type, identity, locate},
    id::{ContainerId, ImageId, VolumeId},
    image::{
        catalog::{Catalog, Image},
        layer,
        reference::Reference,
    },
    store::{Info, Key, Lock, Sql as _, Store, parsed},
    units::Bytes,
};

/// The containers of a store.
#[derive(Clone, Copy, Debug)]
pub struct Containers<'store> {
    store: &'store Store,
}

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its identity.
    pub id: ContainerId,
    /// Its name, unique in the store.
    pub name: String,
    /// The image that it was made from.
    pub image: ImageId,
    /// What the user called that image.
    pub reference: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// The sizes of a container.
#[derive(Debug)]
pub struct Sizes {
    /// Apparent bytes of what it added or changed: Docker's SIZE. Not known on a pool too full to hold it still.
    pub rw: Result<Bytes>,
    /// Apparent bytes of the image's files; with the former, Docker's virtual size.
    pub image: Bytes,
    /// Bytes in the pool that are its own.
    pub own: Bytes,
}

impl Container {
    fn key(&self) -> Key {
        Key::container(&self.id)
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.get("name")?,
            image: parsed(row, "image")?,
            reference: row.get("reference")?,
            created: row.get("created")?,
        })
    }
}

impl<'store> Containers<'store> {
    /// The containers of `store`.
    pub fn new(store: &'store Store) -> Self {
        Self { store }
    }

    /// Makes a container of `image` that runs as the image says: one snapshot and one row. Without a name it gets one.
    ///
    /// # Errors
    /// `Exists` if the name is taken, `Invalid` for a name that Docker would refuse, `Full`.
    pub fn create(&self, image: &Image, reference: &str, name: Option<&str>) -> Result<Container> {
        let settings = Settings::of(&image.config, Overrides::default())?;
        self.create_with(image, reference, name, &settings)
    }

    /// Makes a container of `image` that runs with these settings.
    ///
    /// # Errors
    /// As [`Containers::create`].
    pub fn create_with(
        &self,
        image: &Image,
        reference: &str,
        name: Option<&str>,
        settings: &Settings,
    ) -> Result<Container> {
        let name = match name {
            Some(name) => checked_name(name)?,
            None => random_name(),
        };
        let container = Container {
            id: ContainerId::random(),
            name,
            image: image.id,
            reference: reference.to_owned(),
            created: crate::store::now(),
        };
        // Asked before the work for a quick answer, and again when publishing for a true one.
        self.store.database().read("look up a container name", |tx| refuse_if_taken(tx, &container.name))?;
        let settings = serde_json::to_string(settings)
            .map_err(|error| Error::with_source(Kind::Invalid, "write how the container runs", error))?;
        self.store.prepare_with(&container.key(), image.top().as_ref(), |tx, volume| {
            insert(tx, &container, volume, &settings)
        })?;
        Ok(container)
    }

    /// All containers, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self) -> Result<Vec<Container>> {
        self.store.database().read("list containers", |tx| {
            let mut statement = tx.prepare("SELECT * FROM containers ORDER BY created DESC, rowid DESC").sql()?;
            statement.query_map([], Container::from_row).sql()?.collect::<rusqlite::Result<_>>().sql()
        })
    }

    /// The container that `name` names: a name, an ID, or the beginning of an ID.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if a beginning fits several.
    pub fn find(&self, name: &str) -> Result<Container> {
        let all = self.list()?;
        // A full ID is always the ID, whatever somebody has called a container.
        let by_id = all.iter().find(|container| container.id.as_str() == name);
        if let Some(container) = by_id.or_else(|| all.iter().find(|container| container.name == name)) {
            return Ok(container.clone());
        }
        let mut fits = all.into_iter().filter(|container| !name.is_empty() && container.id.as_str().starts_with(name));
        match (fits.next(), fits.count()) {
            (Some(container), 0) => Ok(container),
            (Some(_), others) => Err(Error::new(
                Kind::Invalid,
                format!("container ID {name} is the beginning of {} containers; write more of it", others + 1),
            )),
            (None, _) => Err(Error::new(Kind::NotFound, format!("no such container: {name}"))),
        }
    }

    /// How the container runs.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` for settings that cannot be read.
    pub fn settings(&self, container: &Container) -> Result<Settings> {
        let text: Option<String> = self.store.database().read("look up how a container runs", |tx| {
            let mut statement = tx.prepare_cached("SELECT settings FROM containers WHERE id = :id").sql()?;
            statement.query_row(named_params! {":id": container.id.as_str()}, |row| row.get(0)).optional().sql()
        })?;
        let text = text.ok_or_else(|| Error::new(Kind::NotFound, format!("no such container: {}", container.name)))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::with_source(Kind::Corrupt, "read how the container runs", error))
    }

    /// [`Containers::lock`], or none if another command has it.
    fn try_lock(&self, container: &Container) -> Result<Option<Lock>> {
        self.store.try_lock(&container.key()).map_err(|error| self.told(container, error))
    }

    /// Keeps other commands away from the container.
    fn lock(&self, container: &Container) -> Result<Lock> {
        self.store.lock(&container.key()).map_err(|error| self.told(container, error))
    }

    /// In the words of who asked: a snapshot that is missing went with its container.
    fn told(&self, container: &Container, error: Error) -> Error {
        match error.kind() {
            Kind::NotFound if self.find(container.id.as_str()).is_err() => Error::new(
                Kind::NotFound,
                format!("no such container: {} (another command has just removed it)", container.name),
            ),
            _ => error,
        }
    }

    /// Its writable snapshot.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn snapshot(&self, container: &Container) -> Result<Info> {
        self.store.stat(&container.key())
    }

    /// How the container differs from its image.
    ///
    /// # Errors
    /// The driver's.
    pub fn changes(&self, container: &Container) -> Result<Changes> {
        self.captured(container).map(|instant| instant.changes)
    }

    /// The container's sizes.
    ///
    /// # Errors
    /// The driver's, or those of its image.
    pub fn sizes(&self, container: &Container) -> Result<Sizes> {
        let catalog = Catalog::new(self.store);
        let image = catalog.size(&catalog.find(&container.image.to_string())?)?;
        let own = self.store.usage(&container.key()).map_err(|error| self.told(container, error))?.exclusive;
        Ok(Sizes { rw: self.written(container), image, own })
    }

    /// Apparent bytes of the regular files that it added or changed.
    fn written(&self, container: &Container) -> Result<Bytes> {
        let Instant { held, changes, .. } = self.captured(container)?;
        if changes.iter().all(|change| change.kind == ChangeKind::Deleted) {
            return Ok(Bytes(0));
        }
        let mounted = held.mounted(Access::ReadOnly)?;
        apparent_size(mounted.root(), &changes)
    }

    /// Makes the container's present state a new image: its changes become a layer on those of its image.
    ///
    /// # Errors
    /// `Full`, or the driver's; nothing stays then.
    pub fn commit(&self, container: &Container, reference: Option<&Reference>) -> Result<Image> {
        let catalog = Catalog::new(self.store);
        let image = catalog.find(&container.image.to_string())?;
        let Instant { held, changes, holds_more } = self.captured(container)?;
        // Held until it is published.
        let (_held, diff) = match holds_more {
            true => self.layer_of(&held, &changes, &image.config)?,
            false => {
                let diff = layer::stack(self.store, &held, &changes, &image.config)?;
                (held, diff)
            }
        };
        let config = image.config.committed(diff, "", "", Timestamp::now())?;
        catalog.publish(&config, reference)
    }
}

/// Apparent bytes of the regular files among what was added or changed, hard links once.
fn apparent_size(root: BorrowedFd<'_>, changes: &Changes) -> Result<Bytes> {
    let mut seen = HashSet::new();
    let mut size = 0;
    for change in changes.iter().filter(|change| change.kind != ChangeKind::Deleted) {
        let Some(located) = locate(root, &change.path)? else { continue };
        let Some(stat) = located.place().stat()? else { continue };
        if file_type(&stat) == FileType::RegularFile && (stat.st_nlink == 1 || seen.insert(identity(&stat))) {
            size += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
    Ok(Bytes(size))
}

fn insert(tx: &Transaction<'_>, container: &Container, volume: VolumeId, settings: &str) -> Result<()> {
    refuse_if_taken(tx, &container.name)?;
    tx.execute(
        "INSERT INTO containers (id, name, image, reference, snapshot, created, settings)
         VALUES (:id, :name, :image, :reference, :snapshot, :created, :settings)",
        named_params! {
            ":id": container.id.as_str(), ":name": container.name, ":image": container.image.to_string(),
            ":reference": container.reference, ":snapshot": volume.get(), ":created": container.created,
            ":settings": settings,
        },
    )
    .sql()
    .map(drop)
}

fn refuse_if_taken(tx: &Transaction<'_>, name: &str) -> Result<()> {
    let user: Option<String> = tx
        .query_row("SELECT id FROM containers WHERE name = :name", named_params! {":name": name}, |row| row.get(0))
        .optional()
        .sql()?;
    match user {
        None => Ok(()),
        Some(id) => Err(Error::new(
            Kind::Exists,
            format!(
                "container name {name} is in use by container {id:.12}; remove that container or choose another name"
            ),
        )),
    }
}

/// `name`, if a container may be called so. Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
///
/// # Errors
/// `Invalid`.
pub fn checked_name(name: &str) -> Result<String> {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = characters.as_str();
    if first
        && !rest.is_empty()
        && name.len() <= 255
        && rest.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    {
        return Ok(name.to_owned());
    }
    Err(Error::new(
        Kind::Invalid,
        format!(
            "invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, 2 to 255 of them",
            name.escape_debug()
        ),
    ))
}

/// Two words and a few digits, so that a thousand containers do not meet.
fn random_name() -> String {
    let words = petname::petname(2, "_").unwrap_or_else(|| "container".to_owned());
    format!("{words}_{}", &ContainerId::random().as_str()[..4])
}

#[cfg(test)]
mod tests {
    use super::{checked_name, random_name};

    #[test]
    fn names_are_those_that_docker_takes() {
        for name in ["ab", "my_container_1", "A.b-c"] {
            assert_eq!(checked_name(name).unwrap(), name);
        }
        for name in ["", "k", "-ab", "a b", "a/b", "..", "ä1"] {
            assert!(checked_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn random_names_are_allowed_names() {
        for _ in 0..100 {
            checked_name(&random_name()).unwrap();
        }
    }
}
