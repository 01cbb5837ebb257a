//! A database of the image that is updated at random.

use std::path::Path;

use rusqlite::Connection;

use super::{Across, How, Workload};
use crate::{
    bench::{
        Unit,
        ground::Directory,
        rows::{Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Act as _, Error, Kind, Result},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct Sqlite;

/// See the module's comment.
pub(in crate::bench) const SQLITE: Sqlite = Sqlite;

impl Workload for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn about(&self) -> &'static str {
        "an SQLite database of the image: opened and its first transaction, of five rows at random, synced, and the mean of \
         twenty more"
    }

    fn tests(&self) -> &'static str {
        "A copy_up operation can incur a noticeable performance overhead. Large files … can make the impact more noticeable."
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

/// Bytes of a row.
const ROW: u64 = 1000;
const UPDATES: u64 = 5;
const TRANSACTIONS: u64 = 20;

impl Across for Sqlite {
    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(scale.database.0 * 4)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.3 + super::seconds_for(scale.database, 0.1e9)
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let directory = Directory::new(&stage.volume()?, "database")?;
        let path = directory.path().join("database");
        make(&path, scale.database).map_err(|error| failed("make", &path, error))?;
        let size = path.metadata().act(|| format!("look at {}", path.display()))?.len();
        let file = std::fs::File::open(&path).act(|| format!("open {}", path.display()))?;
        let mut tar = tree::stream(move |tar| tree::add_file(tar, Path::new("database"), size, file))?;
        stage.import("database", &mut tar)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, run: usize, samples: &mut Samples) -> Result<()> {
        with_container(stage, ("updater", "database"), || {
            inside(stage, "updater", |root| update(&root.join("database"), scale.database, run as u64, samples))
        })
    }
}

fn make(path: &Path, size: Bytes) -> rusqlite::Result<()> {
    let database = Connection::open(path)?;
    database.execute_batch("CREATE TABLE data (id INTEGER PRIMARY KEY, content BLOB) STRICT")?;
    database.execute(
        "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?1)
         INSERT INTO data SELECT n, randomblob(?2) FROM number",
        [rows(size), ROW],
    )?;
    Ok(())
}

fn rows(size: Bytes) -> u64 {
    (size.0 / ROW).max(1)
}

fn update(path: &Path, size: Bytes, run: u64, samples: &mut Samples) -> Result<()> {
    let act = |error| failed("update", path, error);
    let at = format!("database of {size}");
    let transaction = |database: &mut Connection, number: u64| -> rusqlite::Result<()> {
        let transaction = database.transaction()?;
        for update in 0..UPDATES {
            let place = (run * 1_000_003 + number * UPDATES + update + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let row = (place >> 1) % rows(size);
            let changed = transaction.execute("UPDATE data SET content = randomblob(?2) WHERE id = ?1", [row, ROW])?;
            debug_assert_eq!(changed, 1);
        }
        transaction.commit()
    };
    // It is opened for writing, which is when overlayfs copies the file.
    let first = || -> rusqlite::Result<Connection> {
        let mut database = Connection::open(path)?;
        database.execute_batch("PRAGMA synchronous = FULL")?;
        transaction(&mut database, 0)?;
        Ok(database)
    };
    let mut database = None;
    samples.time("open and first transaction", &at, || first().map(|made| database = Some(made)).map_err(act))?;
    let Some(mut database) = database else { return Ok(()) };
    let time =
        super::seconds(|| (1..=TRANSACTIONS).try_for_each(|number| transaction(&mut database, number)).map_err(act))?;
    samples.add("later transactions", &at, Unit::Seconds, time / super::number(TRANSACTIONS));
    Ok(())
}

fn failed(act: &str, path: &Path, error: rusqlite::Error) -> Error {
    Error::with_source(Kind::Io, format!("{act} database {}", path.display()), error)
}
