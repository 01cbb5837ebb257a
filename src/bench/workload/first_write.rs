//! The first write into a large file of the image, in a fresh container: where copying files and copying blocks
//! differ most.

use std::{fs::OpenOptions, io, os::unix::fs::FileExt as _};

use super::{
    held::{Claim, Held, Sampled},
    seconds,
};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground, tree},
    driver::{Access, DriverKind},
    error::{Act as _, Result},
    fs::Mounted,
    id::VolumeId,
    interrupt,
    store::Key,
};

pub(in crate::bench) const FIRST_WRITE: Held = Held {
    name: "first-write",
    about: "open, write 4 KiB, fsync in a large file of the image in a fresh container, its blocks in the page cache: \
            overlay against this driver, and this driver against the same in a snapshot that no store made",
    tests: "A copy_up operation can incur a noticeable performance overhead.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[],
    files: 4,
    claims: &[
        Claim {
            what: "overlay's first write",
            against: Some("this driver's"),
            limit: |driver| Some(Limit::RatioAtLeast(if driver == DriverKind::Thin { 100.0 } else { 500.0 })),
        },
        Claim { what: "first write", against: Some("in a bare snapshot"), limit: |_| Some(Limit::RatioAtMost(1.2)) },
    ],
    run: |options, driver| run(options, driver, Cache::Warm),
};

pub(in crate::bench) const FIRST_WRITE_COLD: Held = Held {
    name: "first-write-cold",
    about: "the same with empty page, inode and dentry caches",
    claims: &[
        Claim { what: "overlay's first write", against: Some("this driver's"), limit: |_| None },
        Claim { what: "first write", against: Some("in a bare snapshot"), limit: |_| None },
    ],
    run: |options, driver| run(options, driver, Cache::Cold),
    ..FIRST_WRITE
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    Warm,
    Cold,
}

/// One sample of overlay takes seconds, so it is taken only every so many rounds.
const OVERLAY_EVERY: usize = 5;

/// Bare snapshots have numbers that the store does not reach.
const BARE: u64 = 1_000_000;

const FILE: &str = "big";

fn run(options: &Options, driver: DriverKind, cache: Cache) -> Result<Vec<Sampled>> {
    let overlay = Side::new(options, DriverKind::Overlay)?;
    let side = Side::new(options, driver)?;
    let (mut against, mut bare) = (Sampled::default(), Sampled::default());
    for round in 0..options.samples(25) {
        interrupt::check()?;
        if round % OVERLAY_EVERY == 0 {
            against.subject.push(overlay.container(cache, round)?);
        }
        let (container, floor) = if round % 2 == 0 {
            let container = side.container(cache, round)?;
            (container, side.bare(cache, round)?)
        } else {
            let floor = side.bare(cache, round)?;
            (side.container(cache, round)?, floor)
        };
        against.base.push(container);
        bare.subject.push(container);
        bare.base.push(floor);
    }
    Ok(vec![against, bare])
}

/// A pool with the image.
struct Side {
    ground: Ground,
    image: Key,
    blocks: u64,
}

impl Side {
    fn new(options: &Options, driver: DriverKind) -> Result<Self> {
        let ground = Ground::new(&options.directory, driver)?;
        let image: Key = "image".parse()?;
        ground.layer(&image, None, options.file_size, |root| tree::big_file(&root.join(FILE), options.file_size))?;
        Ok(Self { ground, image, blocks: (options.file_size.0 / BLOCK).max(1) })
    }

    /// In a container as the store makes it.
    fn container(&self, cache: Cache, round: usize) -> Result<f64> {
        let store = self.ground.store();
        let key: Key = format!("container-{round}").parse()?;
        store.prepare(&key, Some(&self.image))?;
        self.settle(cache)?;
        let time = self.ground.inside(&key, |mounted| self.write(mounted, round))?;
        store.remove(&key)?;
        Ok(time)
    }

    /// In a snapshot by the driver alone, mounted alike.
    fn bare(&self, cache: Cache, round: usize) -> Result<f64> {
        let driver = self.ground.store().driver();
        let parents = [self.ground.store().stat(&self.image)?.volume];
        let volume = VolumeId::new(BARE + round as u64)?;
        driver.snapshot(volume, &parents)?;
        self.settle(cache)?;
        let mounted = Mounted::detached(&driver.mounts(volume, &parents, Access::ReadWrite)?)?;
        let time = self.write(&mounted, round)?;
        drop(mounted);
        driver.release(volume)?;
        driver.delete(volume)?;
        Ok(time)
    }

    fn write(&self, mounted: &Mounted, round: usize) -> Result<f64> {
        let path = mounted.path().join(FILE);
        // Somewhere else each time, but the same place in container and bare snapshot.
        let block = (round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.blocks;
        let write = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.write_all_at(&[7; 4096], block * BLOCK)?;
            file.sync_all()
        };
        seconds(|| write().act(|| format!("write into {}", path.display())))
    }

    /// Brings the cache into the wanted state, with nothing left to be written by others.
    fn settle(&self, cache: Cache) -> Result<()> {
        rustix::fs::sync();
        match cache {
            Cache::Warm => {
                // A reader of the image itself: what a container shares of this is up to its driver.
                let view: Key = "view".parse()?;
                let store = self.ground.store();
                store.view(&view, &self.image)?;
                self.ground.inside(&view, |mounted| super::read_through(&mounted.path().join(FILE)))?;
                store.remove(&view)
            }
            Cache::Cold => super::cold::empty_caches(self.ground.root()),
        }
    }
}

const BLOCK: u64 = 4096;
