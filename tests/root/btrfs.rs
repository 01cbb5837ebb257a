//! What the btrfs driver does beyond the conformance suite: pools on files, space, nested subvolumes, full pools.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use lamina::{
    driver::{
        Access, Driver, DriverKind, Health,
        pool::{self, PoolSpec},
    },
    error::Kind,
    fs::{BlockFs, MountSpec, Mounted},
    id::VolumeId,
    units::Bytes,
};
use libtest_mimic::{Completion, Failed, Trial};
use tempfile::TempDir;

use crate::as_root;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("btrfs::a_pool_comes_up_again_and_goes", life),
        as_root("btrfs::what_is_not_a_whole_pool_of_ours_is_refused", refusals),
        as_root("btrfs::usage_follows_what_the_volume_wrote", usage),
        as_root("btrfs::nested_subvolumes_go_with_their_volume", nested),
        as_root("btrfs::a_full_pool_gives_space_back", full),
        as_root("btrfs::a_full_disk_below_is_survived", full_below),
        as_root("btrfs::check_tells_of_strangers", check),
    ]
}

/// A pool in a directory of its own; both go with it.
pub(crate) struct Pool {
    pub(crate) spec: PoolSpec,
    _directory: Option<TempDir>,
}

impl Pool {
    pub(crate) fn new(size: Bytes) -> Result<Self, Failed> {
        let directory = tempfile::Builder::new().prefix("lamina-test-btrfs-").tempdir()?;
        let spec = spec_in(directory.path(), size);
        let pool = Self { spec, _directory: Some(directory) };
        pool::create(&pool.spec)?;
        Ok(pool)
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Driver>, Failed> {
        Ok(pool::open(&self.spec)?)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Err(error) = pool::destroy(&self.spec) {
            eprintln!("destroy pool: {error}");
        }
    }
}

fn spec_in(directory: &Path, size: Bytes) -> PoolSpec {
    PoolSpec {
        kind: DriverKind::Btrfs,
        uuid: format!("{:032x}", rand::random::<u128>()),
        directory: directory.to_owned(),
        size,
        chunk: Bytes::kib(64),
        fs: BlockFs::Ext4,
        data: None,
        metadata: None,
    }
}

pub(crate) fn id(number: u64) -> VolumeId {
    VolumeId::new(number).unwrap()
}

pub(crate) fn mounted(driver: &dyn Driver, volume: VolumeId) -> Result<Mounted, Failed> {
    Ok(Mounted::detached(&driver.mounts(volume, &[], Access::ReadWrite)?)?)
}

/// Where the volume lies, for tools that only know paths.
fn path_of(driver: &dyn Driver, volume: VolumeId) -> Result<PathBuf, Failed> {
    match driver.mounts(volume, &[], Access::ReadWrite)? {
        MountSpec::Bind { directory, .. } => Ok(directory),
        other => Err(format!("{other:?}").into()),
    }
}

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

fn life() -> Result<Completion, Failed> {
    let pool = Pool::new(Bytes::mib(256))?;
    assert!(pool::is_up(&pool.spec)?);
    let driver = pool.open()?;
    driver.create(id(1))?;
    let mount = mounted(&*driver, id(1))?;
    fs::write(mount.path().join("a"), "layer")?;
    let place = tempfile::tempdir()?;
    mount.attach(place.path())?;
    assert_eq!(driver.active()?, [id(1)]);
    drop(driver);
    let busy = pool::close(&pool.spec).unwrap_err();
    assert_eq!(busy.kind(), Kind::InUse, "{busy}");
    assert!(pool::is_up(&pool.spec)?);
    lamina::fs::unmount(place.path())?;
    let driver = pool.open()?;
    driver.seal(id(1))?;
    driver.seal(id(1))?;
    driver.snapshot(id(2), &[id(1)])?;
    driver.capture(id(3), id(2), &[id(1)])?;
    assert_eq!(driver.snapshot(id(2), &[id(1)]).unwrap_err().kind(), Kind::Exists);
    assert_eq!(driver.snapshot(id(9), &[id(8)]).unwrap_err().kind(), Kind::NotFound);
    drop(driver);

    pool::close(&pool.spec)?;
    pool::close(&pool.spec)?;
    assert!(!pool::is_up(&pool.spec)?);
    let driver = pool.open()?;
    pool::create(&pool.spec)?;
    assert_eq!(driver.volumes()?, [id(1), id(2), id(3)]);
    let mount = mounted(&*driver, id(2))?;
    assert_eq!(fs::read(mount.path().join("a"))?, b"layer");
    let layer = mounted(&*driver, id(1))?;
    assert_eq!(fs::write(layer.path().join("a"), "x").unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert!(fs::write(mounted(&*driver, id(3))?.path().join("a"), "x").is_err());
    drop((mount, layer));
    driver.delete(id(2))?;
    driver.delete(id(2))?;
    driver.delete(id(3))?;
    assert_eq!(driver.volumes()?, [id(1)]);
    assert_eq!(driver.check()?, Vec::<String>::new());

    let before = driver.status()?;
    assert_eq!(before.health, Health::Ok);
    assert_eq!(driver.grow(Bytes::mib(256)).unwrap_err().kind(), Kind::Invalid);
    driver.grow(Bytes::mib(512))?;
    let after = driver.status()?;
    assert_eq!(after.data.total - before.data.total, Bytes::mib(256));
    drop(driver);

    let directory = pool.spec.directory.clone();
    pool::destroy(&pool.spec)?;
    pool::destroy(&pool.spec)?;
    assert_eq!(fs::read_dir(&directory)?.count(), 0);
    Ok(Completion::Completed)
}

fn refusals() -> Result<Completion, Failed> {
    let directory = tempfile::tempdir()?;
    let small = spec_in(directory.path(), Bytes::mib(100));
    let error = pool::create(&small).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    assert_eq!(fs::read_dir(directory.path())?.count(), 0, "a refused pool leaves nothing");

    let given = directory.path().join("given");
    fs::write(&given, [vec![0; 8 << 20], b"somebody's".to_vec()].concat())?;
    let mut taken = spec_in(&directory.path().join("pool"), Bytes::mib(256));
    taken.data = Some(given.clone());
    let error = pool::create(&taken).unwrap_err();
    assert_eq!(error.kind(), Kind::NotOurs, "{error}");
    assert_eq!(fs::metadata(&given)?.len(), (8 << 20) + 10);

    let pool = Pool::new(Bytes::mib(256))?;
    pool::close(&pool.spec)?;
    let other = PoolSpec { uuid: "00".repeat(16), ..pool.spec.clone() };
    assert_eq!(pool::open(&other).unwrap_err().kind(), Kind::NotOurs);
    let data = pool.spec.directory.join("data");
    let away = pool.spec.directory.join("away");
    fs::rename(&data, &away)?;
    assert_eq!(pool::open(&pool.spec).unwrap_err().kind(), Kind::NotFound);
    fs::write(&data, "no pool")?;
    assert_eq!(pool::open(&pool.spec).unwrap_err().kind(), Kind::Corrupt);
    fs::write(&data, vec![0; 1 << 20])?;
    assert_eq!(pool::open(&pool.spec).unwrap_err().kind(), Kind::NotOurs);
    fs::rename(&away, &data)?;
    File::options().write(true).open(&data)?.set_len(200 << 20)?;
    let error = pool::open(&pool.spec).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("209715200 of 268435456 bytes"), "{error}");
    assert!(lamina::block::LoopFile::find(&data)?.is_none(), "a refused file stays on no loop device");
    File::options().write(true).open(&data)?.set_len(256 << 20)?;
    pool.open()?;
    Ok(Completion::Completed)
}

fn usage() -> Result<Completion, Failed> {
    let pool = Pool::new(Bytes::gib(2))?;
    let driver = pool.open()?;
    driver.create(id(1))?;
    let base = mounted(&*driver, id(1))?;
    fs::write(base.path().join("big"), random(64 << 20))?;
    fs::create_dir(base.path().join("dir"))?;
    for number in 0..500 {
        fs::write(base.path().join(format!("dir/{number}")), random(100))?;
    }
    drop(base);
    driver.seal(id(1))?;
    let whole = driver.usage(id(1), &[])?.exclusive;
    assert!(whole >= Bytes::mib(64) && whole < Bytes::mib(65), "{whole}");

    driver.snapshot(id(2), &[id(1)])?;
    assert_eq!(driver.usage(id(2), &[id(1)])?.exclusive, Bytes::kib(16), "a fresh snapshot has its root node");
    let child = mounted(&*driver, id(2))?;
    let mut big = File::options().write(true).open(child.path().join("big"))?;
    big.seek(SeekFrom::Start(32 << 20))?;
    big.write_all(&random(4096))?;
    big.sync_all()?;
    let data = |usage: Bytes| usage.0 % (16 << 10);
    let one = driver.usage(id(2), &[id(1)])?.exclusive;
    assert!(data(one) == 4096 && one < Bytes::kib(200), "{one}");
    fs::remove_file(child.path().join("big"))?;
    fs::remove_dir_all(child.path().join("dir"))?;
    drop(big);
    let less = driver.usage(id(2), &[id(1)])?.exclusive;
    assert_eq!(data(less), 0, "{less}: what was deleted takes no data");

    // A capture has what its source wrote, and later siblings of the source change nothing.
    fs::write(child.path().join("new"), random(1 << 20))?;
    driver.snapshot(id(4), &[id(1)])?;
    driver.capture(id(3), id(2), &[id(1)])?;
    let captured = driver.usage(id(3), &[id(1)])?.exclusive;
    assert!(captured >= Bytes::mib(1) && captured < Bytes::kib(1024 + 200), "{captured}");
    driver.snapshot(id(5), &[id(3)])?;
    assert_eq!(driver.usage(id(5), &[id(3)])?.exclusive, Bytes::kib(16));
    drop(child);

    // btrfs-progs counts the same data, where it is installed.
    let path = path_of(&*driver, id(3))?;
    if let Ok(output) = Command::new("btrfs").args(["filesystem", "du", "--raw", "-s"]).arg(&path).output() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let total: u64 = text.lines().nth(1).and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        assert_eq!(
            total,
            captured.0 / 4096 * 4096 - captured.0 % (16 << 10) - (captured.0 - (1 << 20)) / (16 << 10) * (16 << 10),
            "{text}"
        );
    }
    Ok(Completion::Completed)
}

fn nested() -> Result<Completion, Failed> {
    let pool = Pool::new(Bytes::mib(256))?;
    let driver = pool.open()?;
    driver.create(id(1))?;
    let path = path_of(&*driver, id(1))?;
    let make = |name: &str| Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(path.join(name)).output();
    if make("a").is_err() {
        return Ok(Completion::ignored_with("needs btrfs-progs"));
    }
    fs::create_dir_all(path.join("a/deep/er"))?;
    for name in ["a/deep/er/b", "a/deep/er/b/c", "d"] {
        assert!(make(name)?.status.success());
    }
    fs::write(path.join("a/deep/er/b/c/file"), random(100_000))?;
    // What a container can do to be in the way.
    for name in ["a", "a/deep/er/b"] {
        let set = Command::new("btrfs").args(["property", "set"]).arg(path.join(name)).args(["ro", "true"]).output()?;
        assert!(set.status.success());
    }
    std::os::unix::fs::symlink("a", path.join("link"))?;
    driver.seal(id(1))?;
    driver.snapshot(id(2), &[id(1)])?;
    assert_eq!(driver.volumes()?, [id(1), id(2)], "nested subvolumes are no volumes");
    driver.delete(id(1))?;
    driver.delete(id(2))?;
    assert_eq!(driver.volumes()?, []);
    let list = Command::new("btrfs").args(["subvolume", "list"]).arg(pool.spec.directory.join("mnt")).output()?;
    assert_eq!(String::from_utf8_lossy(&list.stdout), "");
    Ok(Completion::Completed)
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
    let mut last = 3;
    let error = loop {
        match driver.snapshot(id(last), &[id(1)]) {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
        if last > 200 {
            break lamina::Error::new(Kind::Full, "never full for snapshots");
        }
    };
    assert_eq!(error.kind(), Kind::Full, "{error}");
    driver.delete(id(2))?;
    assert_eq!(driver.status()?.health, Health::Ok, "{:?}", driver.status()?);
    driver.snapshot(id(1000), &[id(1)])?;
    let mount = mounted(&*driver, id(1000))?;
    assert_eq!(fs::read(mount.path().join("layer"))?, b"whole");
    let again = fill(&mount.path().join("fill"))?;
    assert!(again + 16 > fitted, "{again} of {fitted} MiB came back");
    driver.grow(Bytes::mib(512))?;
    assert_eq!(driver.status()?.health, Health::Ok, "{:?}", driver.status()?);
    fs::write(mount.path().join("more"), random(32 << 20))?;
    Ok(Completion::Completed)
}

/// A small ext4 on a loop device, mounted; gone with the value.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn new(size: u64) -> Result<Self, Failed> {
        let directory = tempfile::Builder::new().prefix("lamina-test-disk-").tempdir()?;
        let file = directory.path().join("disk");
        File::create(&file)?.set_len(size)?;
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0", "-b", "4096"]).arg(&file).status()?;
        assert!(made.success());
        let mount = directory.path().join("mnt");
        fs::create_dir(&mount)?;
        let disk = Self { directory };
        let attached = lamina::block::LoopFile::attach(&file)?;
        let spec = MountSpec::Device {
            device: attached.device().to_owned(),
            fs: BlockFs::Ext4,
            options: Vec::new(),
            access: Access::ReadWrite,
        };
        Mounted::detached(&spec)?.attach(&mount)?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = lamina::fs::unmount(&self.path());
        let file = self.directory.path().join("disk");
        let detached =
            lamina::block::LoopFile::find(&file).and_then(|found| found.map_or(Ok(()), |disk| disk.detach()));
        if let Err(error) = detached {
            eprintln!("let go of {}: {error}", file.display());
        }
    }
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
    assert_eq!(driver.status()?.health, Health::ReadOnly);
    assert!(driver.snapshot(id(3), &[id(1)]).is_err());
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

fn check() -> Result<Completion, Failed> {
    let pool = Pool::new(Bytes::mib(256))?;
    let driver = pool.open()?;
    driver.create(id(1))?;
    let volumes = path_of(&*driver, id(1))?.parent().ok_or("no parent")?.to_owned();
    assert_eq!(driver.check()?, Vec::<String>::new());
    fs::create_dir(volumes.join("7"))?;
    assert_eq!(driver.volumes()?, [id(1)], "a plain directory is no volume");
    let findings = driver.check()?;
    assert!(findings.len() == 1 && findings[0].contains("holds 7"), "{findings:?}");
    assert_ne!(fs::metadata(volumes.join("1"))?.dev(), fs::metadata(&volumes)?.dev());
    fs::remove_dir(volumes.join("7"))?;
    Ok(Completion::Completed)
}
