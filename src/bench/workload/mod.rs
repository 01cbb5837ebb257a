//! What a workload is; each lies in a file of its own, as one value.

mod changes;
mod cold;
mod containers;
mod copy_step;
mod copy_up;
mod create_rm;
mod creates;
mod depth;
mod diff;
mod first_write;
mod held;
mod images;
mod import;
mod io;
mod job_checkout;
mod job_compile;
mod job_sqlite;
mod job_unpack;
mod memory;
mod metadata;
mod page_cache;
mod pause;
mod prepare;
mod pull;
mod rebuild;
mod run;
mod sizes;
mod space;
mod trees;
mod volume;
mod volume_speed;

use std::{fmt, fs::File, io::Read as _, path::Path, time::Instant};

use self::cold::drop_caches;
pub use self::held::{Claim, Held};
pub(super) use self::{
    changes::CHANGES,
    cold::{cold, write_out},
    containers::CONTAINERS,
    copy_step::COPY_STEP,
    copy_up::COPY_UP,
    create_rm::CREATE_RM,
    creates::CREATES,
    depth::DEPTH,
    diff::DIFF,
    first_write::{FIRST_WRITE, FIRST_WRITE_COLD},
    images::IMAGES,
    import::IMPORT,
    io::IO,
    job_checkout::CHECKOUT,
    job_compile::COMPILE,
    job_sqlite::SQLITE,
    job_unpack::UNPACK,
    memory::MEMORY,
    metadata::METADATA,
    page_cache::PAGE_CACHE,
    pause::PAUSE,
    prepare::PREPARE,
    pull::{PULL, PULL_PODMAN},
    rebuild::REBUILD,
    run::RUN,
    sizes::SIZES,
    space::SPACE,
    trees::TREES,
    volume::VOLUME,
    volume_speed::VOLUME_SPEED,
};
use super::{
    rows::{Row, Stage},
    samples::Samples,
    scale::Scale,
    statistics::count as number,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
    program::Program,
    units::Bytes,
};

/// Something to measure.
pub trait Workload: fmt::Debug + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn about(&self) -> &'static str;

    /// The sentence of Docker's page about storage drivers that it tests.
    fn tests(&self) -> &'static str;

    /// The programs that it cannot do without.
    fn needs(&self) -> &'static [Program] {
        &[]
    }

    /// How it is measured.
    fn how(&self) -> How<'_>;
}

/// How a workload is measured.
#[derive(Debug)]
pub enum How<'a> {
    /// One row after the other, two sides in turn, held to a ratio.
    Held(&'a Held),
    /// Run by run, in which the rows take turns.
    Across(&'a dyn Across),
}

/// A workload that is the same on every row, so that its numbers can be laid side by side.
pub trait Across: fmt::Debug + Sync {
    /// Whether it makes sense for a row that is not measured unless it is named.
    fn includes(&self, row: &dyn Row) -> bool {
        row.is_usual()
    }

    /// Whether it is asked of other programs, too.
    fn asks_peers(&self) -> bool {
        false
    }

    /// What it writes on one row at most, images and containers together.
    fn room(&self, scale: &Scale) -> Bytes;

    /// What it writes besides on a row that copies whole files.
    fn copied(&self, _: &Scale) -> Bytes {
        Bytes(0)
    }

    /// Seconds that one run takes on one row of an ordinary machine, to tell the time left.
    fn cost(&self, scale: &Scale) -> f64;

    /// Makes what all rows share, and goes in the place of this until the workload has ended.
    ///
    /// # Errors
    /// Whatever keeps all rows from being measured.
    fn begin(&self, _: &Path, _: &Scale) -> Result<Option<Box<dyn Across>>> {
        Ok(None)
    }

    /// Makes the images that every run needs.
    ///
    /// # Errors
    /// Whatever keeps this row from being measured.
    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()>;

    /// One run, number `run`: makes its containers, takes its samples, and removes the containers.
    ///
    /// # Errors
    /// Whatever ends this row's measurement.
    fn run(&self, stage: &dyn Stage, scale: &Scale, run: usize, samples: &mut Samples) -> Result<()>;
}

/// How many seconds `work` takes.
pub(super) fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds for `bytes` at so many bytes a second.
fn seconds_for(bytes: Bytes, rate: f64) -> f64 {
    number(bytes.0) / rate
}

/// Reads a file to its end.
fn read_through(path: &Path) -> Result<()> {
    let act = || format!("read {}", path.display());
    let mut file = File::open(path).act(act)?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer).act(act)? > 0 {
        interrupt::check()?;
    }
    Ok(())
}

/// What was counted must be what was made, or a number was measured of something else.
fn expect_number(found: usize, expected: usize, what: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, format!("{found} {what} were found, and {expected} were made")))
}
