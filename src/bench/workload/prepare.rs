//! What a container's snapshot costs above what it cannot cost less than.

use std::{fs::File, io::Write as _};

use super::{Claim, Sampled, Workload, in_turn, seconds};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground, tree},
    driver::DriverKind,
    error::{Act as _, Result},
    id::VolumeId,
    store::Key,
    units::Bytes,
};

pub(in crate::bench) const PREPARE: Workload = Workload {
    name: "prepare",
    about: "store.prepare of a container in-process, against its floor on the same pool: the driver's snapshot and one \
            synced append of 4 KiB beside the database",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    claims: &[Claim {
        what: "store.prepare",
        against: Some("snapshot + fsync"),
        limit: |_| Some(Limit::RatioAtMost(1.5)),
    }],
    run,
};

/// Volumes of the floor, which the store does not know of; its own numbers start at 1.
const FIRST: usize = 1_000_000;

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let ground = Ground::new(&options.directory, driver)?;
    let store = ground.store();
    let image: Key = "image".parse()?;
    ground.layer(&image, None, Bytes::mib(16), |root| tree::fill(root, 1000))?;
    let parents = [store.stat(&image)?.volume];
    let path = store.layout().root().join("synced");
    let mut log = File::create_new(&path).act(|| format!("make {}", path.display()))?;
    let prepare = |number| {
        let key: Key = format!("container-{number}").parse()?;
        seconds(|| store.prepare(&key, Some(&image)))
    };
    let floor = |number| {
        let volume = VolumeId::new((FIRST + number) as u64)?;
        seconds(|| {
            store.driver().snapshot(volume, &parents)?;
            log.write_all(&[1; 4096]).and_then(|()| log.sync_data()).act(|| format!("append to {}", path.display()))
        })
    };
    in_turn(options.samples(200), prepare, floor).map(|sampled| vec![sampled])
}
