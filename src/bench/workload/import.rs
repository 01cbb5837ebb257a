//! Importing a root file system, against unpacking it.

use std::{fs::File, io, os::fd::AsRawFd as _, path::Path};

use super::{
    held::{Claim, Held, Sampled, in_turn},
    seconds,
};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground},
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    fs::Mounted,
    image::{import::import, reference::Reference},
    program::TAR,
    store::Key,
    units::Bytes,
};

pub(in crate::bench) const IMPORT: Held = Held {
    name: "import",
    about: "import of a root file system tar into a fresh pool, against 'tar -x' of it into an empty volume of a fresh \
            pool of the same driver, and sync",
    tests: "each layer is pulled down separately, and stored in Docker’s local storage area",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[TAR],
    files: 0,
    claims: &[Claim { what: "import", against: Some("tar -x + sync"), limit: |_| Some(Limit::RatioAtMost(1.25)) }],
    run,
};

/// A pool for each sample: deleting what the last one made would go on in the background of the next.
fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let Some(tar) = &options.tar else {
        return Err(Error::new(Kind::Unsupported, "no tar was given; give one with --tar FILE"));
    };
    let open = || File::open(tar).act(|| format!("open {}", tar.display()));
    // Both find it in the page cache.
    let length = io::copy(&mut open()?, &mut io::sink()).act(|| format!("read {}", tar.display()))?;
    let reference: Reference = "bench/import".parse()?;
    let imported = |_| {
        let ground = Ground::new(&options.directory, driver)?;
        let file = open()?;
        rustix::fs::sync();
        seconds(|| import(ground.store(), file, &reference, "bench").act(|| format!("import {}", tar.display())))
    };
    let unpacked = |_| {
        let ground = Ground::new(&options.directory, driver)?;
        let key: Key = "unpacked".parse()?;
        ground.store().prepare(&key, None)?;
        let volume = ground.store().stat(&key)?.volume;
        rustix::fs::sync();
        ground.inside(&key, |mounted| {
            // Small files take more than in the tar.
            ground.store().driver().reserve(volume, mounted.root(), Bytes(length * 2))?;
            seconds(|| unpack(tar, mounted))
        })
    };
    in_turn(options.samples(7), imported, unpacked).map(|sampled| vec![sampled])
}

fn unpack(tar: &Path, mounted: &Mounted) -> Result<()> {
    // The mount is detached; this path leads other processes to it.
    let root = format!("/proc/{}/fd/{}", std::process::id(), mounted.root().as_raw_fd());
    let archive = tar.to_string_lossy();
    TAR.succeed(&["--extract", "--numeric-owner", "--file", &archive, "-C", &root])?;
    mounted.file_system()?.write_out()
}
