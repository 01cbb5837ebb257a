//! Whether many containers make the next one slower.

use super::{
    held::{Claim, Held, Sampled},
    seconds,
};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground},
    container::Containers,
    driver::DriverKind,
    error::{Act as _, Result},
    image::import::import,
    interrupt,
};

pub(in crate::bench) const CREATES: Held = Held {
    name: "creates",
    about: "the last tenth of many containers made of one image, against the first tenth",
    tests: "multiple containers can share access to the same underlying image and yet have their own data state",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[],
    files: 0,
    claims: &[Claim {
        what: "last tenth of creates",
        against: Some("first tenth"),
        limit: |_| Some(Limit::RatioAtMost(1.2)),
    }],
    run,
};

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let ground = Ground::new(&options.directory, driver)?;
    let image = import(ground.store(), &*tar()?, &"bench/small".parse()?, "bench")?;
    let containers = Containers::new(ground.store());
    let tenth = options.samples(100);
    let create = |_| {
        interrupt::check()?;
        seconds(|| containers.create(&image, "bench/small", None))
    };
    let mut times = (0..10 * tenth).map(create).collect::<Result<Vec<_>>>()?;
    let subject = times.split_off(9 * tenth);
    times.truncate(tenth);
    Ok(vec![Sampled { subject, base: times }])
}

/// A root file system of one file.
fn tar() -> Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "file", &b"bench"[..]).act(|| "make a tar")?;
    builder.into_inner().act(|| "make a tar")
}
