//! Two reports side by side: which changes are outside the noise.
//!
//! The rule: the medians differ by a twentieth at least, and the Mann-Whitney U test, which asks only for the order of the
//! samples, gives the difference a chance of less than one in a hundred (two-sided) if nothing had changed. Five samples on
//! each side are the fewest with which it can say so.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{
    ranks,
    report::{Claimed, Series, Unit, read},
};
use crate::error::{Error, Kind, Result};

/// A report that was written before.
#[derive(Debug, Deserialize)]
pub struct Saved {
    scale: String,
    runs: usize,
    complete: bool,
    machine: Value,
    series: Vec<Series>,
    claims: Vec<Claimed>,
}

/// What became of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Less time or space, or more throughput.
    Better,
    /// The contrary.
    Worse,
    /// Nothing that is outside the noise.
    Noise,
    /// There are too few samples to tell.
    TooFew,
}

/// A measure that both have.
#[derive(Debug)]
pub struct Pair<'a> {
    /// In the old report.
    pub old: &'a Series,
    /// In the new one.
    pub new: &'a Series,
    /// What became of it.
    pub change: Change,
}

/// What two reports tell.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// In the order of the old one.
    pub pairs: Vec<Pair<'a>>,
    /// Measures that only the old one has.
    pub gone: usize,
    /// Measures that only the new one has.
    pub added: usize,
    /// Why they can hardly be compared: what is not the same of the machines and scales.
    pub differences: Vec<String>,
}

/// Fewest samples of a side.
const FEWEST: usize = 5;
const CHANCE: f64 = 0.01;
const PART: f64 = 0.05;

impl Saved {
    /// Reads the JSON of a report.
    ///
    /// # Errors
    /// The system's; `Invalid` if it is none, of another version, or has nothing to compare.
    pub fn read(path: &Path) -> Result<Self> {
        let mut saved: Self = read(path)?;
        // Both sides of what has limits are measures, too.
        saved.series.extend(saved.claims.iter().flat_map(Claimed::sides));
        if saved.series.is_empty() {
            let what = "nothing in it was measured";
            return Err(Error::new(Kind::Invalid, format!("read report {}: {what}", path.display())));
        }
        Ok(saved)
    }

    /// What changed from this report to `new`.
    pub fn compare<'a>(&'a self, new: &'a Self) -> Comparison<'a> {
        let pairs: Vec<_> = self
            .series
            .iter()
            .filter_map(|old| {
                let new = new.series.iter().find(|new| is_same(old, new))?;
                Some(Pair { old, new, change: change(old, new) })
            })
            .collect();
        Comparison {
            gone: self.series.len() - pairs.len(),
            added: new.series.len() - pairs.len(),
            differences: self.differences(new),
            pairs,
        }
    }

    fn differences(&self, new: &Self) -> Vec<String> {
        let fields =
            ["processor", "processors", "memory", "kernel", "filesystem", "mount_options", "debug_build", "programs"];
        let of_machine = fields.iter().filter_map(|name| {
            let (old, new) = (&self.machine[name], &new.machine[name]);
            (old != new).then(|| format!("{name}: {old} and {new}"))
        });
        let scale = (self.scale != new.scale).then(|| format!("scale: {} and {}", self.scale, new.scale));
        let runs = (self.runs != new.runs).then(|| format!("runs: {} and {}", self.runs, new.runs));
        let complete =
            (self.complete != new.complete).then(|| format!("complete: {} and {}", self.complete, new.complete));
        let load = |saved: &Self| saved.machine["load"].as_f64();
        // What else ran is no noise within either run, and looks like a change.
        let load = load(self).zip(load(new)).filter(|(old, new)| (old - new).abs() > 1.0);
        let load = load.map(|(old, new)| format!("load: {old} and {new}"));
        of_machine.chain(scale).chain(runs).chain(complete).chain(load).collect()
    }
}

fn is_same(one: &Series, other: &Series) -> bool {
    let name = |series: &Series| [&series.workload, &series.row, &series.what, &series.at].map(Clone::clone);
    name(one) == name(other) && one.unit == other.unit
}

fn change(old: &Series, new: &Series) -> Change {
    if old.values.len() < FEWEST || new.values.len() < FEWEST {
        return Change::TooFew;
    }
    let (before, after) = (old.summary.median, new.summary.median);
    let differs = (after - before).abs() >= PART * before.abs() && after.total_cmp(&before).is_ne();
    if !differs || ranks::chance(&old.values, &new.values) >= CHANCE {
        return Change::Noise;
    }
    if (after < before) == (old.unit != Unit::BytesPerSecond) { Change::Better } else { Change::Worse }
}

#[cfg(test)]
mod tests {
    use super::{Change, Series, Unit, change};

    fn series(unit: Unit, values: &[f64]) -> Series {
        Series::of("w", "r", ("what", ""), unit, values.to_vec()).unwrap()
    }

    #[test]
    fn only_what_is_large_and_unlikely_is_a_change() {
        let base = [10.0, 10.1, 10.2, 10.3, 10.4];
        for (unit, new, expected) in [
            (Unit::Seconds, [20.0, 20.1, 20.2, 20.3, 20.4], Change::Worse),
            (Unit::Seconds, [5.0, 5.1, 5.2, 5.3, 5.4], Change::Better),
            (Unit::BytesPerSecond, [20.0, 20.1, 20.2, 20.3, 20.4], Change::Better),
            // Sure, and too little to matter.
            (Unit::Seconds, [10.41, 10.42, 10.43, 10.44, 10.45], Change::Noise),
            // Much, but one of the old was slower than one of the new.
            (Unit::Seconds, [10.35, 20.1, 20.2, 20.3, 20.4], Change::Noise),
            (Unit::Seconds, base, Change::Noise),
        ] {
            assert_eq!(change(&series(unit, &base), &series(unit, &new)), expected, "{new:?}");
        }
        assert_eq!(change(&series(Unit::Seconds, &base[1..]), &series(Unit::Seconds, &base)), Change::TooFew);
    }

    #[test]
    fn equal_samples_are_no_change_and_steps_between_them_are() {
        let zero = series(Unit::Bytes, &[0.0; 5]);
        assert_eq!(change(&zero, &zero), Change::Noise);
        let (low, high) = (series(Unit::Bytes, &[4096.0; 6]), series(Unit::Bytes, &[8192.0; 6]));
        assert_eq!(change(&low, &high), Change::Worse);
        assert_eq!(change(&high, &low), Change::Better);
    }
}
