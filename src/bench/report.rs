//! The results as data: numbers, what is missing and why, what they are held to, and on which machine.

use std::{fmt, fs, path::Path};

use serde::{Deserialize, Serialize};

use super::{machine::Machine, statistics::Summary};
use crate::{
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    units::Bytes,
};

/// Of the JSON; it grows when a reader of the last one would be misled.
pub(super) const VERSION: u32 = 1;

/// All that one run gave. Its fields are described in docs/benchmarks.md.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Whether everything that was asked for was tried; not after Ctrl-C.
    pub complete: bool,
    /// Name of the scale.
    pub scale: String,
    /// Runs that count of the workloads that run on every row.
    pub runs: usize,
    /// Whether a run before them warmed up.
    #[serde(default = "usual")]
    pub warms_up: bool,
    /// Whether caches were dropped where 'cold' is said.
    #[serde(default = "usual")]
    pub is_cold: bool,
    /// Where it ran.
    pub machine: Machine,
    /// What was compared.
    pub rows: Vec<About>,
    /// What was measured, in that order.
    pub workloads: Vec<About>,
    /// The numbers.
    pub series: Vec<Series>,
    /// What gave no numbers, and why.
    pub absent: Vec<Absent>,
    /// What Lamina is held to.
    pub claims: Vec<Claimed>,
}

/// Of reports that do not tell it.
const fn usual() -> bool {
    true
}

impl Report {
    /// Reads the JSON of a report.
    ///
    /// # Errors
    /// The system's; `Invalid` if it is none, or of another version.
    pub fn read(path: &Path) -> Result<Self> {
        read(path)
    }
}

/// Reads what a program needs of a report, whose version is looked at first: the rest may be another.
pub(super) fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let act = || format!("read report {}", path.display());
    let text = fs::read(path).act(act)?;
    let invalid = |error| Error::with_source(Kind::Invalid, act(), error);
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(invalid)?;
    let Some(version) = value.get("version").and_then(serde_json::Value::as_u64) else {
        let what = format!("{}: it has no version, and so is none that 'lamina bench --json' wrote", act());
        return Err(Error::new(Kind::Invalid, what));
    };
    if version != u64::from(VERSION) {
        let what = format!("{}: it is of version {version}, and this program reads {VERSION}; measure again", act());
        return Err(Error::new(Kind::Invalid, what));
    }
    serde_json::from_value(value).map_err(invalid)
}

/// A row or a workload in words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// Its name.
    pub name: String,
    /// What it is or does.
    pub about: String,
    /// The sentence of Docker's page about storage drivers that a workload tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<String>,
}

impl About {
    pub(super) fn of(name: &str, about: &str, tests: Option<&str>) -> Self {
        Self { name: name.to_owned(), about: about.to_owned(), tests: tests.map(str::to_owned) }
    }
}

/// The samples of one measure of one workload on one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name of the workload.
    pub workload: String,
    /// Name of the row.
    pub row: String,
    /// What was measured.
    pub what: String,
    /// At which size or number, where that varies.
    pub at: String,
    /// Of all numbers in it.
    pub unit: Unit,
    /// What is said of the samples.
    #[serde(flatten)]
    pub summary: Summary,
    /// Those far outside the quartiles (Tukey: more than one and a half times their distance).
    pub outliers: Vec<f64>,
    /// All of them, in the order in which they were taken.
    pub values: Vec<f64>,
}

impl Series {
    /// Of at least one sample.
    pub(super) fn of(
        workload: &str,
        row: &str,
        (what, at): (&str, &str),
        unit: Unit,
        values: Vec<f64>,
    ) -> Option<Self> {
        let summary = Summary::of(&values)?;
        let outliers = summary.outliers(&values);
        let [workload, row, what, at] = [workload, row, what, at].map(str::to_owned);
        Some(Self { workload, row, what, at, unit, summary, outliers, values })
    }
}

/// A workload, or a measure of it, that gave no numbers on a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// Name of the workload.
    pub workload: String,
    /// Name of the row.
    pub row: String,
    /// Which measure; empty if it is the whole workload.
    pub what: String,
    /// At which size or number.
    pub at: String,
    /// Whether it should have run.
    pub failed: bool,
    /// Why it did not.
    pub reason: String,
}

/// One claim, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claimed {
    /// Name of the workload.
    pub workload: String,
    /// Of which driver.
    pub driver: DriverKind,
    /// What was measured.
    pub what: String,
    /// Against what, if it is a comparison.
    pub against: Option<String>,
    /// Of all numbers in it.
    pub unit: Unit,
    /// What it is held to, if to anything.
    pub limit: Option<Limit>,
    /// What came out.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Claimed {
    /// Whether it gave numbers.
    pub fn is_measured(&self) -> bool {
        matches!(self.outcome, Outcome::Measured { .. })
    }

    /// What was measured and what it was compared with, each by itself.
    pub(super) fn sides(&self) -> Vec<Series> {
        let Outcome::Measured { values, base_values, .. } = &self.outcome else { return Vec::new() };
        let of = |what: &str, values: &[f64]| {
            Series::of(&self.workload, self.driver.name(), (what, ""), self.unit, values.to_vec())
        };
        let base = self.against.as_deref().and_then(|against| of(against, base_values));
        of(&self.what, values).into_iter().chain(base).collect()
    }

    /// Why it gave no numbers, if it gave none.
    pub(super) fn absent(&self) -> Option<Absent> {
        let (failed, reason) = match &self.outcome {
            Outcome::Measured { .. } => return None,
            Outcome::NotRun { reason } => (false, reason),
            Outcome::Failed { reason } => (true, reason),
        };
        let [workload, what, reason] = [&self.workload, &self.what, reason].map(String::clone);
        Some(Absent { workload, row: self.driver.to_string(), what, at: String::new(), failed, reason })
    }
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Numbers.
    Measured {
        /// What was measured.
        subject: Summary,
        /// What it is compared with.
        base: Option<Summary>,
        /// Median over median.
        ratio: Option<f64>,
        /// Whether the limit is kept, if there is one.
        met: Option<bool>,
        /// All samples of what was measured, in the order in which they were taken.
        #[serde(default)]
        values: Vec<f64>,
        /// Those of what it is compared with.
        #[serde(default)]
        base_values: Vec<f64>,
    },
    /// It cannot run on this machine or with these options.
    NotRun {
        /// Why.
        reason: String,
    },
    /// It should have run.
    Failed {
        /// Why it did not.
        reason: String,
    },
}

/// What numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Time.
    Seconds,
    /// Space.
    Bytes,
    /// Throughput, where more is better.
    BytesPerSecond,
}

/// What a claim is held to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The ratio of the medians is not above it.
    RatioAtMost(f64),
    /// The ratio of the medians is not below it.
    RatioAtLeast(f64),
    /// The median is not above so many seconds.
    TimeAtMost(f64),
    /// The mean is not above it: pools hand out space in lumps, which a median does not see.
    MeanAtMost(Bytes),
}

impl Limit {
    pub(super) fn is_met(self, subject: &Summary, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Self::TimeAtMost(most) => Some(subject.median <= most),
            #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
            Self::MeanAtMost(most) => Some(subject.mean <= most.0 as f64),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtMost(most) => write!(f, "<= {most}"),
            Self::RatioAtLeast(least) => write!(f, ">= {least}"),
            Self::TimeAtMost(most) => write!(f, "<= {}", Unit::Seconds.show(*most)),
            Self::MeanAtMost(most) => write!(f, "<= {most}"),
        }
    }
}

impl Unit {
    /// A number for people: three digits and a unit.
    pub fn show(self, value: f64) -> String {
        let (step, name) = self.step(value);
        let number = value / step;
        let decimals = match number.abs() {
            n if n >= 99.95 => 0,
            n if n >= 9.995 => 1,
            _ => 2,
        };
        format!("{number:.decimals$} {name}")
    }

    /// The unit that such a value is told in, and how many of its own make one of it.
    pub(super) fn step(self, value: f64) -> (f64, &'static str) {
        let steps: &[(f64, &str)] = match self {
            Self::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
            Self::Bytes => &[(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")],
            Self::BytesPerSecond => {
                &[(1_073_741_824.0, "GiB/s"), (1_048_576.0, "MiB/s"), (1024.0, "KiB/s"), (1.0, "B/s")]
            }
        };
        steps[steps.iter().position(|(step, _)| value.abs() >= *step).unwrap_or(steps.len() - 1)]
    }

    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes-per-second",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Summary, Unit};
    use crate::units::Bytes;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (unit, value, text) in [
            (Unit::Seconds, 1.5, "1.50 s"),
            (Unit::Seconds, 0.012_34, "12.3 ms"),
            (Unit::Seconds, 0.000_123_4, "123 µs"),
            (Unit::Seconds, 0.0, "0.00 µs"),
            (Unit::Bytes, 65_536.0, "64.0 KiB"),
            (Unit::Bytes, -16_384.0, "-16.0 KiB"),
            (Unit::Bytes, 12.0, "12.0 B"),
        ] {
            assert_eq!(unit.show(value), text);
        }
    }

    #[test]
    fn limits_hold_ratios_of_medians_and_means_of_bytes() {
        let summary = Summary::of(&[0.0, 0.0, 3072.0]).unwrap();
        assert_eq!(Limit::RatioAtMost(1.5).is_met(&summary, Some(1.5)), Some(true));
        assert_eq!(Limit::RatioAtMost(1.5).is_met(&summary, Some(1.51)), Some(false));
        assert_eq!(Limit::RatioAtLeast(500.0).is_met(&summary, Some(499.0)), Some(false));
        assert_eq!(Limit::RatioAtLeast(500.0).is_met(&summary, None), None);
        assert_eq!(Limit::MeanAtMost(Bytes::kib(1)).is_met(&summary, None), Some(true));
        assert_eq!(Limit::MeanAtMost(Bytes(1023)).is_met(&summary, None), Some(false));
        assert_eq!(Limit::TimeAtMost(0.1).is_met(&summary, None), Some(true));
        assert_eq!(Limit::TimeAtMost(0.1).to_string(), "<= 100 ms");
    }
}
