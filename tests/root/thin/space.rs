//! What volumes take of the pool and of the disk below.

use std::fs;

use lamina::{Result, driver::Access, fs::BlockFs, units::Bytes};

use super::{Pool, id, inside, write};

pub(super) fn a_small_file_takes_little_space(pool: &Pool) -> Result<()> {
    let driver = pool.driver()?;
    driver.create(id(1))?;
    write(driver.as_ref(), 1, "base", "text")?;
    driver.seal(id(1))?;
    let before = pool.used()?;
    driver.snapshot(id(2), &[id(1)])?;
    assert_eq!(pool.used()?, before);
    assert_eq!(driver.usage(id(2), &[id(1)])?.exclusive, Bytes(0));
    inside(driver.as_ref(), 2, Access::ReadWrite, |root| {
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/f"), "small").unwrap();
    })?;
    let took = pool.used()? - before;
    let own = driver.usage(id(2), &[id(1)])?.exclusive;
    println!("{}: base {} KiB, one small file takes {} KiB", pool.spec.fs, before >> 10, took >> 10);
    assert_eq!(own.0, took);
    // XFS clears up to 2 MiB of its log at each mount.
    let limit = if pool.spec.fs == BlockFs::Ext4 { 1 << 20 } else { 4 << 20 };
    assert!(took <= limit, "{took}");
    Ok(())
}

pub(super) fn deleting_returns_space_to_the_host(pool: &Pool) -> Result<()> {
    let driver = pool.driver()?;
    let driver = driver.as_ref();
    driver.create(id(1))?;
    inside(driver, 1, Access::ReadWrite, |root| fs::write(root.join("f"), vec![1; 64 << 20]).unwrap())?;
    driver.seal(id(1))?;
    let parent = pool.data_taken();
    driver.snapshot(id(2), &[id(1)])?;
    inside(driver, 2, Access::ReadWrite, |root| fs::write(root.join("g"), vec![2; 64 << 20]).unwrap())?;
    let both = pool.data_taken();
    assert!(both >= parent + (60 << 20), "{parent} {both}");
    driver.delete(id(2))?;
    let after = pool.data_taken();
    assert!(after <= parent + (2 << 20), "{parent} {both} {after}");
    let content = inside(driver, 1, Access::ReadOnly, |root| fs::read(root.join("f")).unwrap())?;
    assert!(content.len() == 64 << 20 && content.iter().all(|byte| *byte == 1), "the parent suffered");
    // What the parent shared with a child that outlives it returns with the child.
    driver.snapshot(id(3), &[id(1)])?;
    driver.delete(id(1))?;
    assert!(pool.data_taken() >= 64 << 20);
    driver.delete(id(3))?;
    assert!(pool.data_taken() <= 8 << 20, "{}", pool.data_taken());
    Ok(())
}
