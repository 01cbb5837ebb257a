//! Whether many containers make the next one slower.

use super::{Claim, Sampled, Workload, seconds};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground, tree},
    driver::DriverKind,
    error::Result,
    interrupt,
    store::Key,
    units::Bytes,
};

pub(in crate::bench) const CREATES: Workload = Workload {
    name: "creates",
    about: "the last tenth of many containers made of one image, against the first tenth",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    claims: &[Claim {
        what: "last tenth of creates",
        against: Some("first tenth"),
        limit: |_| Some(Limit::RatioAtMost(1.2)),
    }],
    run,
};

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let ground = Ground::new(&options.directory, driver)?;
    let image: Key = "image".parse()?;
    ground.layer(&image, None, Bytes::mib(16), |root| tree::fill(root, 1000))?;
    let tenth = options.samples(100);
    let create = |number: usize| {
        interrupt::check()?;
        let key: Key = format!("container-{number}").parse()?;
        seconds(|| ground.store().prepare(&key, Some(&image)))
    };
    let mut times = (0..10 * tenth).map(create).collect::<Result<Vec<_>>>()?;
    let subject = times.split_off(9 * tenth);
    times.truncate(tenth);
    Ok(vec![Sampled { subject, base: times }])
}
