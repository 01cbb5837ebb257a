//! A build step that copies one file, on a large image and on a small one: a commit costs what changed.

use std::fs;

use super::{
    held::{Claim, Held, Sampled, in_turn},
    seconds,
};
use crate::{
    bench::{
        Limit, Options, Unit, building,
        ground::{Directory, Ground},
        tree,
    },
    driver::DriverKind,
    error::{Act as _, Result},
    image::import::import,
};

pub(in crate::bench) const COPY_STEP: Held = Held {
    name: "copy-step",
    about: "a build of one COPY of one file, never the same, on an image of many files, against the same on one of ten",
    tests: "The COPY command adds some files from your Docker client’s current directory.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[],
    files: 0,
    claims: &[Claim {
        what: "COPY on many files",
        against: Some("on 10 files"),
        limit: |driver| (driver == DriverKind::Btrfs).then_some(Limit::RatioAtMost(2.0)),
    }],
    run,
};

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let ground = Ground::new(&options.directory, driver)?;
    let store = ground.store();
    for (name, files) in [("bench/many", options.files), ("bench/few", 10)] {
        import(store, tree::archive(files)?, &name.parse()?, "bench")?;
    }
    let context = Directory::new(&options.directory, "context")?;
    let file = context.path().join("file");
    let step = |base: &str, number: usize| {
        fs::write(&file, format!("{base} {number}")).act(|| format!("write {}", file.display()))?;
        let dockerfile = format!("FROM bench/{base}\nCOPY file /added\n");
        seconds(|| building::build(store, &dockerfile, context.path(), "bench/step"))
    };
    in_turn(options.samples(15), |number| step("many", number), |number| step("few", number))
        .map(|sampled| vec![sampled])
}
