//! What a container's snapshot costs above what it cannot cost less than.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    held::{Claim, Held, Sampled, in_turn},
    seconds,
};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground, tree},
    driver::DriverKind,
    error::{Act as _, Result},
    id::VolumeId,
    store::Key,
    units::Bytes,
};

pub(in crate::bench) const PREPARE: Held = Held {
    name: "prepare",
    about: "store.prepare of a container in-process, against its floor on the same pool: the driver's snapshot and one \
            synced write of 4 KiB beside the database",
    tests: "When you create a new container, you add a new writable layer on top of the underlying layers.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[],
    files: 0,
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
    let (log, path) = log(store.layout().root())?;
    let prepare = |number| {
        let key: Key = format!("container-{number}").parse()?;
        seconds(|| store.prepare(&key, Some(&image)))
    };
    let floor = |number| {
        let volume = VolumeId::new((FIRST + number) as u64)?;
        seconds(|| {
            store.driver().snapshot(volume, &parents)?;
            let page = (number % LOG_PAGES) as u64;
            let write = log.write_all_at(&[1; 4096], page * 4096).and_then(|()| log.sync_data());
            write.act(|| format!("write {}", path.display()))
        })
    };
    in_turn(options.samples(200), prepare, floor).map(|sampled| vec![sampled])
}

/// Pages of the floor's log.
const LOG_PAGES: usize = 256;

/// A file beside the database that is overwritten in place: no log can be written durably for less.
fn log(root: &Path) -> Result<(File, PathBuf)> {
    let path = root.join("log");
    let act = || format!("make {}", path.display());
    let mut file = File::create_new(&path).act(act)?;
    file.write_all(&[0; 4096 * LOG_PAGES]).and_then(|()| file.sync_all()).act(act)?;
    Ok((file, path))
}
