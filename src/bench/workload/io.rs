//! Bulk input and output with fio, in files of the image and in new ones.

use std::{collections::BTreeSet, path::Path};

use super::{Across, How, Workload};
use crate::{
    bench::{
        Unit, fio,
        rows::{Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Error, Kind, Result},
    program::{FIO, Program},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct InputOutput;

/// See the module's comment.
pub(in crate::bench) const IO: InputOutput = InputOutput;

impl Workload for InputOutput {
    fn name(&self) -> &'static str {
        "io"
    }

    fn about(&self) -> &'static str {
        "fio reads and writes, by 1 MiB and by 4 KiB, in order and at random, writes with fsync at the end, in files of the \
         image, whose first write that is, and in new ones; each file's cache is empty before"
    }

    fn tests(&self) -> &'static str {
        "Containers that write a lot of data will consume more space than containers that do not. … Note: for write-heavy \
         applications, you should not store the data in the container."
    }

    fn needs(&self) -> &'static [Program] {
        &[FIO]
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

/// What it is called, on what, the file, and fio's words for it: kind, block size, which part of the size is transferred.
type Job = (&'static str, &'static str, &'static str, &'static str, &'static str, u64);

const IMAGE: &str = "file of the image";
const NEW: &str = "new file";

/// Each writes into a file of its own, and those that read share one, out of whose cache it goes before each.
const JOBS: [Job; 16] = [
    ("read by 1 MiB", IMAGE, "read", "read", "1M", 1),
    ("read by 4 KiB at random", IMAGE, "read", "randread", "4k", 8),
    ("write by 1 MiB", IMAGE, "write", "write", "1M", 1),
    ("write by 4 KiB at random", IMAGE, "small-randwrite", "randwrite", "4k", 8),
    ("write by 1 MiB", NEW, "new-write", "write", "1M", 1),
    ("write by 4 KiB at random", NEW, "new-small-randwrite", "randwrite", "4k", 8),
    ("read by 1 MiB at random", IMAGE, "read", "randread", "1M", 2),
    ("read by 4 KiB", IMAGE, "read", "read", "4k", 8),
    ("write by 1 MiB at random", IMAGE, "randwrite", "randwrite", "1M", 2),
    ("write by 4 KiB", IMAGE, "small-write", "write", "4k", 8),
    ("write by 1 MiB at random", NEW, "new-randwrite", "randwrite", "1M", 2),
    ("write by 4 KiB", NEW, "new-small-write", "write", "4k", 8),
    ("read by 1 MiB", NEW, "new-write", "read", "1M", 1),
    ("read by 1 MiB at random", NEW, "new-write", "randread", "1M", 2),
    ("read by 4 KiB", NEW, "new-write", "read", "4k", 8),
    ("read by 4 KiB at random", NEW, "new-write", "randread", "4k", 8),
];

/// Those of a scale: fio takes a third of a second for each, however little it transfers.
fn jobs(scale: &Scale) -> &'static [Job] {
    &JOBS[..scale.transfers.min(JOBS.len())]
}

impl Across for InputOutput {
    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(scale.bulk.0 * 2 * jobs(scale).len() as u64)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.6 + super::seconds_for(scale.bulk, 0.01e9)
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let (size, jobs) = (scale.bulk, jobs(scale));
        let mut tar = tree::stream(move |tar| {
            let files: BTreeSet<_> =
                jobs.iter().filter(|(_, at, ..)| *at == IMAGE).map(|(_, _, file, ..)| *file).collect();
            files.into_iter().try_for_each(|file| tree::add_noise(tar, Path::new(file), size))
        })?;
        stage.import("bulk", &mut tar)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        with_container(stage, ("worker", "bulk"), || {
            let rates = inside(stage, "worker", |root| rates(root, scale.bulk, jobs(scale)))?;
            for ((what, at, ..), rate) in jobs(scale).iter().zip(rates) {
                samples.add(what, at, Unit::BytesPerSecond, rate);
            }
            Ok(())
        })
    }
}

/// Bytes a second of each job, by fio's own clock. One process does all of them, one after the other: it takes a while to
/// start.
fn rates(root: &Path, size: Bytes, jobs: &[Job]) -> Result<Vec<f64>> {
    let mut arguments = vec![
        format!("--size={}", size.0),
        "--ioengine=psync".to_owned(),
        "--fallocate=none".to_owned(),
        "--end_fsync=1".to_owned(),
        "--invalidate=1".to_owned(),
        "--randseed=1".to_owned(),
        "--thread".to_owned(),
        "--output-format=json".to_owned(),
    ];
    for (number, (.., file, rw, block, part)) in jobs.iter().enumerate() {
        arguments.extend([
            format!("--name=job{number}"),
            "--stonewall".to_owned(),
            format!("--filename={}", root.join(file).display()),
            format!("--rw={rw}"),
            format!("--bs={block}"),
            format!("--io_size={}", (size.0 / part).max(if *block == "1M" { 1 << 20 } else { 4096 })),
        ]);
    }
    let (succeeded, said) = FIO.run(&arguments)?;
    if !succeeded {
        return Err(Error::new(Kind::Io, format!("fio: {said}")));
    }
    let side = |(.., rw, _, _): &Job| if rw.ends_with("write") { "write" } else { "read" };
    fio::rates(&said, jobs.iter().map(side))
}
