//! A data volume from inside a container, against a bare directory of the same file system of the host.

use std::path::Path;

use super::{
    held::{Claim, Held, Sampled, in_turn},
    number, rebuild,
};
use crate::{
    bench::{
        Limit, Options, Unit,
        command::{other, output},
        fio,
        ground::{Directory, Ground},
        living::Living,
    },
    driver::DriverKind,
    error::Result,
    image::import::import,
    program::{BUSYBOX, CONMON, FIO},
    runtime::OciRuntime,
    units::Bytes,
};

pub(in crate::bench) const VOLUME_SPEED: Held = Held {
    name: "volume-speed",
    about: "fio in a running container, in a data volume, against the same fio on the host, in a bare directory of the file \
            system that the volume lies on",
    tests: "use Docker volumes, which are independent of the running container and are designed to be efficient for I/O",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[BUSYBOX, CONMON, FIO],
    files: 2,
    claims: &[claim("write by 1 MiB, fsync"), claim("read by 1 MiB, cold"), claim("write 4 KiB at random, fdatasync")],
    run,
};

/// A volume is a directory of the host, bound into the container: nothing of Lamina is on the way of a byte. So the limit
/// is 1, and what two runs of one and the same thing differ by.
const fn claim(what: &'static str) -> Claim {
    Claim { what, against: Some("the same on the host"), limit: |_| Some(Limit::RatioAtMost(1.1)) }
}

/// fio's words for each claim, the side that counts, and which part of the file is transferred.
const JOBS: [(&[&str], &str, u64); 3] = [
    (&["--rw=write", "--bs=1M", "--end_fsync=1"], "write", 1),
    (&["--rw=read", "--bs=1M", "--invalidate=1"], "read", 1),
    (&["--rw=randwrite", "--bs=4k", "--fdatasync=1"], "write", 256),
];

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    OciRuntime::find()?;
    let ground = Ground::new(&options.directory, driver)?;
    import(ground.store(), &*rebuild::shell()?, &"bench/shell".parse()?, "bench")?;
    let bare = Directory::new(&options.directory, "bare")?;
    let binds = binds_of_programs();
    let binds = binds.iter().flat_map(|bind| ["-v", bind.as_str()]);
    let words: Vec<&str> = ["-v", "bench-data:/data"].into_iter().chain(binds).collect();
    let command = ["bench/shell", "/bin/busybox", "sleep", "1000000"];
    let container = Living::start(ground.root(), "writer", &[words.as_slice(), &command].concat())?;
    let program = FIO.find()?.display().to_string();
    let size = Bytes((options.file_size.0 / 4).max(1 << 20));
    let inside = |arguments: &[String]| {
        let words = [program.as_str()].into_iter().chain(arguments.iter().map(String::as_str));
        container.exec(&words.collect::<Vec<_>>())
    };
    let outside = |arguments: &[String]| output(other(FIO, arguments)?);
    let mut all = Vec::new();
    for job in JOBS {
        let subject = |_| timed(Path::new("/data"), size, job, &inside);
        let base = |_| timed(bare.path(), size, job, &outside);
        // The first of each makes the file.
        subject(0)?;
        base(0)?;
        all.push(in_turn(options.samples(15), subject, base)?);
    }
    Ok(all)
}

/// fio's program and libraries, as the host has them.
fn binds_of_programs() -> Vec<String> {
    let places = ["/usr", "/lib", "/lib64"].into_iter().filter(|place| Path::new(place).is_dir());
    places.map(|place| format!("{place}:{place}:ro")).collect()
}

/// The seconds that one job takes in `directory`, by fio's own clock.
fn timed(
    directory: &Path,
    size: Bytes,
    (words, side, part): (&[&str], &str, u64),
    fio: &dyn Fn(&[String]) -> Result<String>,
) -> Result<f64> {
    let moved = (size.0 / part).max(16 << 10);
    let mut arguments = vec![
        "--name=job".to_owned(),
        format!("--filename={}", directory.join("file").display()),
        format!("--size={}", size.0),
        format!("--io_size={moved}"),
    ];
    let same = ["--ioengine=psync", "--fallocate=none", "--randseed=1", "--thread", "--output-format=json"];
    arguments.extend(same.iter().chain(words).map(|word| (*word).to_owned()));
    let rates = fio::rates(&fio(&arguments)?, [side])?;
    Ok(rates.iter().map(|rate| number(moved) / rate).sum())
}
