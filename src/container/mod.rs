//! Containers: an image plus a thin writable layer that is its own, and goes with it.
//!
//! Invariant: a container's row and its snapshot appear and disappear together, and it is mounted where the mount
//! table says so and nowhere else; no state about mounts is kept that a reboot would make wrong.

mod commit;
mod copy;
mod exec;
mod export;
mod home;
mod instant;
mod logs;
mod mount_points;
mod mounts;
mod removal;
mod settings;
mod signal;
mod sizes;
mod start;
mod status;
mod stop;
mod view;
mod volumes;

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};

pub use self::{
    commit::Note,
    copy::How,
    exec::ExecRequest,
    logs::{LogsRequest, Piece},
    removal::{Removal, ended_unattended, forget_all, running},
    settings::{Overrides, Settings, Source, Tmpfs, VolumeMount},
    signal::signal_of,
    sizes::Sizes,
    start::{Ready, Watch, Watched},
    status::{State, Status, UNKNOWN_CODE},
    view::View,
    volumes::parse_volume,
};
use crate::{
    driver::Changes,
    error::{Error, Kind, Result},
    id::{ContainerId, ImageId, VolumeId},
    image::catalog::Image,
    store::{Held, Info, Key, Lock, Sql as _, Store, parsed},
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

/// What a container is to be.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Of which image.
    pub image: &'a Image,
    /// What the user called that.
    pub reference: &'a str,
    /// Its name; without one it gets one.
    pub name: Option<&'a str>,
    /// How it runs.
    pub settings: &'a Settings,
    /// What may be written to it at most.
    pub limit: Option<Bytes>,
}

impl Order<'_> {
    fn container(&self) -> Result<Container> {
        Ok(Container {
            id: ContainerId::random(),
            name: self.name.map_or_else(|| Ok(random_name()), checked_name)?,
            image: self.image.id,
            reference: self.reference.to_owned(),
            created: crate::store::now(),
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
        self.create_with(&Order { image, reference, name, settings: &settings, limit: None })
    }

    /// Makes a container as ordered.
    ///
    /// # Errors
    /// As [`Containers::create`]; also `Unsupported` where the driver has no limits.
    pub fn create_with(&self, order: &Order<'_>) -> Result<Container> {
        let container = order.container()?;
        self.make(&container, order, || Ok(()))?;
        Ok(container)
    }

    /// Makes `container`; what is to begin when its name is free and its volumes are right, and before the store has admitted
    /// it, does `before`. It is locked until the first value that is returned is dropped.
    fn make<T>(
        &self,
        container: &Container,
        order: &Order<'_>,
        before: impl FnOnce() -> Result<T>,
    ) -> Result<(Held<'store>, T)> {
        // Asked before the work for a quick answer, and again when publishing for a true one.
        self.store.database().read("look up a container name", |tx| refuse_if_taken(tx, &container.name))?;
        let text = serde_json::to_string(order.settings)
            .map_err(|error| Error::with_source(Kind::Invalid, "write how the container runs", error))?;
        let volumes = self.wanted_volumes(order.settings)?;
        let publish = |tx: &Transaction<'_>, volume| {
            insert(tx, container, volume, &text)?;
            let attach = |wanted: &volumes::Wanted| wanted.attach(tx, &container.id);
            volumes.iter().try_for_each(attach)
        };
        let begun = before()?;
        let held = self.store.prepare_held(&container.key(), order.image.top().as_ref(), order.limit, publish)?;
        Ok((held, begun))
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

    /// Gives the container another name.
    ///
    /// # Errors
    /// `Exists` if the name is taken, `Invalid` for one that Docker would refuse, `NotFound`.
    pub fn rename(&self, container: &Container, name: &str) -> Result<()> {
        let name = checked_name(name)?;
        let act = format!("rename container {} to {name}", container.name);
        self.store.database().write(&act, |tx| {
            refuse_if_taken(tx, &name)?;
            let rename = "UPDATE containers SET name = :name WHERE id = :id";
            match tx.execute(rename, named_params! {":name": name, ":id": container.id.as_str()}).sql()? {
                1 => Ok(()),
                _ => Err(Error::new(Kind::NotFound, format!("no such container: {}", container.name))),
            }
        })
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
