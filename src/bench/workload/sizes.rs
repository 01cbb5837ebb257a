//! What the sizes of many containers cost.

use std::fs;

use super::{
    held::{Claim, Held, Sampled},
    seconds,
};
use crate::{
    bench::{
        Limit, Options, Unit,
        command::{lamina, output, succeed},
        ground::Ground,
        tree,
    },
    driver::DriverKind,
    error::{Act as _, Result},
    image::import::import,
    interrupt,
};

pub(in crate::bench) const SIZES: Held = Held {
    name: "sizes",
    about: "'lamina ps -a -s' of 100 containers of an image of 1,000 files, ten of which were written: when nobody has \
            asked before, and when one more was written since",
    tests: "size: the amount of data (on disk) that's used for the writable layer of each container.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs, DriverKind::Overlay, DriverKind::Vfs],
    needs: &[],
    files: 0,
    claims: &[
        Claim { what: "first look", against: None, limit: |_| None },
        Claim { what: "later look", against: None, limit },
    ],
    run,
};

const CONTAINERS: usize = 100;

fn limit(_: DriverKind) -> Option<Limit> {
    Some(Limit::TimeAtMost(1.0))
}

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let ground = Ground::new(&options.directory, driver)?;
    import(ground.store(), tree::archive(1000)?, &"bench/sizes:1".parse()?, "bench")?;
    for number in 0..CONTAINERS {
        interrupt::check()?;
        let name = format!("c{number}");
        succeed(lamina(ground.root(), &["create", "--name", &name, "bench/sizes:1"]))?;
        if number % 10 == 0 {
            write(&ground, &name, "first")?;
        }
    }
    let look = || seconds(|| output(lamina(ground.root(), &["ps", "-a", "-s"])));
    let first = look()?;
    let mut later = Vec::new();
    for number in 0..options.samples(10) {
        interrupt::check()?;
        write(&ground, &format!("c{}", number % CONTAINERS), &format!("later {number}"))?;
        later.push(look()?);
    }
    let alone = |subject| Sampled { subject, base: Vec::new() };
    Ok(vec![alone(vec![first]), alone(later)])
}

fn write(ground: &Ground, name: &str, text: &str) -> Result<()> {
    let place = output(lamina(ground.root(), &["mount", name]))?;
    let file = std::path::Path::new(place.trim_end_matches('\n')).join("written");
    fs::write(&file, text).act(|| format!("write {}", file.display()))?;
    succeed(lamina(ground.root(), &["umount", name]))
}
