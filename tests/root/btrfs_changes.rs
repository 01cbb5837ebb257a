//! The native diff of btrfs against a comparison of the whole trees, after random work.
//!
//! Each round is told by its seed: a failure prints it, and `LAMINA_SEED=n` runs that round alone. `LAMINA_ROUNDS`
//! says how many to run.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use lamina::{
    driver::{Access, Changes, Driver},
    fs::{Mounted, Verdict, compare},
    id::VolumeId,
    units::Bytes,
};
use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::stat::{Mode, SFlag, mknod};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, XattrFlags};

use crate::{
    as_root,
    btrfs::{Pool, id, mounted},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("btrfs::changes_are_those_of_a_full_comparison", random_work),
        as_root("btrfs::changes_see_each_name_of_a_file", hard_links),
        as_root("btrfs::a_subvolume_inside_is_an_added_directory", subvolume_inside),
    ]
}

fn whole(driver: &dyn Driver, parent: VolumeId, child: VolumeId) -> Result<Changes, Failed> {
    let open = |volume| Mounted::detached(&driver.mounts(volume, &[], Access::ReadOnly)?);
    let (parent, child) = (open(parent)?, open(child)?);
    Ok(compare(Some(parent.root()), child.root(), &mut |_| Ok(Verdict::Unknown))?)
}

fn random_work() -> Result<Completion, Failed> {
    let pool = Pool::new(Bytes::gib(1))?;
    let driver = pool.open()?;
    let seeds = match env::var("LAMINA_SEED") {
        Ok(seed) => vec![seed.parse()?],
        Err(_) => (0..env::var("LAMINA_ROUNDS").map_or(Ok(150), |rounds| rounds.parse())?).collect::<Vec<u64>>(),
    };
    let mut differences = 0;
    for seed in seeds {
        differences +=
            round(&*driver, seed).map_err(|error| format!("LAMINA_SEED={seed}: {}", error.message().unwrap_or("")))?;
    }
    assert!(differences > 0, "the rounds must change something");
    Ok(Completion::Completed)
}

fn round(driver: &dyn Driver, seed: u64) -> Result<usize, Failed> {
    let (base, work, frozen, next, last) = (id(1), id(2), id(3), id(4), id(5));
    let mut rng = StdRng::seed_from_u64(seed);
    driver.create(base)?;
    let layer = mounted(driver, base)?;
    for _ in 0..rng.random_range(5..60) {
        act(&layer.path(), &mut rng)?;
    }
    drop(layer);
    driver.seal(base)?;
    driver.snapshot(work, &[base])?;
    let container = mounted(driver, work)?;
    for _ in 0..rng.random_range(0..30) {
        act(&container.path(), &mut rng)?;
    }
    driver.capture(frozen, work, Access::ReadOnly)?;
    let found = expect_equal(driver, base, frozen)?;
    // A container on the captured layer, and the first one working on meanwhile.
    driver.snapshot(next, &[frozen, base])?;
    let above = mounted(driver, next)?;
    for _ in 0..rng.random_range(0..20) {
        act(&above.path(), &mut rng)?;
        act(&container.path(), &mut rng)?;
    }
    drop(above);
    driver.seal(next)?;
    driver.capture(last, work, Access::ReadOnly)?;
    drop(container);
    let more = expect_equal(driver, frozen, next)? + expect_equal(driver, base, last)?;
    for volume in [last, next, frozen, work, base] {
        driver.delete(volume)?;
    }
    Ok(found + more)
}

fn expect_equal(driver: &dyn Driver, parent: VolumeId, child: VolumeId) -> Result<usize, Failed> {
    let native = driver.changes(child, &[parent])?;
    let compared = whole(driver, parent, child)?;
    if native == compared {
        return Ok(native.len());
    }
    let missing: Vec<_> = compared.iter().filter(|change| !native.contains(change)).collect();
    let surplus: Vec<_> = native.iter().filter(|change| !compared.contains(change)).collect();
    Err(format!("volume {child} of {parent}: missing {missing:?}, too much {surplus:?}").into())
}

fn walk(root: &Path, all: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(root)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let dir = path.symlink_metadata()?.is_dir();
        all.push(path.clone());
        if dir {
            walk(&path, all)?;
        }
    }
    Ok(())
}

/// One random step. What the kernel refuses (a directory into itself, a busy name) is no step.
fn act(root: &Path, rng: &mut StdRng) -> Result<(), Failed> {
    let mut all = Vec::new();
    walk(root, &mut all)?;
    let dirs: Vec<PathBuf> = all
        .iter()
        .filter(|path| path.symlink_metadata().is_ok_and(|m| m.is_dir()))
        .cloned()
        .chain([root.to_owned()])
        .collect();
    let files: Vec<PathBuf> =
        all.iter().filter(|path| path.symlink_metadata().is_ok_and(|m| m.is_file())).cloned().collect();
    let pick = |from: &[PathBuf], rng: &mut StdRng| from.get(rng.random_range(0..from.len().max(1))).cloned();
    let name = |rng: &mut StdRng| format!("n{}", rng.random_range(0..8));
    let new = pick(&dirs, rng).unwrap_or_else(|| root.to_owned()).join(name(rng));
    let refused = match rng.random_range(0..19) {
        0 | 1 => write_new(&new, rng),
        2 | 3 => fs::create_dir(&new),
        4 => symlink(name(rng), &new),
        5 => special(&new, rng),
        6 => with(pick(&files, rng), |path| fs::hard_link(path, &new)),
        7 => with(pick(&all, rng), |path| fs::rename(path, &new)),
        8 => match (pick(&all, rng), pick(&all, rng)) {
            (Some(one), Some(other)) => {
                rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).map_err(Into::into)
            }
            _ => Ok(()),
        },
        9 => with(pick(&all, rng), |path| fs::remove_file(path)),
        10 => with(pick(&all, rng), |path| fs::remove_dir_all(path)),
        11 => with(pick(&files, rng), |path| quietly(path, |file| file.write_all_at(b"changed", 0))),
        12 => with(pick(&files, rng), |path| {
            // The same bytes again: another extent, no other content.
            let bytes = fs::read(path)?;
            quietly(path, |file| file.write_all_at(&bytes, 0))
        }),
        13 => with(pick(&files, rng), |path| fs::OpenOptions::new().append(true).open(path)?.write_all(&[3; 5000])),
        14 => with(pick(&files, rng), |path| {
            let length = [0, 10, 5000, 300_000][rng.random_range(0..4)];
            fs::OpenOptions::new().write(true).open(path)?.set_len(length)
        }),
        15 => with(pick(&all, rng), |path| {
            if path.is_symlink() {
                Ok(())
            } else {
                fs::set_permissions(path, fs::Permissions::from_mode(0o4640 | rng.random_range(0..8)))
            }
        }),
        16 => with(pick(&all, rng), |path| xattr(path, rng)),
        17 => with(pick(&all, rng), |path| std::os::unix::fs::lchown(path, Some(rng.random_range(0..3)), None)),
        // A directory becomes a file, and the other way round.
        _ => with(pick(&all, rng), |path| {
            if path.symlink_metadata()?.is_dir() {
                fs::remove_dir_all(path)?;
                write_new(path, rng)
            } else {
                fs::remove_file(path)?;
                fs::create_dir(path)?;
                write_new(&path.join("inside"), rng)
            }
        }),
    };
    permit(refused)
}

fn permit(refused: io::Result<()>) -> Result<(), Failed> {
    match refused.map_err(|error| error.raw_os_error()) {
        Ok(()) => Ok(()),
        Err(Some(
            libc::EEXIST
            | libc::ENOTDIR
            | libc::EISDIR
            | libc::EINVAL
            | libc::ENOTEMPTY
            | libc::ENOENT
            | libc::ENODATA
            | libc::EPERM
            | libc::ENXIO
            | libc::ELOOP,
        )) => Ok(()),
        Err(errno) => Err(format!("unexpected errno {errno:?}").into()),
    }
}

fn with(path: Option<PathBuf>, work: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    path.map_or(Ok(()), |path| work(&path))
}

fn write_new(path: &Path, rng: &mut StdRng) -> io::Result<()> {
    // Within the inode, a block, many blocks.
    let length = [0, 1, 100, 4096, 20_000, 200_000][rng.random_range(0..6)];
    let byte: u8 = rng.random_range(1..4);
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Ok(());
    }
    fs::write(path, vec![byte; length])
}

/// Writes and puts the times back, as `touch -r` or an unpacker does.
fn quietly(path: &Path, write: impl FnOnce(&fs::File) -> io::Result<()>) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let before = file.metadata()?;
    write(&file)?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(before.atime(), before.atime_nsec()),
        last_modification: time(before.mtime(), before.mtime_nsec()),
    };
    rustix::fs::futimens(&file, &times)?;
    if before.mtime() % 2 == 0 { Ok(()) } else { file.sync_all() }
}

fn special(path: &Path, rng: &mut StdRng) -> io::Result<()> {
    let kind = [SFlag::S_IFIFO, SFlag::S_IFCHR, SFlag::S_IFBLK, SFlag::S_IFSOCK][rng.random_range(0..4)];
    mknod(path, kind, Mode::from_bits_truncate(0o600), nix::sys::stat::makedev(7, rng.random_range(0..3)))?;
    Ok(())
}

fn xattr(path: &Path, rng: &mut StdRng) -> io::Result<()> {
    let name = ["trusted.a", "trusted.b"][rng.random_range(0..2)];
    if rng.random_range(0..3) == 0 {
        rustix::fs::lremovexattr(path, name)?;
    } else {
        rustix::fs::lsetxattr(path, name, &[rng.random_range(0..3)], XattrFlags::empty())?;
    }
    Ok(())
}

fn hard_links() -> Result<Completion, Failed> {
    let pool = Pool::new(Bytes::mib(256))?;
    let driver = pool.open()?;
    driver.create(id(1))?;
    let layer = mounted(&*driver, id(1))?.path().to_owned();
    let mount = mounted(&*driver, id(1))?;
    let root = mount.path();
    drop(layer);
    fs::create_dir(root.join("moves"))?;
    fs::create_dir(root.join("stays"))?;
    fs::write(root.join("moves/first"), "content")?;
    fs::write(root.join("bystander"), "content")?;
    // More names than fit into one answer of BTRFS_IOC_INO_PATHS, and long ones, in many items.
    for number in 0..300 {
        fs::hard_link(root.join("moves/first"), root.join(format!("stays/{number}-{}", "x".repeat(200))))?;
    }
    driver.seal(id(1))?;
    driver.snapshot(id(2), &[id(1)])?;
    let mount = mounted(&*driver, id(2))?;
    fs::rename(mount.path().join("moves"), mount.path().join("moved"))?;
    quietly(&mount.path().join("moved/first"), |file| file.write_all_at(b"C", 0))?;
    driver.capture(id(3), id(2), Access::ReadOnly)?;
    assert_eq!(expect_equal(&*driver, id(1), id(3))?, 300 + 1 + 3);

    // A file as deep as no single path can name.
    let mut names = Vec::new();
    driver.snapshot(id(4), &[id(1)])?;
    let mount = mounted(&*driver, id(4))?;
    let mut dir = rustix::fs::open(mount.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    for _ in 0..30 {
        let name = "d".repeat(200);
        rustix::fs::mkdirat(&dir, &name, rustix::fs::Mode::RWXU)?;
        dir = rustix::fs::openat(&dir, &name, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
        names.push(name);
    }
    rustix::fs::linkat(CWD, mount.path().join("bystander"), &dir, "deep", AtFlags::empty())?;
    driver.capture(id(5), id(4), Access::ReadOnly)?;
    drop((dir, mount));
    // The kernel itself cannot send a path above PATH_MAX.
    assert_eq!(driver.changes(id(5), &[id(1)])?, whole(&*driver, id(1), id(5))?);
    Ok(Completion::Completed)
}

fn subvolume_inside() -> Result<Completion, Failed> {
    let pool = Pool::new(Bytes::mib(256))?;
    let driver = pool.open()?;
    driver.create(id(1))?;
    driver.seal(id(1))?;
    driver.snapshot(id(2), &[id(1)])?;
    let mount = mounted(&*driver, id(2))?;
    fs::create_dir(mount.path().join("dir"))?;
    lamina::sys::btrfs::create_subvolume(fs::File::open(mount.path())?, c"inside")?;
    lamina::sys::btrfs::create_subvolume(fs::File::open(mount.path().join("dir"))?, c"deeper")?;
    driver.capture(id(3), id(2), Access::ReadOnly)?;
    assert_eq!(expect_equal(&*driver, id(1), id(3))?, 3);
    Ok(Completion::Completed)
}
