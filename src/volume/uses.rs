//! Which container has which data volume.
//!
//! Invariant: a use begins in the transaction that publishes its container, or later, and only of a ready volume; it ends
//! with the container's row. So a volume with a use is never being removed.

use rusqlite::{OptionalExtension as _, Transaction, named_params};

use super::{Volume, Volumes};
use crate::{
    error::{Error, Kind, Result},
    id::ContainerId,
    store::Sql as _,
};

/// A data volume in its place in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The volume.
    pub volume: Volume,
    /// The path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// Gives `container`, whose row is there or is published by this transaction, the volume in the place `target`.
///
/// # Errors
/// `NotFound` if the volume was removed since it was found: find or make it anew, and try again.
pub fn attach(
    tx: &Transaction<'_>,
    container: &ContainerId,
    volume: &Volume,
    target: &str,
    read_only: bool,
) -> Result<()> {
    let added = tx
        .execute(
            "INSERT INTO volume_uses (container, volume, target, read_only)
             SELECT :container, number, :target, :read_only FROM volumes WHERE number = :n AND state = 'ready'",
            named_params! {
                ":container": container.as_str(), ":n": volume.number, ":target": target, ":read_only": read_only,
            },
        )
        .sql()?;
    match added {
        1 => Ok(()),
        _ => Err(Error::new(Kind::NotFound, format!("volume {} was removed by another command", volume.name))),
    }
}

/// The names of the containers that have the volume.
pub(super) fn users(tx: &Transaction<'_>, number: u64) -> Result<Vec<String>> {
    let mut statement = tx
        .prepare_cached(
            "SELECT DISTINCT c.name FROM volume_uses u JOIN containers c ON c.id = u.container
             WHERE u.volume = :n ORDER BY c.name",
        )
        .sql()?;
    statement.query_map(named_params! {":n": number}, |row| row.get(0)).sql()?.collect::<rusqlite::Result<_>>().sql()
}

impl Volumes<'_> {
    /// The volumes that a container has, in the order of their places.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn attached(&self, container: &ContainerId) -> Result<Vec<Attached>> {
        self.store.database().read("list a container's volumes", |tx| {
            let mut statement = tx
                .prepare_cached(
                    "SELECT v.*, u.target, u.read_only FROM volume_uses u JOIN volumes v ON v.number = u.volume
                     WHERE u.container = :container ORDER BY u.target",
                )
                .sql()?;
            let rows = statement.query_map(named_params! {":container": container.as_str()}, |row| {
                Ok(Attached {
                    volume: Volume::from_row(row)?,
                    target: row.get("target")?,
                    read_only: row.get("read_only")?,
                })
            });
            rows.sql()?.collect::<rusqlite::Result<_>>().sql()
        })
    }

    /// The names of the containers that have the volume.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn users(&self, volume: &Volume) -> Result<Vec<String>> {
        self.store.database().read("list a volume's containers", |tx| users(tx, volume.number))
    }

    /// Within the transaction that removes their container: those of `attached` that no other container has are removed by
    /// the next [`Volumes::recover`], whoever comes to that.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn give_up(tx: &Transaction<'_>, attached: &[Attached]) -> Result<()> {
        attached.iter().try_for_each(|attached| {
            tx.execute(
                "UPDATE volumes SET state = 'removing' WHERE number = :n AND state = 'ready'
                 AND NOT EXISTS (SELECT 1 FROM volume_uses WHERE volume = :n)",
                named_params! {":n": attached.volume.number},
            )
            .sql()
            .map(drop)
        })
    }

    /// Whether a container has had the volume.
    ///
    /// # Errors
    /// `NotFound`; when the database cannot be read.
    pub fn is_used(&self, volume: &Volume) -> Result<bool> {
        let used: Option<bool> = self.store.database().read("look up a volume", |tx| {
            let question = "SELECT used FROM volumes WHERE number = :n AND state = 'ready'";
            tx.query_row(question, named_params! {":n": volume.number}, |row| row.get(0)).optional().sql()
        })?;
        used.ok_or_else(|| Error::new(Kind::NotFound, format!("no such volume: {}", volume.name)))
    }
}
