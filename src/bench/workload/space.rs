//! What a container and a layer take in the pool, with all that the file systems write for themselves.

use std::{fs, path::Path};

use super::held::{Claim, Held, Sampled};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground, tree},
    driver::DriverKind,
    error::{Act as _, Result},
    interrupt,
    store::Key,
    units::Bytes,
};

pub(in crate::bench) const SPACE: Held = Held {
    name: "space",
    about: "bytes in the pool for a container just made, one with a small file written, and a layer of one small file: \
            by how much the pool's used space grows, and by the driver's usage",
    tests: "This means that the writable layer is as small as possible.",
    unit: Unit::Bytes,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[],
    files: 0,
    claims: &[
        Claim { what: "created, by pool", against: None, limit: created },
        Claim { what: "created, by usage", against: None, limit: created },
        Claim { what: "small file, by pool", against: None, limit: written },
        Claim { what: "small file, by usage", against: None, limit: written },
        Claim { what: "layer, by pool", against: None, limit: written },
        Claim { what: "layer, by usage", against: None, limit: written },
    ],
    run,
};

fn created(_: DriverKind) -> Option<Limit> {
    Some(Limit::MeanAtMost(Bytes::kib(64)))
}

fn written(driver: DriverKind) -> Option<Limit> {
    Some(Limit::MeanAtMost(if driver == DriverKind::Thin { Bytes::mib(1) } else { Bytes::kib(128) }))
}

/// As many files as a small distribution's root file system has.
const FILES: usize = 5000;

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let ground = Ground::new(&options.directory, driver)?;
    let store = ground.store();
    let image: Key = "image".parse()?;
    ground.layer(&image, None, Bytes::mib(64), |root| tree::fill(root, options.files.min(FILES)))?;
    let mut claims: [Vec<f64>; 6] = Default::default();
    for round in 0..options.samples(20) {
        interrupt::check()?;
        for (step, claim) in [Step::Created, Step::Written, Step::Layer].into_iter().zip([0, 2, 4]) {
            let key: Key = format!("{step:?}-{round}").parse()?;
            let before = used(&ground, &image)?;
            store.prepare(&key, Some(&image))?;
            if step != Step::Created {
                ground.inside(&key, |mounted| small_file(&mounted.path()))?;
            }
            let key = if step == Step::Layer {
                let name: Key = format!("{key}-committed").parse()?;
                store.commit(&name, &key).map(|()| name)?
            } else {
                key
            };
            claims[claim].push(used(&ground, &image)? - before);
            claims[claim + 1].push(float(store.usage(&key)?.exclusive));
        }
    }
    Ok(claims.into_iter().map(|subject| Sampled { subject, base: Vec::new() }).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Created,
    Written,
    Layer,
}

fn small_file(root: &Path) -> Result<()> {
    let path = root.join("small");
    fs::write(&path, "a small file\n").act(|| format!("write {}", path.display()))
}

/// Used bytes of the pool, data and metadata, with nothing left to be written.
fn used(ground: &Ground, image: &Key) -> Result<f64> {
    // Mounting a layer is read-only; it leads to the file system to be synced, where all volumes share one.
    ground.inside(image, |_| Ok(()))?;
    let status = ground.store().status()?;
    Ok(float(status.used()))
}

#[expect(clippy::cast_precision_loss, reason = "pools are far below 2^53 bytes")]
fn float(bytes: Bytes) -> f64 {
    bytes.0 as f64
}
