//! Archives that try to break out, or are damaged.

use std::fs;

use libtest_mimic::{Completion, Failed};

use super::{listing::listing, tarball::Tarball, unpack};

type Build = fn(Tarball) -> Tarball;

/// What is refused, and what the error says.
const REFUSED: &[(&str, Build)] = &[
    ("absolute", |t| t.file("/tmp/x", "")),
    ("'..'", |t| t.file("../canary/x", "")),
    ("'..'", |t| t.dir("a").file("a/../../canary/x", "")),
    ("target contains '..'", |t| t.hard_link("x", "../canary/secret")),
    ("target is absolute", |t| t.hard_link("x", "/etc/passwd")),
    ("\"missing\"", |t| t.hard_link("x", "missing")),
    ("whiteout of '.' or '..'", |t| t.file(".wh...", "")),
    ("whiteout of '.' or '..'", |t| t.dir("a").file("a/.wh..", "")),
    ("whiteout of nothing", |t| t.file(".wh.", "")),
    ("overlayfs' own mark", |t| t.raw(b'3', b"dev", b"", b"")),
    ("trusted.overlay.opaque", |t| t.pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]).dir("a")),
    ("type 'Z' is unknown", |t| t.raw(b'Z', b"x", b"", b"")),
    ("zero byte", |t| t.pax(&[("path", b"a\0b")]).file("x", "")),
    ("cannot be", |t| t.pax(&[("size", b"-1")]).file("x", "")),
    ("out of range", |t| t.pax(&[("uid", b"4294967295")]).file("x", "")),
    ("two extended headers", |t| t.pax(&[("uid", b"1")]).pax(&[("uid", b"2")]).file("x", "")),
    ("at most 1048576 are accepted", |t| t.pax(&[("comment", &[b'a'; 1 << 20])]).file("x", "")),
    ("root can only be a directory", |t| t.file("./", "x").raw(b'2', b".", b"x", b"")),
    ("loop", |t| t.symlink("a", "b").symlink("b", "a").file("a/x", "")),
    ("no directory", |t| t.file("a", "").file("a/x", "")),
    ("overlap", |t| {
        let map = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
        t.pax(&map).raw(b'0', b"x", b"", &[&b"2\n4\n1\n0\n1\n"[..], &[0; 503]].concat())
    }),
    ("cut off", |t| t.pax(&[("size", b"9223372036854775807")]).file("x", "y")),
    ("size", |t| t.pax(&[("size", b"18446744073709551615")]).file("x", "y")),
];

struct Place {
    base: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("root")).unwrap();
        fs::create_dir(base.path().join("canary")).unwrap();
        fs::write(base.path().join("canary/secret"), "untouched").unwrap();
        Self { base }
    }

    fn root(&self) -> std::path::PathBuf {
        self.base.path().join("root")
    }

    fn canary(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        listing(&self.base.path().join("canary"))
    }
}

pub fn refused() -> Result<Completion, Failed> {
    for (reason, build) in REFUSED {
        let place = Place::new();
        let before = place.canary();
        let error = unpack(&place.root(), &build(Tarball::default()).end()[..]).expect_err(reason).to_string();
        assert!(error.contains(reason), "'{error}' does not tell '{reason}'");
        assert!(error.starts_with("entry \"") || error.contains("at byte"), "{error}");
        assert_eq!(before, place.canary(), "{reason}");
    }
    let garbage = vec![b'g'; 4096];
    for (input, reason) in [(&garbage[..], "is not a tar archive"), (b"", "empty"), (b"short", "is not a tar archive")]
    {
        let error = unpack(&Place::new().root(), input).unwrap_err();
        assert!(error.to_string().contains(reason) && error.kind() == lamina::Kind::Invalid, "{error:?}");
    }
    Ok(Completion::Completed)
}

/// A lower layer plants links of every sort; the upper one writes, links, deletes and hides through them.
pub fn earlier_symlinks() -> Result<Completion, Failed> {
    let place = Place::new();
    let (root, before) = (place.root(), place.canary());
    let outside = place.base.path().join("canary");
    let outside = outside.to_str().unwrap();
    // The link goes through PAX, because the path may be long.
    let lower = Tarball::default().symlink("up", "../../../../../../../../canary").symlink("rel", "../canary");
    let lower = lower.pax(&[("linkpath", outside.as_bytes())]).symlink("abs", "").symlink("proc", "/proc/self/root");
    unpack(&root, &lower.end()[..]).unwrap();
    for link in ["up", "rel", "abs", "proc"] {
        for upper in [
            Tarball::default().file(&format!("{link}/planted"), "evil"),
            Tarball::default().dir(&format!("{link}/planted/")),
            Tarball::default().file(&format!("{link}/.wh.secret"), ""),
            Tarball::default().file(&format!("{link}/.wh..wh..opq"), ""),
            Tarball::default().hard_link("got", &format!("{link}/secret")),
            Tarball::default().file("new", "").hard_link(&format!("{link}/planted"), "new"),
        ] {
            // Some fail because the link leads to nothing inside; none may reach what is outside.
            let _ = unpack(&root, &upper.end()[..]);
            assert_eq!(before, place.canary(), "{link}");
            assert!(!root.join("got").exists(), "{link}");
        }
    }
    // A link that leads to something inside is followed, as inside a container.
    let inside = Tarball::default().dir("canary").file("rel/made", "x").file("up/also", "y");
    unpack(&root, &inside.end()[..]).unwrap();
    assert!(root.join("canary/made").exists() && root.join("canary/also").exists());
    // The last component is never followed: the link itself is replaced.
    unpack(&root, &Tarball::default().file("abs", "plain").dir("rel").end()[..]).unwrap();
    assert_eq!(fs::read(root.join("abs")).unwrap(), b"plain");
    assert!(fs::symlink_metadata(root.join("rel")).unwrap().is_dir());
    assert_eq!(before, place.canary());
    Ok(Completion::Completed)
}

/// Cut inside a member: told by `unpack`. Cut between members: told by `verify`, with and without a digest.
pub fn cut_anywhere() -> Result<Completion, Failed> {
    let whole =
        Tarball::default().dir("d").pax(&[("mtime", b"1.5")]).file("d/f", &"x".repeat(1500)).file("g", "y").end();
    let fresh = || Place::new();
    let good = unpack(&fresh().root(), &whole[..]).unwrap();
    good.verify(None).unwrap();
    good.verify(Some(good.diff_id)).unwrap();
    let end = whole.len() - 1024;
    for cut in (1..end).filter(|cut| cut % 512 < 3) {
        match unpack(&fresh().root(), &whole[..cut]) {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("cut off at byte") || cut < 512 && text.contains("not a tar"), "{cut}: {text}");
            }
            Ok(cut_off) => {
                assert!(cut_off.verify(None).unwrap_err().to_string().contains("end marker"), "{cut}");
                assert!(cut_off.verify(Some(good.diff_id)).unwrap_err().to_string().contains("digest"), "{cut}");
            }
        }
    }
    // Without its end marker, with half of it, and with more padding, the tree is the same and the digest is not.
    for length in [end, end + 512, whole.len()] {
        let unpacked = unpack(&fresh().root(), &whole[..length]).unwrap();
        assert_eq!((unpacked.entries, unpacked.end_marker), (3, length > end), "{length}");
    }
    let padded = [&whole[..], &[0; 9000]].concat();
    assert_ne!(unpack(&fresh().root(), &padded[..]).unwrap().diff_id, good.diff_id);
    let mut damaged = whole.clone();
    damaged[512 + 9] ^= 1;
    let error = unpack(&fresh().root(), &damaged[..]).unwrap_err();
    assert!(error.kind() == lamina::Kind::Corrupt && error.to_string().contains("checksum"), "{error}");
    Ok(Completion::Completed)
}
