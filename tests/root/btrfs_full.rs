//! A btrfs pool without space: its own, or that of the disk below its sparse file.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use lamina::{
    driver::{Health, pool},
    error::Kind,
    units::Bytes,
};
use libtest_mimic::{Completion, Failed, Trial};

use crate::{
    as_root,
    btrfs::{Pool, id, mounted, random, spec_in},
    disk::SmallDisk,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("btrfs::a_full_pool_gives_space_back", full),
        as_root("btrfs::a_full_disk_below_is_survived", full_below),
    ]
}

/// Writes until the file system refuses; returns what fitted.
fn fill(path: &Path) -> std::io::Result<u64> {
    let mut file = File::create(path)?;
    let block = random(1 << 20);
    for written in 0.. {
        if let Err(error) = file.write_all(&block).and_then(|()| file.sync_data()) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
            return Ok(written);
        }
    }
    Ok(0)
}

fn full() -> Result<Completion, Failed> {
    let pool = Pool::new(Bytes::mib(256))?;
    let driver = pool.open()?;
    driver.create(id(1))?;
    fs::write(mounted(&*driver, id(1))?.path().join("layer"), "whole")?;
    driver.seal(id(1))?;
    driver.snapshot(id(2), &[id(1)])?;
    let mount = mounted(&*driver, id(2))?;
    let fitted = fill(&mount.path().join("fill"))?;
    assert!(fitted > 64, "{fitted} MiB");
    // Small files until metadata is full too.
    for number in 0.. {
        if let Err(error) = fs::write(mount.path().join(number.to_string()), random(2000)) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            break;
        }
    }
    drop(mount);
    let status = driver.status()?;
    assert_eq!(status.health, Health::OutOfSpace, "{status:?}");
    // Data has filled the pool, and metadata has what was kept for it: snapshots work, or are refused for want of space.
    for last in 3..40 {
        if let Err(error) = driver.snapshot(id(last), &[id(1)]) {
            assert_eq!(error.kind(), Kind::Full, "{error}");
            break;
        }
    }
    driver.delete(id(2))?;
    assert_eq!(driver.status()?.health, Health::Ok, "{:?}", driver.status()?);
    driver.snapshot(id(1000), &[id(1)])?;
    let mount = mounted(&*driver, id(1000))?;
    assert_eq!(fs::read(mount.path().join("layer"))?, b"whole");
    let again = fill(&mount.path().join("fill"))?;
    // Metadata may have become a chunk larger, which is a tenth of so small a device.
    assert!(again + 40 > fitted, "{again} of {fitted} MiB came back");
    driver.grow(Bytes::mib(512))?;
    assert_eq!(driver.status()?.health, Health::Ok, "{:?}", driver.status()?);
    fs::write(mount.path().join("more"), random(32 << 20))?;
    Ok(Completion::Completed)
}

fn full_below() -> Result<Completion, Failed> {
    let disk = SmallDisk::new(300 << 20)?;
    let pool = Pool { spec: spec_in(&disk.path().join("pool"), Bytes::gib(1)), _directory: None };
    pool::create(&pool.spec)?;
    let driver = pool.open()?;
    driver.create(id(1))?;
    fs::write(mounted(&*driver, id(1))?.path().join("layer"), random(1 << 20))?;
    driver.seal(id(1))?;
    driver.snapshot(id(2), &[id(1)])?;
    let ballast = disk.path().join("ballast");
    fill(&ballast)?;
    let left = driver.status()?.backing_free.ok_or("no file below")?;
    assert!(left < Bytes::mib(2), "{left}");
    let mount = mounted(&*driver, id(2))?;
    // Data first, then metadata: a commit that cannot be written makes the kernel give up writing.
    let mut file = File::create(mount.path().join("fill"))?;
    let block = random(1 << 20);
    let failed = (0..64).any(|_| file.write_all(&block).and_then(|()| file.sync_all()).is_err());
    assert!(failed, "writes without a disk below must fail");
    for round in 0..200 {
        for number in 0..500 {
            // Some of these fail, which is the point.
            let _ = fs::write(mount.path().join(format!("{round}-{number}")), &block[..2000]);
        }
        let _ = rustix::fs::syncfs(mount.root());
        if driver.status()?.health != Health::Ok {
            break;
        }
    }
    drop((file, mount));
    // Whether the kernel gave up writing depends on what its discards gave back to the disk meanwhile; if it did, the
    // pool says so and makes nothing new.
    if driver.status()?.health == Health::ReadOnly {
        assert!(driver.snapshot(id(3), &[id(1)]).is_err());
    }
    drop(driver);
    fs::remove_file(&ballast)?;
    pool::close(&pool.spec)?;
    let driver = pool.open()?;
    assert_eq!(driver.status()?.health, Health::Ok);
    let layer = mounted(&*driver, id(1))?;
    assert_eq!(fs::read(layer.path().join("layer"))?.len(), 1 << 20);
    fs::write(mounted(&*driver, id(2))?.path().join("goes-on"), random(1 << 20))?;
    Ok(Completion::Completed)
}
