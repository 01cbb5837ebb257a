//! What a workload is; each lies in a file of its own, as one value.

mod copy_step;
mod copy_up;
mod creates;
mod diff;
mod first_write;
mod held;
mod import;
mod memory;
mod metadata;
mod prepare;
mod pull;
mod rebuild;
mod run;
mod space;

use std::{fmt, fs::File, io::Read as _, path::Path, time::Instant};

pub use self::held::{Claim, Held};
pub(super) use self::{
    copy_step::COPY_STEP,
    copy_up::COPY_UP,
    creates::CREATES,
    diff::DIFF,
    first_write::{FIRST_WRITE, FIRST_WRITE_COLD},
    import::IMPORT,
    memory::MEMORY,
    metadata::METADATA,
    prepare::PREPARE,
    pull::{PULL, PULL_PODMAN},
    rebuild::REBUILD,
    run::RUN,
    space::SPACE,
};
use super::{
    rows::{Row, Stage},
    samples::Samples,
    scale::Scale,
};
use crate::{
    error::{Act as _, Result},
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

    /// What it writes on one row at most, images and containers together.
    fn room(&self, scale: &Scale) -> Bytes;

    /// Seconds that one run takes on one row of an ordinary machine, to tell the time left.
    fn cost(&self, scale: &Scale) -> f64;

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

#[expect(clippy::cast_precision_loss, reason = "sizes and numbers here are far below 2^53")]
fn number(value: u64) -> f64 {
    value as f64
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

/// Writes out the file system that `root` lies in.
fn write_out(root: &Path) -> Result<()> {
    let act = || format!("write out {}", root.display());
    rustix::fs::syncfs(File::open(root).act(act)?).act(act)
}

/// Empties the caches of pages, inodes and names, with nothing left to be written.
fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").act(|| "drop caches by /proc/sys/vm/drop_caches")
}
