//! What the store knows of one snapshot, and the questions about rows that several verbs ask.

use std::{fmt, str::FromStr};

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use serde::Serialize;

use super::database::Sql as _;
use crate::{
    driver::DriverKind,
    error::{Error, Kind, Result},
    id::{CacheId, ChainId, ContainerId, Digest, VolumeId},
    units::Bytes,
};

/// The name of a snapshot: a container's ID, a layer's chain ID, or whatever a caller of the store chooses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// The key of a container's writable snapshot.
    pub fn container(id: &ContainerId) -> Self {
        Self(id.to_string())
    }

    /// The key of a layer on its stack.
    pub fn layer(chain: ChainId) -> Self {
        Self(chain.to_string())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fine = |c: char| c.is_ascii_graphic();
        if text.is_empty() || text.len() > 255 || !text.chars().all(fine) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "snapshot key '{}' is not 1 to 255 printable ASCII characters without spaces",
                    text.escape_debug()
                ),
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $vis:vis $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "lowercase")]
        $vis enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// The word in the database.
            $vis const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
                match value.as_str()? {
                    $($text => Ok(Self::$variant),)*
                    other => Err(rusqlite::types::FromSqlError::Other(format!("unknown word '{other}'").into())),
                }
            }
        }

        impl rusqlite::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(self.name().into())
            }
        }
    };
}

names! {
    /// What a snapshot is for.
    pub SnapshotKind {
        /// Writable.
        Active = "active",
        /// Read-only, to look at a layer.
        View = "view",
        /// A layer: never changes, may be a parent.
        Committed = "committed",
    }
}

names! {
    /// How far its volume is.
    pub(super) State {
        /// The intent is written; the volume may or may not exist.
        Creating = "creating",
        /// The volume exists and is what the row says.
        Ready = "ready",
        /// The volume is going away; it may or may not exist still.
        Removing = "removing",
    }
}

names! {
    /// How the archive of a layer came, and how it is kept therefore.
    pub BlobFormat {
        /// With gzip, kept as it came.
        Gzip = "gzip",
        /// With Zstandard, kept as it came.
        Zstd = "zstd",
        /// Not compressed; its outline is kept, and what its files hold is the snapshot's.
        Plain = "plain",
    }
}

/// The archive that a layer came from, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Blob {
    /// How it came.
    pub format: BlobFormat,
    /// sha256 of the file; that of the archive as it came, unless that was [`BlobFormat::Plain`].
    pub digest: Digest,
    /// Bytes of the file.
    #[serde(rename = "size_bytes")]
    pub size: Bytes,
    /// Bytes of the tar that it gives.
    #[serde(rename = "plain_bytes")]
    pub plain: Bytes,
}

/// One snapshot as [`super::Store::stat`] and [`super::Store::walk`] tell it.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Its name.
    pub key: Key,
    /// Its volume.
    pub volume: VolumeId,
    /// What it is for.
    pub kind: SnapshotKind,
    /// The layer it lies on.
    pub parent: Option<Key>,
    /// The random name under which it lies in the pool.
    pub cache_id: CacheId,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Apparent bytes of a layer's files.
    pub size: Option<Bytes>,
    /// What may be written to it, if that is limited.
    #[serde(rename = "size_limit_bytes", skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Bytes>,
    /// Of a layer that came from an archive: that archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<Blob>,
    /// Of a layer, once it was asked for: bytes in the pool that are its own.
    #[serde(skip)]
    pub(super) own: Option<Bytes>,
    #[serde(skip)]
    pub(super) state: State,
    #[serde(skip)]
    pub(super) kept: bool,
}

const COLUMNS: &str =
    "SELECT s.key, s.volume, s.kind, p.key AS parent, s.cache_id, s.created, s.size, s.own, s.size_limit, s.state, s.kept,
            s.blob_format, s.blob_digest, s.blob_size, s.blob_plain
     FROM snapshots s LEFT JOIN snapshots p ON p.volume = s.parent";

/// The text in `column` as what it stands for.
pub(crate) fn parsed<T: FromStr<Err = Error>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    text(&row.get::<_, String>(column)?)
}

fn text<T: FromStr<Err = Error>>(text: &str) -> rusqlite::Result<T> {
    text.parse().map_err(|error: Error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

pub(super) fn volume(row: &Row<'_>, column: &str) -> rusqlite::Result<VolumeId> {
    VolumeId::new(row.get(column)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Integer, Box::new(error)))
}

impl Blob {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let Some(format) = row.get("blob_format")? else { return Ok(None) };
        Ok(Some(Self {
            format,
            digest: parsed(row, "blob_digest")?,
            size: Bytes(row.get("blob_size")?),
            plain: Bytes(row.get("blob_plain")?),
        }))
    }
}

impl Info {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key: parsed(row, "key")?,
            volume: volume(row, "volume")?,
            kind: row.get("kind")?,
            parent: row.get::<_, Option<String>>("parent")?.map(|key| text(&key)).transpose()?,
            cache_id: parsed(row, "cache_id")?,
            created: row.get("created")?,
            size: row.get::<_, Option<u64>>("size")?.map(Bytes),
            own: row.get::<_, Option<u64>>("own")?.map(Bytes),
            size_limit: row.get::<_, Option<u64>>("size_limit")?.map(Bytes),
            blob: Blob::from_row(row)?,
            state: row.get("state")?,
            kept: row.get("kept")?,
        })
    }

    /// The row of `key`, whatever its state.
    pub(super) fn find(tx: &Transaction<'_>, key: &Key) -> Result<Option<Self>> {
        let mut statement = tx.prepare_cached(&format!("{COLUMNS} WHERE s.key = :key")).sql()?;
        statement.query_row(named_params! {":key": key.as_str()}, Self::from_row).optional().sql()
    }

    /// The row of a volume, whatever its state.
    pub(super) fn of_volume(tx: &Transaction<'_>, volume: VolumeId) -> Result<Option<Self>> {
        tx.query_row(&format!("{COLUMNS} WHERE s.volume = :v"), named_params! {":v": volume.get()}, Self::from_row)
            .optional()
            .sql()
    }

    /// All rows, by volume.
    pub(super) fn all(tx: &Transaction<'_>) -> Result<Vec<Self>> {
        let mut statement = tx.prepare(&format!("{COLUMNS} ORDER BY s.volume")).sql()?;
        statement.query_map([], Self::from_row).sql()?.collect::<rusqlite::Result<_>>().sql()
    }
}

/// The number of a new volume: one above all that ever were, and once these have ended, the lowest that is free.
///
/// # Errors
/// `Full` on thin when they have ended. Each of them was one snapshot, and the pool counts those in 24 bits beside the chunk
/// that a mapping names (`pack_block_time`, drivers/md/dm-thin-metadata.c): one more would change what mappings name.
pub(super) fn next_volume(tx: &Transaction<'_>, driver: DriverKind) -> Result<VolumeId> {
    let highest: u64 = tx
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'")
        .sql()?
        .query_row([], |row| row.get(0))
        .optional()
        .sql()?
        .unwrap_or(0);
    if let Ok(next) = VolumeId::new(highest + 1) {
        return Ok(next);
    }
    if driver == DriverKind::Thin {
        let what = format!(
            "this pool has made {} snapshots, as many as a thin pool can count; 'lamina save' its images and load them into a new one",
            VolumeId::MAX
        );
        return Err(Error::new(Kind::Full, what));
    }
    let free: u64 = tx
        .query_row(
            "SELECT min(number) FROM (
                 SELECT 1 AS number WHERE NOT EXISTS (SELECT 1 FROM snapshots WHERE volume = 1)
                 UNION ALL
                 SELECT s.volume + 1 FROM snapshots s
                 WHERE NOT EXISTS (SELECT 1 FROM snapshots other WHERE other.volume = s.volume + 1))",
            [],
            |row| row.get(0),
        )
        .sql()?;
    VolumeId::new(free).map_err(|error| error.within("all volume numbers are in use; remove something"))
}

/// The ancestors of a volume, nearest first, without itself.
pub(super) fn parents(tx: &Transaction<'_>, of: VolumeId) -> Result<Vec<VolumeId>> {
    let mut statement = tx
        .prepare_cached(
            "WITH RECURSIVE up (volume, depth) AS (
                 SELECT parent, 1 FROM snapshots WHERE volume = :v
                 UNION ALL
                 SELECT s.parent, depth + 1 FROM snapshots s JOIN up ON s.volume = up.volume WHERE s.parent IS NOT NULL
             )
             SELECT volume FROM up WHERE volume IS NOT NULL ORDER BY depth",
        )
        .sql()?;
    statement
        .query_map(named_params! {":v": of.get()}, |row| volume(row, "volume"))
        .sql()?
        .collect::<rusqlite::Result<_>>()
        .sql()
}

/// Whether a snapshot lies on this one.
pub(super) fn has_children(tx: &Transaction<'_>, of: VolumeId) -> Result<bool> {
    tx.query_row("SELECT EXISTS (SELECT 1 FROM snapshots WHERE parent = :v)", named_params! {":v": of.get()}, |row| {
        row.get(0)
    })
    .sql()
}

#[cfg(test)]
mod tests {
    use super::next_volume;
    use crate::{driver::DriverKind, error::Kind, id::VolumeId};

    #[test]
    fn numbers_come_around_when_they_have_ended() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema.sql")).unwrap();
        let tx = connection.transaction().unwrap();
        let insert = |volume: VolumeId| {
            let key = format!("k{volume}");
            tx.execute(
                "INSERT INTO snapshots (volume, key, kind, state, kept, cache_id, created)
                 VALUES (?1, ?2, 'active', 'ready', 1, ?2, '')",
                (volume.get(), key),
            )
            .unwrap();
        };
        for expected in [1, 2, 3] {
            let next = next_volume(&tx, DriverKind::Btrfs).unwrap();
            assert_eq!(next.get(), expected);
            insert(next);
        }
        tx.execute("DELETE FROM snapshots WHERE volume = 2", []).unwrap();
        assert_eq!(next_volume(&tx, DriverKind::Btrfs).unwrap().get(), 4, "not used again while there are others");
        insert(VolumeId::MAX);
        let error = next_volume(&tx, DriverKind::Thin).unwrap_err();
        assert_eq!(error.kind(), Kind::Full, "{error}");
        assert_eq!(next_volume(&tx, DriverKind::Btrfs).unwrap().get(), 2);
        tx.execute("DELETE FROM snapshots WHERE volume = 1", []).unwrap();
        assert_eq!(next_volume(&tx, DriverKind::Btrfs).unwrap().get(), 1);
    }
}
