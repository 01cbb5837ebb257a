//! Volumes of one pool: isolated, captured while written, grown, compared.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use lamina::{
    Kind, Result,
    driver::{Access, ChangeKind},
    fs::{BlockFs, Mounted},
    units::Bytes,
};

use super::{Pool, expect_messages, id, inside, names, write};

pub(super) fn generations_are_isolated(pool: &Pool) -> Result<()> {
    expect_messages(&["Creation of new snapshot", "open thin internal device", "error adding target to table"]);
    let driver = pool.driver()?;
    let driver = driver.as_ref();
    driver.create(id(1))?;
    assert_eq!(driver.create(id(1)).unwrap_err().kind(), Kind::Exists);
    assert!(names(driver, 1)?.is_empty());
    write(driver, 1, "a", "one")?;
    driver.seal(id(1))?;
    driver.snapshot(id(2), &[id(1)])?;
    driver.snapshot(id(3), &[id(1)])?;
    write(driver, 2, "b", "two")?;
    driver.seal(id(2))?;
    driver.snapshot(id(4), &[id(2), id(1)])?;
    write(driver, 4, "c", "four")?;
    write(driver, 3, "a", "three")?;
    assert_eq!(names(driver, 1)?, ["a"]);
    assert_eq!(names(driver, 2)?, ["a", "b"]);
    assert_eq!(names(driver, 3)?, ["a"]);
    assert_eq!(names(driver, 4)?, ["a", "b", "c"]);
    let read = |root: &Path| fs::read_to_string(root.join("a")).unwrap();
    assert_eq!(inside(driver, 1, Access::ReadOnly, read)?, "one");
    assert_eq!(inside(driver, 3, Access::ReadOnly, read)?, "three");
    let refused = inside(driver, 1, Access::ReadOnly, |root| fs::write(root.join("a"), "x"))?;
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert_eq!(driver.volumes()?, [id(1), id(2), id(3), id(4)]);
    assert!(driver.active()?.is_empty());
    assert_eq!(driver.snapshot(id(9), &[id(8)]).unwrap_err().kind(), Kind::NotFound);
    for volume in [2, 1, 3, 4, 4, 77] {
        driver.delete(id(volume))?;
    }
    assert!(driver.volumes()?.is_empty());
    Ok(())
}

pub(super) fn capture_while_written_is_complete(pool: &Pool) -> Result<()> {
    let driver = pool.driver()?;
    driver.create(id(1))?;
    let mounted = Mounted::detached(&driver.mounts(id(1), &[], Access::ReadWrite)?)?;
    let root = mounted.path();
    fs::write(root.join("first"), "written, never synced").unwrap();
    let orphan = File::create(root.join("orphan")).unwrap();
    orphan.write_all_at(&[7; 100_000], 0).unwrap();
    fs::remove_file(root.join("orphan")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(root.join(format!("n{written}")), vec![3; 20_000]).unwrap();
                written += 1;
            }
            written
        });
        let captured = (2..5).try_for_each(|volume| driver.capture(id(volume), id(1), Access::ReadOnly));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
        captured
    })?;
    fs::write(root.join("last"), "").unwrap();
    for volume in 2..5 {
        let found = names(driver.as_ref(), volume)?;
        assert!(found.contains(&"first".to_owned()) && !found.contains(&"last".to_owned()), "{found:?}");
        let text = inside(driver.as_ref(), volume, Access::ReadOnly, |root| fs::read(root.join("first")).unwrap())?;
        assert_eq!(text, b"written, never synced");
    }
    assert_eq!(driver.active()?, [id(1)]);
    drop(orphan);
    drop(mounted);
    driver.release(id(1))?;
    assert!(driver.active()?.is_empty());
    driver.capture(id(5), id(1), Access::ReadOnly)?;
    assert!(names(driver.as_ref(), 5)?.contains(&"last".to_owned()));
    Ok(())
}

pub(super) fn volumes_grow_online(pool: &Pool) -> Result<()> {
    let driver = pool.driver()?;
    driver.create(id(1))?;
    write(driver.as_ref(), 1, "kept", "text")?;
    let mounted = Mounted::detached(&driver.mounts(id(1), &[], Access::ReadWrite)?)?;
    let free = || {
        let space = rustix::fs::fstatvfs(mounted.root()).unwrap();
        space.f_bavail * space.f_frsize
    };
    let before = pool.used()?;
    driver.reserve(id(1), mounted.root(), Bytes::gib(200))?;
    assert!(free() >= 200 << 30, "{}", free());
    println!("{}: growing to 200 GiB took {} KiB", pool.spec.fs, (pool.used()? - before) >> 10);
    driver.reserve(id(1), mounted.root(), Bytes::gib(200))?;
    fs::create_dir(mounted.path().join("d")).unwrap();
    fs::write(mounted.path().join("d/f"), vec![1; 1 << 20]).unwrap();
    assert_eq!(driver.reserve(id(1), mounted.root(), Bytes::gib(20_000)).unwrap_err().kind(), Kind::Full);
    drop(mounted);
    driver.seal(id(1))?;
    driver.snapshot(id(2), &[id(1)])?;
    assert_eq!(names(driver.as_ref(), 2)?, ["d", "kept"]);
    if pool.spec.fs == BlockFs::Ext4 {
        let lamina::fs::MountSpec::Device { device, .. } = driver.mounts(id(2), &[], Access::ReadOnly)? else {
            panic!("a thin volume is a device")
        };
        let checked = std::process::Command::new("e2fsck").arg("-fn").arg(device).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        driver.release(id(2))?;
    }
    Ok(())
}

pub(super) fn changes_are_exact(pool: &Pool) -> Result<()> {
    let driver = pool.driver()?;
    let driver = driver.as_ref();
    driver.create(id(1))?;
    inside(driver, 1, Access::ReadWrite, |root| {
        fs::write(root.join("big"), vec![5; 8 << 20]).unwrap();
        fs::write(root.join("gone"), "x").unwrap();
        fs::write(root.join("same"), vec![6; 1 << 20]).unwrap();
        fs::write(root.join("touched"), "x").unwrap();
    })?;
    driver.seal(id(1))?;
    assert_eq!(driver.changes(id(1), &[])?.len(), 4);
    driver.snapshot(id(2), &[id(1)])?;
    assert!(driver.changes(id(2), &[id(1)])?.is_empty());
    inside(driver, 2, Access::ReadWrite, |root| {
        // Same size and same time: only the content tells.
        let big = File::options().write(true).open(root.join("big")).unwrap();
        let time = big.metadata().unwrap().modified().unwrap();
        big.write_all_at(b"other", 5 << 20).unwrap();
        big.set_modified(time).unwrap();
        let touched = File::options().write(true).open(root.join("touched")).unwrap();
        let time = touched.metadata().unwrap().modified().unwrap();
        touched.write_all_at(b"x", 0).unwrap();
        touched.set_modified(time).unwrap();
        fs::remove_file(root.join("gone")).unwrap();
        fs::create_dir(root.join("new")).unwrap();
    })?;
    driver.seal(id(2))?;
    let changes: Vec<(String, ChangeKind)> =
        driver.changes(id(2), &[id(1)])?.into_iter().map(|c| (c.path.display().to_string(), c.kind)).collect();
    let expected = [("big", ChangeKind::Changed), ("gone", ChangeKind::Deleted), ("new", ChangeKind::Added)];
    assert_eq!(changes, expected.map(|(path, kind)| (path.to_owned(), kind)));
    assert!(driver.active()?.is_empty());
    Ok(())
}
