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
        as_root("btrfs::check_tells_of_strangers", check),
    ]
}

/// A pool in a directory of its own; both go with it.
pub(crate) struct Pool {
    pub(crate) spec: PoolSpec,
    pub(crate) _directory: Option<TempDir>,
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

pub(crate) fn spec_in(directory: &Path, size: Bytes) -> PoolSpec {
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

pub(crate) fn random(length: usize) -> Vec<u8> {
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
    driver.capture(id(3), id(2), Access::ReadOnly)?;
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
    // A fifth of so small a device is metadata's in the end.
    let grown = after.data.total - before.data.total;
    assert!(grown > Bytes::mib(200) && grown <= Bytes::mib(256), "{grown}");
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
    driver.capture(id(3), id(2), Access::ReadOnly)?;
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
        assert_eq!(total, 1 << 20, "{text}");
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
