//! The thin driver on a real pool: sharing, capture while written, space that returns, full pools, power cycles.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test's panic and output are its report"
)]

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Instant,
};

use lamina::{
    Kind, Result,
    driver::{
        Access, ChangeKind, Driver, DriverKind, Health,
        pool::{self, PoolSpec},
        thin,
    },
    fs::{BlockFs, Mounted},
    id::VolumeId,
    units::Bytes,
};
use libtest_mimic::{Completion, Failed, Trial};

type Case = fn(&Pool) -> Result<()>;

/// All cases, each on its own pool, on both file systems where that matters.
pub(crate) fn trials() -> Vec<Trial> {
    let both: [(&str, Case); 5] = [
        ("generations_are_isolated", generations_are_isolated),
        ("capture_while_written_is_complete", capture_while_written_is_complete),
        ("volumes_grow_online", volumes_grow_online),
        ("changes_are_exact", changes_are_exact),
        ("a_small_file_takes_little_space", a_small_file_takes_little_space),
    ];
    let ext4: [(&str, Case); 8] = [
        ("deleting_returns_space_to_the_host", deleting_returns_space_to_the_host),
        ("a_full_pool_fails_writes_and_recovers_by_growing", a_full_pool_recovers),
        ("a_full_pool_recovers_by_deleting", a_full_pool_recovers_by_deleting),
        ("full_metadata_is_told_and_survived", full_metadata_is_told),
        ("a_pool_comes_back_after_a_reboot", a_pool_comes_back),
        ("bad_backings_are_refused", bad_backings_are_refused),
        ("half_done_work_is_finished", half_done_work_is_finished),
        ("latencies", latencies),
    ];
    let case = |fs: BlockFs| move |(name, case): (&str, Case)| trial(format!("thin::{fs}::{name}"), fs, case);
    let mut all: Vec<Trial> = both.into_iter().map(case(BlockFs::Ext4)).collect();
    all.extend(both.into_iter().map(case(BlockFs::Xfs)));
    all.extend(ext4.into_iter().map(case(BlockFs::Ext4)));
    all
}

fn trial(name: String, fs: BlockFs, case: Case) -> Trial {
    Trial::ignorable_test(name, move || {
        match pool::supported(DriverKind::Thin) {
            Err(error) if error.kind() == Kind::Unsupported => {
                return Ok(Completion::ignored_with(
                    "this kernel has no device-mapper thin target (CONFIG_DM_THIN_PROVISIONING)",
                ));
            }
            supported => supported.map_err(failed)?,
        }
        let pool = Pool::make(fs)?;
        case(&pool).map_err(failed)?;
        let findings = pool.driver().map_err(failed)?.check().map_err(failed)?;
        if findings.is_empty() { Ok(Completion::Completed) } else { Err(Failed::from(findings.join("; "))) }
    })
}

fn failed(error: lamina::Error) -> Failed {
    Failed::from(error.to_string())
}

/// A pool in a directory of its own; both go with it, also on panic.
struct Pool {
    spec: PoolSpec,
    _directory: tempfile::TempDir,
}

impl Pool {
    fn make(fs: BlockFs) -> std::result::Result<Self, Failed> {
        Self::sized(fs, Bytes::mib(512))
    }

    fn sized(fs: BlockFs, size: Bytes) -> std::result::Result<Self, Failed> {
        let parent = std::env::var_os("LAMINA_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let directory = tempfile::Builder::new().prefix("lamina-test-thin-").tempdir_in(parent)?;
        let uuid = format!("{:032x}", rand::random::<u128>());
        let spec = PoolSpec {
            kind: DriverKind::Thin,
            uuid,
            directory: directory.path().to_owned(),
            size,
            chunk: Bytes::kib(64),
            fs,
            data: None,
            metadata: None,
        };
        let pool = Self { spec, _directory: directory };
        pool::create(&pool.spec).map_err(failed)?;
        Ok(pool)
    }

    fn driver(&self) -> Result<Box<dyn Driver>> {
        pool::open(&self.spec)
    }

    fn data_taken(&self) -> u64 {
        fs::metadata(self.spec.directory.join("data")).unwrap().blocks() * 512
    }

    fn used(&self) -> Result<u64> {
        Ok(self.driver()?.status()?.data.used.0)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Err(error) = pool::destroy(&self.spec) {
            eprintln!("destroy the test's pool: {error}");
        }
    }
}

fn id(number: u64) -> VolumeId {
    VolumeId::new(number).unwrap()
}

/// Mounts the volume, lets `work` at its root, unmounts, releases.
fn inside<T>(driver: &dyn Driver, volume: u64, access: Access, work: impl FnOnce(&Path) -> T) -> Result<T> {
    let mounted = Mounted::detached(&driver.mounts(id(volume), &[], access)?)?;
    let done = work(&mounted.path());
    drop(mounted);
    driver.release(id(volume))?;
    Ok(done)
}

fn write(driver: &dyn Driver, volume: u64, name: &str, text: &str) -> Result<()> {
    inside(driver, volume, Access::ReadWrite, |root| fs::write(root.join(name), text).unwrap())
}

fn names(driver: &dyn Driver, volume: u64) -> Result<Vec<String>> {
    inside(driver, volume, Access::ReadOnly, |root| {
        let mut names: Vec<String> =
            fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    })
}

fn generations_are_isolated(pool: &Pool) -> Result<()> {
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

fn capture_while_written_is_complete(pool: &Pool) -> Result<()> {
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
        let captured = (2..5).try_for_each(|volume| driver.capture(id(volume), id(1), &[]));
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
    driver.capture(id(5), id(1), &[])?;
    assert!(names(driver.as_ref(), 5)?.contains(&"last".to_owned()));
    Ok(())
}

fn volumes_grow_online(pool: &Pool) -> Result<()> {
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

fn changes_are_exact(pool: &Pool) -> Result<()> {
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

fn a_small_file_takes_little_space(pool: &Pool) -> Result<()> {
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

fn deleting_returns_space_to_the_host(pool: &Pool) -> Result<()> {
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

fn expect_messages(parts: &[&str]) {
    for part in parts {
        println!("VM-EXPECT-KMSG: {part}");
    }
}

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

fn a_full_pool_recovers(pool: &Pool) -> Result<()> {
    fill_pool(pool)?;
    let driver = pool.driver()?;
    assert_eq!(driver.grow(Bytes::mib(100)).unwrap_err().kind(), Kind::Invalid);
    driver.grow(Bytes::gib(1))?;
    let status = pool.driver()?.status()?;
    assert_eq!((status.health, status.data.total), (Health::Ok, Bytes::gib(1)), "{status:?}");
    driver.snapshot(id(10), &[id(1)])?;
    inside(driver.as_ref(), 10, Access::ReadWrite, |root| fs::write(root.join("f"), vec![1; 32 << 20]).unwrap())?;
    driver.seal(id(10))?;
    assert_eq!(names(driver.as_ref(), 10)?, ["f", "layer"]);
    Ok(())
}

fn a_full_pool_recovers_by_deleting(pool: &Pool) -> Result<()> {
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
fn full_metadata_is_told(pool: &Pool) -> Result<()> {
    expect_messages(&["device-mapper: thin", "device-mapper: space map"]);
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
        println!("{:?}", thin::repair(&pool.spec)?);
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

fn a_pool_comes_back(pool: &Pool) -> Result<()> {
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

fn bad_backings_are_refused(pool: &Pool) -> Result<()> {
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
    assert!(thin::repair(&pool.spec)?[0].contains("sound"));
    Ok(())
}

/// What a process killed at the wrong moment leaves: an unfinished creation, a held metadata snapshot, a suspended
/// volume, an active one, half of a delete.
fn half_done_work_is_finished(pool: &Pool) -> Result<()> {
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

fn latencies(pool: &Pool) -> Result<()> {
    let driver = pool.driver()?;
    let driver = driver.as_ref();
    driver.create(id(1))?;
    inside(driver, 1, Access::ReadWrite, |root| fs::write(root.join("f"), vec![1; 16 << 20]).unwrap())?;
    driver.seal(id(1))?;
    let mut log = std::io::stdout();
    let mut timed = |what: &str, act: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let started = Instant::now();
        act()?;
        writeln!(log, "{what}: {:.1} ms", started.elapsed().as_secs_f64() * 1e3).unwrap();
        Ok(())
    };
    for round in 0..3u64 {
        let new = id(10 + round);
        timed("snapshot", &mut || driver.snapshot(new, &[id(1)]))?;
        timed("delete untouched", &mut || driver.delete(new))?;
        driver.snapshot(new, &[id(1)])?;
        timed("mounts", &mut || driver.mounts(new, &[], Access::ReadWrite).map(drop))?;
        timed("release", &mut || driver.release(new))?;
        inside(driver, 10 + round, Access::ReadWrite, |root| fs::write(root.join("g"), "x").unwrap())?;
        timed("seal", &mut || driver.seal(new))?;
        timed("usage", &mut || driver.usage(new, &[id(1)]).map(drop))?;
        timed("changes", &mut || driver.changes(new, &[id(1)]).map(drop))?;
        timed("volumes", &mut || driver.volumes().map(drop))?;
        timed("delete", &mut || driver.delete(new))?;
        timed("open", &mut || pool.driver().map(drop))?;
    }
    Ok(())
}
