//! The database: one SQLite file with a write-ahead log, one schema version.
//!
//! Invariant: a transaction is short (no kernel call, no file system work inside) and durable when it returns
//! (`synchronous = FULL` syncs the log at every commit), so no command waits long for another and no intent is lost.

use std::{
    fs::{OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, config::DbConfig};

use super::lock::Locks;
use crate::error::{Act as _, Error, Kind, Result};

/// The schema version that this program writes.
const VERSION: i64 = 6;

/// What makes a database of version N one of version N + 1, from N = 0 on.
const STEPS: [&str; 6] = [
    include_str!("schema.sql"),
    include_str!("upgrade-2.sql"),
    include_str!("upgrade-3.sql"),
    include_str!("upgrade-4.sql"),
    include_str!("upgrade-5.sql"),
    include_str!("upgrade-6.sql"),
];

/// How long to wait for another command's transaction; they take milliseconds each.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the log gets before its pages are put into their places: long enough that this is rare, short enough that
/// a command that finds it reads it in a millisecond.
const LOG_PAGES: u32 = 256;

/// The open database.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
}

impl Database {
    /// Opens the database at `path`, and makes it if it is not there or was left half made.
    pub(super) fn open(path: &Path, locks: &Locks) -> Result<Self> {
        hide(path)?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
            // The log stays when the last command ends: making and growing it anew costs each command several journal
            // commits of the file system, while overwriting it in place costs one flush per commit.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            Ok(connection)
        };
        let act = || format!("open database {}", path.display());
        let database = Self { connection: open().map_err(|error| failed(error, &act()))? };
        if database.version()? < VERSION {
            // SQLite does not wait for another connection that changes the journal's mode: it fails at once.
            let _lock = locks.pool()?;
            database.upgrade().map_err(|error| error.within(act()))?;
        }
        match database.version()? {
            VERSION => Ok(database),
            other => Err(Error::new(
                Kind::NotOurs,
                format!(
                    "database {} has schema version {other} and this lamina knows version {VERSION}; use the lamina that made it",
                    path.display()
                ),
            )),
        }
    }

    /// Brings a database up to date, one version after the other, unless another command has done so meanwhile.
    fn upgrade(&self) -> Result<()> {
        if self.version()? == 0 {
            self.connection.pragma_update(None, "journal_mode", "WAL").sql()?;
        }
        self.write("make the database's tables", |tx| {
            let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0)).sql()?;
            let done = usize::try_from(version).unwrap_or(STEPS.len());
            STEPS.iter().skip(done).try_for_each(|step| tx.execute_batch(step).sql())?;
            if version > 0 {
                return Ok(());
            }
            // Grows the log and the file once, so that later commits find their place there.
            tx.execute_batch(&format!(
                "CREATE TABLE room (bytes BLOB); INSERT INTO room VALUES (zeroblob({LOG_PAGES} * 4096)); DROP TABLE room;"
            ))
            .sql()
        })
    }

    /// Puts what stands in the write-ahead log into its place, so that whoever copies the file alone copies all of it.
    pub(super) fn settle(&self) -> Result<()> {
        let act = "write the database's log into its file";
        // A command that reads just now keeps part of the log, which stays good.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(|error| failed(error, act))
    }

    fn version(&self) -> Result<i64> {
        self.connection.pragma_query_value(None, "user_version", |row| row.get(0)).sql()
    }

    /// Reads a consistent state.
    pub(crate) fn read<T>(&self, act: &str, body: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let tx = self.begin(TransactionBehavior::Deferred, act)?;
        body(&tx)
    }

    /// Changes the state: all of `body` or nothing of it.
    pub(crate) fn write<T>(&self, act: &str, body: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let tx = self.begin(TransactionBehavior::Immediate, act)?;
        let value = body(&tx)?;
        tx.commit().map_err(|error| failed(error, act))?;
        Ok(value)
    }

    /// [`Database::write`] of what is done again if a loss of power takes it back: on the disk it is with the next write.
    pub(super) fn write_unsynced<T>(&self, act: &str, body: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let synced =
            |how: &str| self.connection.pragma_update(None, "synchronous", how).map_err(|error| failed(error, act));
        synced("NORMAL")?;
        let written = self.write(act, body);
        synced("FULL").and(written)
    }

    fn begin(&self, behavior: TransactionBehavior, act: &str) -> Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.connection, behavior).map_err(|error| failed(error, act))
    }

    /// SQLite's own verdict on the file; empty if it is well.
    pub(super) fn integrity(&self) -> Result<Vec<String>> {
        let act = "check the database";
        self.read(act, |tx| {
            let mut statement = tx.prepare("PRAGMA integrity_check").sql()?;
            let lines =
                statement.query_map([], |row| row.get(0)).sql()?.collect::<rusqlite::Result<Vec<String>>>().sql()?;
            Ok(lines.into_iter().filter(|line| line != "ok").collect())
        })
    }
}

/// Makes the file if it is not there, for root alone: configurations of images hold what others must not read. SQLite
/// gives its log the same mode.
fn hide(path: &Path) -> Result<()> {
    let act = || format!("make database {}", path.display());
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).act(act)?;
    let mode = file.metadata().act(act)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(0o600)).act(|| format!("close {} to others", path.display()))
}

/// Turns SQLite's errors into ours.
pub(crate) trait Sql<T> {
    /// The same result with our error.
    fn sql(self) -> Result<T>;
}

impl<T> Sql<T> for rusqlite::Result<T> {
    fn sql(self) -> Result<T> {
        self.map_err(|error| failed(error, "use the database"))
    }
}

fn is_foreign_key(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}

fn failed(error: rusqlite::Error, act: &str) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Kind::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::InUse,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kind::Corrupt,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => Kind::Denied,
        // What a new row refers to is gone: another command removed it since we looked.
        Some(ErrorCode::ConstraintViolation) if is_foreign_key(&error) => Kind::NotFound,
        Some(ErrorCode::ConstraintViolation) => Kind::Exists,
        _ => Kind::Io,
    };
    let damaged = "the database is damaged; put a copy of it back, with its -wal or without any";
    if kind == Kind::Corrupt {
        return Error::with_source(kind, damaged, error).within(act);
    }
    Error::with_source(kind, act, error)
}

#[cfg(test)]
mod tests {
    use super::{Database, STEPS, VERSION};
    use crate::store::lock::Locks;

    #[test]
    fn an_older_database_is_brought_up_to_date_and_a_newer_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lamina.db");
        let locks = Locks::new(&directory.path().join("locks"));
        let old = rusqlite::Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO snapshots (key, kind, state, kept, cache_id, created) VALUES ('k', 'committed', 'ready', 1, 'c', '')",
        )
        .unwrap();
        drop(old);
        let database = Database::open(&path, &locks).unwrap();
        assert_eq!(database.version().unwrap(), VERSION);
        let question = "SELECT key FROM snapshots WHERE blob_format IS NULL AND NOT EXISTS (SELECT 1 FROM steps)";
        let kept: String = database.connection.query_row(question, [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "k");
        database.connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        drop(database);
        let error = Database::open(&path, &locks).unwrap_err().to_string();
        assert!(error.contains("use the lamina that made it"), "{error}");
    }
}
