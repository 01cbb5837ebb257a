//! Undoing what a dead command left of a data volume, and removing one: the same act.
//!
//! Invariant: only a row that is not 'ready', whose lock is held here, is touched. Each step may be repeated.

use std::{fs::File, io, os::fd::AsFd as _};

use rusqlite::{OptionalExtension as _, named_params};

use super::{Volumes, open};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::remove_tree,
    store::Sql as _,
};

impl Volumes<'_> {
    /// Removes what dead commands left, and what was given up with its container; one indexed query when there is nothing.
    ///
    /// # Errors
    /// The first failure, after all others have been tried.
    pub fn recover(&self) -> Result<()> {
        let unfinished = self.store.database().read("look for unfinished data volumes", |tx| {
            let mut statement = tx.prepare_cached("SELECT number FROM volumes WHERE state <> 'ready'").sql()?;
            statement.query_map([], |row| row.get(0)).sql()?.collect::<rusqlite::Result<Vec<u64>>>().sql()
        })?;
        let recover = |number| match self.store.try_lock_data(number)? {
            Some(_lock) => self.remove_unfinished(number),
            None => Ok(()),
        };
        unfinished.into_iter().map(recover).fold(Ok(()), Result::and)
    }

    /// With its lock held: removes directory and row, if it is not ready.
    pub(super) fn remove_unfinished(&self, number: u64) -> Result<()> {
        let name: Option<String> = self.store.database().read("look up an unfinished data volume", |tx| {
            let question = "SELECT name FROM volumes WHERE number = :n AND state <> 'ready'";
            tx.query_row(question, named_params! {":n": number}, |row| row.get(0)).optional().sql()
        })?;
        let Some(name) = name else { return Ok(()) };
        let all = self.store.layout().volumes();
        match File::open(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => {
                let directory = opened.act(|| format!("open {}", all.display()))?;
                let entry = std::ffi::CString::new(name.as_str())
                    .map_err(|error| Error::with_source(Kind::Corrupt, "a volume's name has a zero", error))?;
                remove_tree(directory.as_fd(), &entry).act(|| format!("remove volume {name}"))?;
                directory.sync_all().act(|| format!("remove volume {name}"))?;
            }
        }
        crash::point(crash::Point::DataRemoved);
        self.forget(number)
    }

    pub(super) fn forget(&self, number: u64) -> Result<()> {
        self.store.database().write("forget a data volume", |tx| {
            let gone = "DELETE FROM volumes WHERE number = :n AND state <> 'ready'";
            tx.execute(gone, named_params! {":n": number}).sql().map(drop)
        })
    }

    /// Rows and directories against each other: a line per finding.
    ///
    /// # Errors
    /// When the database or the directory cannot be read.
    pub fn check(&self) -> Result<Vec<String>> {
        let there = self.list()?;
        let mut findings = Vec::new();
        for volume in &there {
            // Removed since it was listed is no finding.
            if !self.path(volume).is_dir() && self.find(&volume.name).is_ok() {
                findings.push(format!(
                    "data volume {0} has lost {1}; bring that back, or remove it with 'lamina volume rm {0}'",
                    volume.name,
                    self.path(volume).display()
                ));
            }
        }
        let all = self.store.layout().volumes();
        if !all.is_dir() {
            return Ok(findings);
        }
        for name in crate::fs::names(open(&all)?.as_fd())? {
            let name = name.to_string_lossy().into_owned();
            if !self.is_known(&name)? && self.directory(&name).exists() {
                let what = format!("{} belongs to no volume that the database knows", self.directory(&name).display());
                findings.push(what);
            }
        }
        Ok(findings)
    }

    pub(super) fn is_known(&self, name: &str) -> Result<bool> {
        self.store.database().read("look up a data volume", |tx| {
            let question = "SELECT EXISTS (SELECT 1 FROM volumes WHERE name = :name)";
            tx.query_row(question, named_params! {":name": name}, |row| row.get(0)).sql()
        })
    }
}
