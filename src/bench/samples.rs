//! What a row's runs of one workload gave: series of samples, and what it could not do.

use std::path::Path;

use super::{
    report::Unit,
    scale::Scale,
    workload::{cold, seconds},
};
use crate::error::Result;

/// Why there is no sample with empty caches.
pub(super) const STAYED_WARM: &str = "nothing was read from the disk, although the caches had been dropped";

/// The samples of one row and one workload.
#[derive(Debug, Default)]
pub struct Samples {
    pub(super) series: Vec<Raw>,
    pub(super) absent: Vec<Missing>,
}

/// The samples of one measure.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) what: &'static str,
    pub(super) at: String,
    pub(super) unit: Unit,
    pub(super) values: Vec<f64>,
}

/// A measure that this row cannot give.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) what: &'static str,
    pub(super) at: String,
    pub(super) reason: String,
}

impl Samples {
    /// Adds a sample of `what`, at the size or number `at` that was varied (empty if none was).
    pub(super) fn add(&mut self, what: &'static str, at: &str, unit: Unit, value: f64) {
        match self.series.iter_mut().find(|raw| raw.what == what && raw.at == at) {
            Some(raw) => raw.values.push(value),
            None => self.series.push(Raw { what, at: at.to_owned(), unit, values: vec![value] }),
        }
    }

    /// Adds how long `work` takes, if it succeeds.
    pub(super) fn time(&mut self, what: &'static str, at: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let time = seconds(work)?;
        self.add(what, at, Unit::Seconds, time);
        Ok(())
    }

    /// Adds how long `work` takes with empty caches below `root`, if something had to be read then.
    pub(super) fn time_cold(
        &mut self,
        (what, at): (&'static str, &str),
        (root, scale): (&Path, &Scale),
        work: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        match cold(root, scale, work)? {
            Some(time) => self.add(what, at, Unit::Seconds, time),
            None => self.cannot(what, at, STAYED_WARM),
        }
        Ok(())
    }

    /// Notes that this row cannot do `what`, and why.
    pub(super) fn cannot(&mut self, what: &'static str, at: &str, reason: impl Into<String>) {
        let missing = Missing { what, at: at.to_owned(), reason: reason.into() };
        if !self.absent.contains(&missing) {
            self.absent.push(missing);
        }
    }
}
