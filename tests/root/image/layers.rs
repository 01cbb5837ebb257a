//! Layers of every content: applied, packed, measured.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read,
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
    process::Command,
};

use lamina::image::pack::pack;
use libtest_mimic::{Completion, Failed};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::{
    listing::{changes, listing},
    tarball::Tarball,
    unpack,
};

/// The same layer with its whiteouts first, last and in between.
pub fn whiteouts() -> Result<Completion, Failed> {
    let lower = Tarball::default().dir("d").file("d/old", "1").dir("d/sub").file("d/sub/old", "2").dir("e");
    let lower = lower.file("e/old", "3").file("f", "4").dir("g").file("g/old", "5").end();
    type Step = fn(Tarball) -> Tarball;
    let steps: [Step; 5] = [
        |t| t.file("d/.wh..wh..opq", ""),
        |t| t.dir("d").file("d/new", "6"),
        |t| t.file("d/sub/new", "7"),
        |t| t.file(".wh.f", "").file("e/.wh.missing", "").file("none/.wh.x", ""),
        |t| t.file(".wh.g", "").dir("g").file("g/new", "8"),
    ];
    let orders = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 0, 2, 4, 3], [2, 1, 0, 3, 4], [1, 2, 3, 4, 0]];
    let mut seen = Vec::new();
    for order in orders {
        let root = tempfile::tempdir().unwrap();
        unpack(root.path(), &lower[..]).unwrap();
        let upper = order.iter().fold(Tarball::default(), |tar, step| steps[*step](tar));
        unpack(root.path(), &upper.end()[..]).unwrap();
        let names: Vec<String> =
            listing(root.path()).into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["d", "d/new", "d/sub", "d/sub/new", "e", "e/old", "g", "g/new"], "{order:?}");
        seen.push(fs::metadata(root.path().join("e")).unwrap().mtime());
    }
    // A directory whose content changed keeps its time.
    assert_eq!(seen, [1_000_000; 5]);
    Ok(Completion::Completed)
}

/// Trees deeper than a process has descriptors make way, to a whiteout and to another thing of their name.
pub fn deep_trees() -> Result<Completion, Failed> {
    let deep = |top: &str| format!("{top}{}", "/d".repeat(900));
    let root = tempfile::tempdir().unwrap();
    let lower = ["gone", "replaced"]
        .iter()
        .fold(Tarball::default(), |tar, top| tar.pax(&[("path", deep(top).as_bytes())]).dir("x"));
    unpack(root.path(), &lower.end()[..]).unwrap();
    assert!(root.path().join(deep("gone")).is_dir());
    unpack(root.path(), &Tarball::default().file(".wh.gone", "").file("replaced", "a file").end()[..]).unwrap();
    assert_eq!(fs::read(root.path().join("replaced")).unwrap(), b"a file");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    Ok(Completion::Completed)
}

/// Owner, setuid, nanoseconds, times before 1970, attributes with newlines, capabilities, long and non-UTF-8 names.
pub fn metadata() -> Result<Completion, Failed> {
    let capability = [1, 0, 0, 2, b'\n', 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = ["n".repeat(200), "m".repeat(200)].join("/");
    let tar = Tarball::default()
        .pax(&[("mtime", b"-1.25"), ("uid", b"3000000"), ("SCHILY.xattr.user.a", b"\n1 x=y\n\xff")])
        .file("f", "1")
        .pax(&[("mtime", b"1700000000.123456789"), ("SCHILY.xattr.security.capability", &capability), ("gid", b"7")])
        .file("cap", "2")
        .pax(&[("path", long.as_bytes())])
        .file("x", "3")
        .raw(b'6', b"fifo\xff", b"", b"")
        .symlink("link", "/nowhere")
        .hard_link("same", "f")
        .hard_link("samelink", "link");
    let root = tempfile::tempdir().unwrap();
    let unpacked = unpack(root.path(), &tar.end()[..]).unwrap();
    assert_eq!((unpacked.size.0, unpacked.entries), (3, 7));
    let stat = |name: &str| fs::symlink_metadata(root.path().join(name)).unwrap();
    assert_eq!((stat("f").mtime(), stat("f").mtime_nsec(), stat("f").uid()), (-2, 750_000_000, 3_000_000));
    assert_eq!((stat("cap").mtime_nsec(), stat("cap").gid()), (123_456_789, 7));
    assert_eq!((stat("f").ino(), stat("link").ino()), (stat("same").ino(), stat("samelink").ino()));
    assert_eq!(fs::read(root.path().join(&long)).unwrap(), b"3");
    assert_eq!(stat(&"n".repeat(200)).mode(), 0o40755);
    assert!(fs::symlink_metadata(root.path().join(OsStr::from_bytes(b"fifo\xff"))).is_ok());
    let mut value = [0u8; 64];
    let length = rustix::fs::getxattr(root.path().join("f"), "user.a", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"\n1 x=y\n\xff");
    let length = rustix::fs::getxattr(root.path().join("cap"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..length], &capability[..]);
    Ok(Completion::Completed)
}

/// More levels than a process has descriptors.
pub fn deep_whiteouts() -> Result<Completion, Failed> {
    let mut lower = Tarball::default();
    for level in 1..=1_300 {
        lower = lower.pax(&[("path", "d/".repeat(level).as_bytes())]).dir("x");
    }
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &lower.end()[..]).unwrap();
    // Of this layer, half-way down; above it the whiteout spares the directories that lead there.
    let kept = format!("{}kept", "d/".repeat(700));
    let upper = Tarball::default().pax(&[("path", kept.as_bytes())]).file("x", "kept").file(".wh.d", "");
    unpack(root.path(), &upper.end()[..]).unwrap();
    assert_eq!(fs::read(root.path().join(&kept)).unwrap(), b"kept");
    assert!(!root.path().join("d/".repeat(701)).exists());
    unpack(root.path(), &Tarball::default().file(".wh.d", "").end()[..]).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    Ok(Completion::Completed)
}

/// GNU tar's four ways to store holes.
pub fn sparse() -> Result<Completion, Failed> {
    let base = tempfile::tempdir().unwrap();
    let source = base.path().join("s");
    let file = File::create(&source).unwrap();
    for place in 0..9u64 {
        rustix::io::pwrite(&file, &[7; 5000], place * (3 << 20)).unwrap();
    }
    file.set_len(64 << 20).unwrap();
    for format in
        [&["--format=gnu"][..], &["--sparse-version=0.0"], &["--sparse-version=0.1"], &["--sparse-version=1.0"]]
    {
        let tar =
            Command::new("tar").arg("-C").arg(base.path()).args(["-S", "-cf", "-"]).args(format).arg("s").output();
        let tar = tar.unwrap();
        assert!(tar.status.success() && tar.stdout.len() < 1 << 20, "{format:?}");
        let root = tempfile::tempdir().unwrap();
        let unpacked = unpack(root.path(), &tar.stdout[..]).unwrap();
        let stat = fs::metadata(root.path().join("s")).unwrap();
        assert_eq!((stat.size(), unpacked.size.0), (64 << 20, 64 << 20), "{format:?}");
        assert!(stat.blocks() * 512 < 1 << 20, "{format:?}: {} blocks", stat.blocks());
        assert!(fs::read(root.path().join("s")).unwrap() == fs::read(&source).unwrap(), "{format:?}");
    }
    Ok(Completion::Completed)
}

/// Two random trees, the second grown from a copy of the first; the change packed, and unpacked on another copy.
pub fn round_trip() -> Result<Completion, Failed> {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let base = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| base.path().join(name));
        fs::create_dir(&a).unwrap();
        (0..40).for_each(|_| mutate(&mut random, &a));
        copy(&a, &b);
        copy(&a, &c);
        (0..25).for_each(|_| mutate(&mut random, &b));
        let changes = changes(&a, &b);
        let root = File::open(&b).unwrap();
        let mut tar = Vec::new();
        let packed = pack(root.as_fd(), &changes, &mut tar).unwrap();
        let unpacked = unpack(&c, &tar[..]).unwrap();
        assert_eq!((packed.diff_id, packed.size), (unpacked.diff_id, unpacked.size), "seed {seed}");
        let (want, got) = (listing(&b), listing(&c));
        let wrong = want.iter().find(|(path, text)| got.get(*path) != Some(*text));
        assert!(wrong.is_none(), "seed {seed}: {wrong:?}, got {:?}", wrong.map(|(path, _)| got.get(path)));
        assert_eq!(want.len(), got.len(), "seed {seed}");
        let mut again = Vec::new();
        pack(root.as_fd(), &changes, &mut again).unwrap();
        assert!(tar == again, "seed {seed}: not deterministic");
    }
    Ok(Completion::Completed)
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// One random step. Names are few, so that things replace each other.
fn mutate(random: &mut StdRng, root: &Path) {
    let names: [&[u8]; 5] = [b"a", b"b", b"\xffc", b"d e", &[b'l'; 120]];
    let depth = random.random_range(1..4);
    let mut path = root.to_path_buf();
    for level in 0..depth {
        path.push(OsStr::from_bytes(names[random.random_range(0..names.len())]));
        if level + 1 < depth && !path.is_dir() {
            remove(&path);
            fs::create_dir(&path).unwrap();
        }
        if level + 1 < depth && path.is_symlink() {
            return;
        }
    }
    let keep = random.random_range(0..4) == 0;
    if !keep || !path.exists() {
        remove(&path);
        match random.random_range(0..7) {
            0 => fs::create_dir(&path).unwrap(),
            1 => std::os::unix::fs::symlink("x".repeat(random.random_range(1..150)), &path).unwrap(),
            2 => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            3 => rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, 0x10_0105).unwrap(),
            4 => return,
            _ => fs::write(&path, vec![random.random(); random.random_range(0..3000)]).unwrap(),
        }
    }
    let big = random.random_range(0..5) == 0;
    let owner = if big { 3_000_000 } else { random.random_range(0..3) };
    std::os::unix::fs::lchown(&path, Some(owner), Some(random.random_range(0..3))).unwrap();
    if !path.is_symlink() {
        rustix::fs::chmod(&path, Mode::from_raw_mode(random.random_range(0..0o10000))).unwrap();
        let xattr: [u8; 3] = random.random();
        match random.random_range(0..3) {
            // It may have none.
            0 => drop(rustix::fs::lremovexattr(&path, "trusted.x")),
            _ => rustix::fs::lsetxattr(&path, "trusted.x", &xattr, XattrFlags::empty()).unwrap(),
        }
    }
    let seconds = if big { -5 } else { random.random_range(0..1 << 34) };
    let time = Timespec { tv_sec: seconds, tv_nsec: random.random_range(0..3) * 333_333_330 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// 2,000 directories and 2 GiB of data (of a whiteout, so that no disk is filled) go through; in a process of its
/// own, because peak memory is counted by process.
pub fn memory() -> Result<Completion, Failed> {
    const SIZE: u64 = 2 << 30;
    const CHILD: &str = "LAMINA_TEST_MEMORY";
    if std::env::var_os(CHILD).is_none() {
        let case = ["--exact", "image::memory_stays_small_for_a_large_layer"];
        let child = Command::new(std::env::current_exe()?).args(case).env(CHILD, "1").output()?;
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return Ok(Completion::Completed);
    }
    let root = tempfile::tempdir().unwrap();
    let before = resident();
    let mut header = tar::Header::new_gnu();
    header.set_path(".wh.big").unwrap();
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(SIZE);
    header.set_cksum();
    let many = (0..2_000).fold(Tarball::default(), |tar, n| tar.dir(&format!("d{n}"))).0;
    let stream = many.chain(&header.as_bytes()[..]).chain(Ones.take(SIZE)).chain(std::io::repeat(0).take(1024));
    let unpacked = unpack(root.path(), stream).unwrap();
    assert_eq!(unpacked.entries, 2_001);
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 10, "unpacking took {grown} KiB");
    Ok(Completion::Completed)
}

/// `io::repeat` fills byte by byte in an unoptimised build.
struct Ones;

impl Read for Ones {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(1);
        Ok(buffer.len())
    }
}

/// The most memory that this process has had, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
