//! Measurements: what block-level and file-level copy-on-write cost on this machine, and what Lamina holds itself to.
//!
//! A workload is one value in one file: its name, what it does, which sentence of Docker's page about storage drivers it
//! tests. A row is a way of keeping images and containers. Most workloads run on every row, in turn, run by run; others
//! are held to a ratio of two sides that take turns on one row. Either way a busy machine slows all alike. All is made in
//! fresh directories named `lamina-bench-…`, which are gone afterwards, also after an error or a signal.

mod beforehand;
mod building;
mod command;
mod compare;
mod daemon;
mod fio;
mod ground;
mod html;
mod leftovers;
mod living;
mod machine;
mod namespace;
mod progress;
mod ranks;
mod registry;
mod report;
mod rows;
mod samples;
mod scale;
mod session;
mod statistics;
mod table;
mod tree;
mod workload;

use std::path::{Path, PathBuf};

pub use compare::{Change, Comparison, Pair, Saved};
pub use machine::Machine;
pub use namespace::{OwnNamespace, enter};
pub use report::{About, Absent, Claimed, Limit, Outcome, Report, Series, Unit};
pub use rows::{PEERS, ROWS, Row, Stage, peers, rows};
pub use samples::Samples;
pub use scale::Scale;
pub use session::Step;
pub use statistics::Summary;
pub use workload::{Across, Claim, Held, How, Workload};

use crate::{
    driver::{DriverKind, pool},
    error::{Error, Kind, Result},
    interrupt,
    units::Bytes,
};

/// What to measure, and with how much.
#[derive(Debug)]
pub struct Options {
    /// Where pools and disks are made.
    pub directory: PathBuf,
    /// On which rows; of those that are not usual, only the workloads that are about them, unless they were named.
    pub rows: Vec<&'static dyn Row>,
    /// Whether the rows were named.
    pub named: bool,
    /// What.
    pub workloads: Vec<&'static dyn Workload>,
    /// Sizes and numbers of workloads that run on every row.
    pub scale: &'static Scale,
    /// How many samples of each side; `None` leaves it to the scale or the workload.
    pub runs: Option<usize>,
    /// A root file system tar, for `import` and `pull`.
    pub tar: Option<PathBuf>,
    /// Size of the file that `first-write` writes into; files of other held workloads are a part of it or twice as large.
    pub file_size: Bytes,
    /// Number of files in the image of `diff` and `copy-step`.
    pub files: usize,
}

impl Options {
    fn samples(&self, default: usize) -> usize {
        self.runs.unwrap_or(default).max(1)
    }

    fn rows_of(&self, across: &dyn Across) -> Vec<&'static dyn Row> {
        self.rows.iter().copied().filter(|row| self.asks(across, *row)).collect()
    }

    fn asks(&self, across: &dyn Across, row: &dyn Row) -> bool {
        if row.is_peer() { across.asks_peers() } else { self.named || across.includes(row) }
    }

    /// The drivers among the rows on which that is measured.
    fn drivers_of(&self, held: &Held) -> Vec<DriverKind> {
        self.drivers().into_iter().filter(|driver| held.drivers.contains(driver)).collect()
    }

    /// The drivers among the rows, each once.
    fn drivers(&self) -> Vec<DriverKind> {
        let mut drivers = Vec::new();
        for driver in self.rows.iter().filter_map(|row| row.driver()) {
            if !drivers.contains(&driver) {
                drivers.push(driver);
            }
        }
        drivers
    }
}

/// The sizes for `--tiny`, `--small`, `--quick` and `--full`.
pub const SCALES: [&Scale; 4] = [&scale::TINY, &scale::SMALL, &scale::QUICK, &scale::FULL];

/// The workloads that run on every row, in that order.
pub const ACROSS: [&dyn Workload; 14] = [
    &workload::COPY_UP,
    &workload::METADATA,
    &workload::DEPTH,
    &workload::TREES,
    &workload::CONTAINERS,
    &workload::CHANGES,
    &workload::IMAGES,
    &workload::PAGE_CACHE,
    &workload::VOLUME,
    &workload::IO,
    &workload::UNPACK,
    &workload::SQLITE,
    &workload::CHECKOUT,
    &workload::COMPILE,
];

/// The workloads that Lamina is held to, in the order in which they run.
pub const HELD: [&dyn Workload; 17] = [
    &workload::PREPARE,
    &workload::CREATES,
    &workload::RUN,
    &workload::CREATE_RM,
    &workload::VOLUME_SPEED,
    &workload::PAUSE,
    &workload::IMPORT,
    &workload::FIRST_WRITE,
    &workload::FIRST_WRITE_COLD,
    &workload::DIFF,
    &workload::SIZES,
    &workload::SPACE,
    &workload::PULL,
    &workload::PULL_PODMAN,
    &workload::COPY_STEP,
    &workload::REBUILD,
    &workload::MEMORY,
];

/// The workloads that `name` means: one by its name, or a group, `rows` or `held`.
///
/// # Errors
/// `Invalid` with the names there are.
pub fn workloads(name: &str) -> Result<Vec<&'static dyn Workload>> {
    match name {
        "rows" => return Ok(ACROSS.to_vec()),
        "held" => return Ok(HELD.to_vec()),
        _ => {}
    }
    let all = || ACROSS.into_iter().chain(HELD);
    all().find(|workload| workload.name() == name).map(|workload| vec![workload]).ok_or_else(|| {
        let names: Vec<_> = all().map(|workload| workload.name()).collect();
        let what = format!("workload '{name}' is not one of {}, nor the group 'rows' or 'held'", names.join(", "));
        Error::new(Kind::Invalid, what)
    })
}

/// What tells of the progress: what comes next, and, once something was measured, how many seconds are left.
pub type Tell<'a> = dyn FnMut(Step, Option<f64>) + 'a;

/// Measures. What cannot run here, or fails, is told with its
/// reason; after a signal, what was measured until then.
///
/// # Errors
/// `Full` if the disk is too small; when nothing is known of the machine.
pub fn run(_: &OwnNamespace, mut options: Options, tell: &mut Tell<'_>) -> Result<Report> {
    options.directory = beforehand::require_place(&options.directory)?;
    let options = &options;
    beforehand::require_tar(options.tar.as_deref())?;
    beforehand::require_work_for_peers(options)?;
    leftovers::remove(&options.directory)?;
    leftovers::remove(Path::new(RUN_DIRECTORY))?;
    beforehand::require_room(options)?;
    let mut report = empty(options)?;
    let mut clock = progress::Clock::new(options);
    for workload in &options.workloads {
        match workload.how() {
            How::Held(held) => measure_held(options, held, &mut report, &mut |step| tell(step, clock.step_held())),
            How::Across(across) => {
                clock.begin(options, across);
                let mut session = session::Session {
                    directory: &options.directory,
                    scale: options.scale,
                    runs: report.runs,
                    rows: options.rows_of(across),
                    tell: &mut |step| tell(step, clock.step(across)),
                };
                let came = session.measure(*workload, across);
                clock.over();
                report.series.extend(came.series);
                report.absent.extend(came.absent);
            }
        }
        if interrupt::asked() {
            report.complete = false;
            break;
        }
    }
    Ok(report)
}

fn empty(options: &Options) -> Result<Report> {
    let rows = options.rows.iter().map(|row| About::of(row.name(), row.about(), None));
    let workloads = options.workloads.iter().map(|one| About::of(one.name(), one.about(), Some(one.tests())));
    Ok(Report {
        version: report::VERSION,
        complete: true,
        scale: options.scale.name.to_owned(),
        runs: options.samples(options.scale.runs),
        warms_up: options.scale.warms_up,
        is_cold: options.scale.is_cold,
        machine: Machine::here(&options.directory)?,
        rows: rows.collect(),
        workloads: workloads.collect(),
        series: Vec::new(),
        absent: Vec::new(),
        claims: Vec::new(),
    })
}

/// Where directories of peers lie that must have a short path or no disk.
const RUN_DIRECTORY: &str = "/run";

fn measure_held(options: &Options, held: &'static Held, report: &mut Report, tell: &mut dyn FnMut(Step)) {
    for driver in options.drivers_of(held) {
        tell(Step { workload: held.name, row: driver.name(), run: 0 });
        let has_all = || held.needs.iter().try_for_each(|program| program.find().map(drop));
        let measured = interrupt::check()
            .and_then(|()| pool::supported(driver))
            .and_then(|()| has_all())
            .and_then(|()| (held.run)(options, driver));
        match measured {
            Ok(sampled) => report.claims.extend(held.claimed(driver, &sampled)),
            Err(error) => report.claims.extend(held.unmeasured(driver, &error)),
        }
        if interrupt::asked() {
            return;
        }
    }
}
