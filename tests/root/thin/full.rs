//! Pools whose data or metadata ran out.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::Path,
    time::Instant,
};

use lamina::{
    Kind, Result,
    driver::{Access, Driver, Health, pool},
    units::Bytes,
};

use super::{Pool, expect_messages, id, inside, names, write};

/// Writes until it fails; tells the errno and how much was written for certain.
fn fill(root: &Path) -> (i32, u64) {
    let mut file = File::create(root.join("fill")).unwrap();
    let mut written = 0;
    loop {
        match file.write_all(&[9; 4 << 20]).and_then(|()| file.sync_data()) {
            Ok(()) => written += 4 << 20,
            Err(error) => return (error.raw_os_error().unwrap_or(0), written),
        }
    }
}

const EXPECT_FULL: [&str; 5] = ["EXT4-fs", "Aborting journal", "Buffer I/O error", "device-mapper: thin", "I/O error"];

fn fill_pool(pool: &Pool) -> Result<()> {
    expect_messages(&EXPECT_FULL);
    let driver = pool.driver()?;
    driver.create(id(1))?;
    write(driver.as_ref(), 1, "layer", "sealed")?;
    driver.seal(id(1))?;
    // A file system larger than what the pool has left, so that the pool is what ends.
    for volume in 2..4 {
        driver.snapshot(id(volume), &[id(1)])?;
    }
    let started = Instant::now();
    for volume in 2..4 {
        let (errno, written) = inside(driver.as_ref(), volume, Access::ReadWrite, fill)?;
        println!("volume {volume}: {written} bytes, then errno {errno}, {:?} after the start", started.elapsed());
        assert!(matches!(errno, libc::ENOSPC | libc::EIO), "{errno}");
    }
    let status = driver.status()?;
    assert_eq!(status.health, Health::OutOfSpace, "{status:?}");
    assert_eq!(names(driver.as_ref(), 1)?, ["layer"]);
    Ok(())
}

pub(super) fn a_full_pool_recovers(pool: &Pool) -> Result<()> {
    fill_pool(pool)?;
    let driver = pool.driver()?;
    assert_eq!(driver.grow(Bytes::mib(100)).unwrap_err().kind(), Kind::Invalid);
    // Another command that found the pool before it grew, and then needs more metadata, must not make it shorter again.
    let earlier = pool.driver()?;
    driver.grow(Bytes::gib(1))?;
    assert!(earlier.extend_metadata()?);
    let status = pool.driver()?.status()?;
    assert_eq!((status.health, status.data.total), (Health::Ok, Bytes::gib(1)), "{status:?}");
    driver.snapshot(id(10), &[id(1)])?;
    inside(driver.as_ref(), 10, Access::ReadWrite, |root| fs::write(root.join("f"), vec![1; 32 << 20]).unwrap())?;
    driver.seal(id(10))?;
    assert_eq!(names(driver.as_ref(), 10)?, ["f", "layer"]);
    Ok(())
}

pub(super) fn a_full_pool_recovers_by_deleting(pool: &Pool) -> Result<()> {
    fill_pool(pool)?;
    let driver = pool.driver()?;
    driver.delete(id(2))?;
    driver.delete(id(3))?;
    let status = driver.status()?;
    assert_eq!(status.health, Health::Ok, "{status:?}");
    driver.snapshot(id(10), &[id(1)])?;
    inside(driver.as_ref(), 10, Access::ReadWrite, |root| fs::write(root.join("f"), vec![1; 32 << 20]).unwrap())?;
    assert_eq!(names(driver.as_ref(), 10)?, ["f", "layer"]);
    Ok(())
}

/// Snapshots that are changed all over use metadata up: each has own leaves of the mapping tree. The pool says so with
/// numbers, what exists stays readable, and deleting makes room again.
pub(super) fn full_metadata_is_told(pool: &Pool) -> Result<()> {
    // Which write meets the end first, a snapshot or a chunk, is open.
    expect_messages(&["device-mapper: thin", "device-mapper: space map", "Buffer I/O error"]);
    let driver = pool.driver()?;
    let driver = driver.as_ref();
    driver.create(id(1))?;
    write(driver, 1, "layer", "sealed")?;
    write_chunks(driver, 1, 1)?;
    driver.seal(id(1))?;
    let mut last = 1;
    let error = loop {
        last += 1;
        if let Err(error) = driver.snapshot(id(last), &[id(1)]) {
            break error;
        }
        if let Err(error) = write_chunks(driver, last, 100) {
            println!("write to volume {last}: {error}; {:?}", driver.status()?);
        }
        assert!(last < 200, "metadata never filled");
    };
    println!("after {last} volumes: {error}");
    assert_eq!(error.kind(), Kind::Full, "{error}");
    assert_eq!(names(driver, 1)?, ["layer"]);
    println!("{:?}", driver.status()?);
    if driver.status()?.health != Health::Ok {
        pool::close(&pool.spec)?;
        println!("{:?}", pool::repair(&pool.spec)?);
    }
    let driver = pool.driver()?;
    let driver = driver.as_ref();
    println!("{:?}", driver.status()?);
    for volume in 2..6 {
        driver.delete(id(volume))?;
    }
    driver.snapshot(id(3_000), &[id(1)])?;
    assert_eq!(names(driver, 3_000)?, ["layer"]);
    Ok(())
}

/// Writes whole chunks to the volume's device, beyond its file system, every `step` chunks.
fn write_chunks(driver: &dyn Driver, volume: u64, step: usize) -> Result<()> {
    let lamina::fs::MountSpec::Device { device, .. } = driver.mounts(id(volume), &[], Access::ReadWrite)? else {
        panic!("a thin volume is a device")
    };
    let file = File::options().write(true).open(device).unwrap();
    let chunk = vec![1; 64 << 10];
    let mut written = Ok(());
    for at in (0..2_000u64).step_by(step) {
        written = written.and_then(|()| file.write_all_at(&chunk, (1 << 40) + (at << 16)));
    }
    let written = written.and_then(|()| file.sync_all());
    drop(file);
    driver.release(id(volume))?;
    lamina::error::Act::act(written, || "write chunks")
}
