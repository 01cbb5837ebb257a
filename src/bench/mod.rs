//! The measurements that Lamina holds itself to: workloads, statistics, and a report that is data.
//!
//! A workload is one value in one file: its name, what it does, its unit, and what it is held to. What it compares it
//! measures in one run, in turn, so that a busy machine slows both sides. It makes pools of its own in fresh
//! directories named `lamina-bench-…`, which are gone afterwards, also after an error or a signal.

mod building;
mod command;
mod ground;
mod machine;
mod registry;
mod report;
mod statistics;
mod tree;
mod workload;

use std::path::PathBuf;

pub use machine::Machine;
pub use report::{Limit, Outcome, Report, Row, Unit};
pub use statistics::Summary;
pub use workload::{Claim, Workload};

use crate::{
    driver::{DriverKind, pool},
    error::{Error, Kind, Result},
    interrupt,
    units::Bytes,
};

/// What to measure, and with how much.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the pools are made.
    pub directory: PathBuf,
    /// Of which drivers.
    pub drivers: Vec<DriverKind>,
    /// What.
    pub workloads: Vec<&'static Workload>,
    /// How many samples of each side; `None` leaves it to each workload.
    pub runs: Option<usize>,
    /// A root file system tar, for `import` and `pull`.
    pub tar: Option<PathBuf>,
    /// Size of the file that `first-write` writes into; files of other workloads are a part of it or twice as large.
    pub file_size: Bytes,
    /// Number of files in the image of `diff` and `copy-step`.
    pub files: usize,
}

impl Options {
    fn samples(&self, default: usize) -> usize {
        self.runs.unwrap_or(default).max(1)
    }
}

/// All workloads, in the order in which they run.
pub const WORKLOADS: [&Workload; 13] = [
    &workload::PREPARE,
    &workload::CREATES,
    &workload::RUN,
    &workload::IMPORT,
    &workload::FIRST_WRITE,
    &workload::FIRST_WRITE_COLD,
    &workload::DIFF,
    &workload::SPACE,
    &workload::PULL,
    &workload::PULL_PODMAN,
    &workload::COPY_STEP,
    &workload::REBUILD,
    &workload::MEMORY,
];

/// The workload named `name`.
///
/// # Errors
/// `Invalid` with the names there are.
pub fn workload(name: &str) -> Result<&'static Workload> {
    WORKLOADS.into_iter().find(|workload| workload.name == name).ok_or_else(|| {
        let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        Error::new(Kind::Invalid, format!("workload '{name}' is not one of {}", names.join(", ")))
    })
}

/// Measures; `begin` is told what comes next. A workload that cannot run here, or fails, gives rows that say why.
///
/// # Errors
/// `Interrupted`; when nothing is known of the machine.
pub fn run(options: &Options, begin: &mut dyn FnMut(&Workload, DriverKind)) -> Result<Report> {
    let machine = Machine::here(&options.directory)?;
    let mut rows = Vec::new();
    for workload in &options.workloads {
        for driver in options.drivers.iter().filter(|driver| workload.drivers.contains(driver)) {
            interrupt::check()?;
            begin(workload, *driver);
            let has_all = || workload.needs.iter().try_for_each(|program| program.find().map(drop));
            let measured =
                pool::supported(*driver).and_then(|()| has_all()).and_then(|()| (workload.run)(options, *driver));
            match measured {
                Ok(sampled) => rows.extend(workload.rows(*driver, sampled)),
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => rows.extend(workload.unmeasured(*driver, &error)),
            }
        }
    }
    Ok(Report { machine, rows })
}
