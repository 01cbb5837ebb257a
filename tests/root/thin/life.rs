//! A pool taken down and up, made of what cannot be, and left half done by a killed process.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use lamina::{
    Kind, Result,
    driver::{
        Access,
        pool::{self, PoolSpec},
    },
    fs::Mounted,
    units::Bytes,
};

use super::{Pool, expect_messages, id, names, write};

pub(super) fn a_pool_comes_back(pool: &Pool) -> Result<()> {
    let driver = pool.driver()?;
    driver.create(id(1))?;
    write(driver.as_ref(), 1, "a", "one")?;
    let mounted = Mounted::detached(&driver.mounts(id(1), &[], Access::ReadWrite)?)?;
    assert_eq!(pool::close(&pool.spec).unwrap_err().kind(), Kind::InUse);
    drop(mounted);
    pool::close(&pool.spec)?;
    pool::close(&pool.spec)?;
    assert!(!pool::is_up(&pool.spec)?);
    for entry in fs::read_dir("/sys/block").unwrap() {
        let held = entry.unwrap().path().join("loop/backing_file");
        let held = fs::read_to_string(held).unwrap_or_default();
        assert!(!held.contains(pool.spec.directory.to_str().unwrap()), "{held} is still attached");
    }
    let driver = pool.driver()?;
    assert_eq!(driver.volumes()?, [id(1)]);
    assert_eq!(names(driver.as_ref(), 1)?, ["a"]);
    assert!(pool::is_up(&pool.spec)?);
    pool::create(&pool.spec)?;
    assert_eq!(pool.driver()?.volumes()?, [id(1)]);
    Ok(())
}

pub(super) fn bad_backings_are_refused(pool: &Pool) -> Result<()> {
    let (data, metadata) = (pool.spec.directory.join("data"), pool.spec.directory.join("metadata"));
    pool::close(&pool.spec)?;
    let kind = |spec: &PoolSpec| pool::open(spec).unwrap_err();
    let refuse = |spec: &PoolSpec, wanted: Kind| {
        let error = kind(spec);
        println!("{error}");
        assert_eq!(error.kind(), wanted, "{error}");
        assert!(!pool::is_up(spec).unwrap());
    };
    refuse(&PoolSpec { uuid: "f".repeat(32), ..pool.spec.clone() }, Kind::NotOurs);
    refuse(&PoolSpec { chunk: Bytes::kib(128), ..pool.spec.clone() }, Kind::NotOurs);
    let aside = pool.spec.directory.join("aside");
    for file in [&data, &metadata] {
        fs::rename(file, &aside).unwrap();
        refuse(&pool.spec, Kind::NotFound);
        fs::rename(&aside, file).unwrap();
    }
    let length = fs::metadata(&data).unwrap().len();
    File::options().write(true).open(&data).unwrap().set_len(length / 2).unwrap();
    refuse(&pool.spec, Kind::Corrupt);
    File::options().write(true).open(&data).unwrap().set_len(length).unwrap();
    let file = File::options().read(true).write(true).open(&metadata).unwrap();
    let mut superblock = [0; 4096];
    file.read_exact_at(&mut superblock, 0).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    refuse(&pool.spec, Kind::Corrupt);
    file.write_all_at(&superblock, 0).unwrap();
    drop(file);
    // Making another pool over this one is refused too, and harms nothing.
    let other = PoolSpec { uuid: "e".repeat(32), ..pool.spec.clone() };
    let error = pool::create(&other).unwrap_err();
    println!("{error}");
    assert_eq!(error.kind(), Kind::NotOurs);
    for (size, chunk) in [(Bytes::mib(1), Bytes::kib(64)), (Bytes::gib(1), Bytes::kib(65)), (Bytes::gib(99), Bytes(0))]
    {
        assert_eq!(pool::create(&PoolSpec { size, chunk, ..other.clone() }).unwrap_err().kind(), Kind::Invalid);
    }
    pool.driver()?;
    assert!(pool::repair(&pool.spec)?[0].contains("sound"));
    Ok(())
}

/// What a process killed at the wrong moment leaves: an unfinished creation, a held metadata snapshot, a suspended
/// volume, an active one, half of a delete.
pub(super) fn half_done_work_is_finished(pool: &Pool) -> Result<()> {
    let dmsetup = |arguments: &[&str]| {
        let output = std::process::Command::new("dmsetup").arg("--noudevsync").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    // We find the held one by trying to make ours.
    expect_messages(&["reserve_metadata_snap message failed"]);
    let driver = pool.driver()?;
    driver.create(id(1))?;
    write(driver.as_ref(), 1, "a", "one")?;
    let short = &pool.spec.uuid[..8];
    dmsetup(&["message", &format!("lamina-{short}-pool"), "0", "reserve_metadata_snap"]);
    assert_eq!(driver.volumes()?, [id(1)]);
    drop(driver.mounts(id(1), &[], Access::ReadWrite)?);
    dmsetup(&["suspend", &format!("lamina-{short}-1")]);
    let driver = pool.driver()?;
    assert_eq!(driver.active()?, [id(1)]);
    assert_eq!(names(driver.as_ref(), 1)?, ["a"]);
    drop(driver.mounts(id(1), &[], Access::ReadWrite)?);
    driver.delete(id(1))?;
    assert!(driver.volumes()?.is_empty());
    // An unfinished creation: the note, and a pool that is up.
    let (data, metadata) = (pool.spec.directory.join("data"), pool.spec.directory.join("metadata"));
    let note = [data.to_str().unwrap(), metadata.to_str().unwrap()].join("\0");
    fs::write(pool.spec.directory.join("making"), note).unwrap();
    pool::create(&pool.spec)?;
    assert!(!pool.spec.directory.join("making").exists());
    pool.driver()?.create(id(1))?;
    assert!(names(pool.driver()?.as_ref(), 1)?.is_empty());
    Ok(())
}
