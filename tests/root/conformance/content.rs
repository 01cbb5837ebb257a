//! What can lie in a tree reaches the child exactly, and a copy, a capture and a diff know it.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink},
        },
    },
    path::Path,
};

use lamina::{driver::DriverKind, fs::locate};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::tree::{chain, fingerprint, inode, set_mtime, set_xattr, shown, write_at};
use crate::{
    expect, expect_eq,
    pool::{Outcome, Pool, Volume},
};

/// A layer made by `make`; its child, and a capture of the child, hold the same.
fn inherited(pool: &Pool, make: impl FnOnce(&Path) -> Outcome) -> Outcome<Volume> {
    let base = pool.layer(None, make)?;
    let child = pool.active(Some(&base))?;
    let before = pool.read(&base, fingerprint)?;
    expect_eq!(pool.read(&child, fingerprint)?, before);
    let captured = pool.capture(&child)?;
    expect_eq!(pool.read(&captured, fingerprint)?, before);
    expect_eq!(pool.changes(&captured)?, []);
    Ok(base)
}

pub fn hard_links(pool: &mut Pool) -> Outcome {
    let base = inherited(pool, |root| {
        fs::create_dir(root.join("dir"))?;
        fs::write(root.join("a"), "linked")?;
        fs::hard_link(root.join("a"), root.join("dir/b"))?;
        symlink("x", root.join("s"))?;
        Ok(fs::hard_link(root.join("s"), root.join("dir/s"))?)
    })?;
    pool.read(&base, |root| {
        for [one, two] in [["a", "dir/b"], ["s", "dir/s"]] {
            let one = inode(&root.join(one))?;
            expect_eq!((one, one.1), (inode(&root.join(two))?, 2));
        }
        Ok(())
    })?;
    let child =
        pool.layer(Some(&base), |root| Ok(File::options().append(true).open(root.join("a"))?.write_all(b" still")?))?;
    let through_b = pool.read(&child, |root| Ok(fs::read_to_string(root.join("dir/b"))?))?;
    if pool.spec.kind == DriverKind::Overlay {
        // Copied up under one name, the file parts from the other: so it is with overlayfs.
        expect_eq!((&*through_b, &*shown(&pool.changes(&child)?)), ("linked", "C a"));
    } else {
        expect_eq!((&*through_b, &*shown(&pool.changes(&child)?)), ("linked still", "C a, C dir, C dir/b"));
    }
    expect_eq!(pool.read(&base, |root| Ok(fs::read_to_string(root.join("dir/b"))?))?, "linked");
    Ok(())
}

pub fn attributes_and_capabilities(pool: &mut Pool) -> Outcome {
    // VFS_CAP_REVISION_2 with the effective bit, CAP_NET_RAW permitted (linux/capability.h).
    const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // rw for the owner, r for user 1234, r for the group, mask r, nothing for others (linux/posix_acl_xattr.h).
    let acl: Vec<u8> =
        [(1u16, 6u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)]
            .iter()
            .flat_map(|(tag, perm, id)| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat())
            .collect();
    let acl = [&2u32.to_le_bytes()[..], &acl].concat();
    let all = [("user.a", &b"1"[..]), ("user.empty", b""), ("trusted.t", b"\0\xff"), ("security.capability", &NET_RAW)];
    let base = inherited(pool, |root| {
        fs::create_dir(root.join("dir"))?;
        fs::write(root.join("ping"), "")?;
        chown(root.join("ping"), Some(5), Some(6))?;
        for (name, value) in all {
            set_xattr(&root.join("ping"), name, value)?;
        }
        set_xattr(&root.join("ping"), "system.posix_acl_access", &acl)?;
        set_xattr(&root.join("dir"), "system.posix_acl_default", &acl)?;
        set_xattr(&root.join("dir"), "user.long", &[9; 2000])?;
        symlink("ping", root.join("link"))?;
        set_xattr(&root.join("link"), "trusted.link", b"own")
    })?;
    pool.read(&base, |root| {
        for (name, value) in all.into_iter().chain([("system.posix_acl_access", &*acl)]) {
            let mut buffer = [0; 256];
            let length = rustix::fs::lgetxattr(root.join("ping"), name, &mut buffer)?;
            expect_eq!(&buffer[..length], value, "{name}");
        }
        Ok(())
    })?;
    let child = pool.layer(Some(&base), |root| {
        rustix::fs::removexattr(root.join("ping"), "security.capability")?;
        set_xattr(&root.join("link"), "trusted.link", b"changed")?;
        set_xattr(&root.join("dir"), "user.long", &[8; 2000])
    })?;
    expect_eq!(shown(&pool.changes(&child)?), "C dir, C link, C ping");
    Ok(())
}

pub fn modes_and_owners(pool: &mut Pool) -> Outcome {
    const MODES: [u32; 6] = [0o4755, 0o2711, 0o1777, 0o7777, 0o000, 0o640];
    let base = inherited(pool, |root| {
        for mode in MODES {
            let (dir, file) = (root.join(format!("d{mode:o}")), root.join(format!("f{mode:o}")));
            fs::create_dir(&dir)?;
            fs::write(&file, "")?;
            for path in [dir, file] {
                chown(&path, Some(1000 + mode), Some(u32::MAX - 2))?;
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
        }
        symlink("nowhere", root.join("link"))?;
        Ok(lchown(root.join("link"), Some(77), Some(88))?)
    })?;
    let child = pool.active(Some(&base))?;
    pool.read(&child, |root| {
        for mode in MODES {
            for kind in ["d", "f"] {
                let meta = fs::metadata(root.join(format!("{kind}{mode:o}")))?;
                let found = (meta.mode() & 0o7777, meta.uid(), meta.gid());
                expect_eq!(found, (mode, 1000 + mode, u32::MAX - 2), "{kind}{mode:o}");
            }
        }
        let link = fs::symlink_metadata(root.join("link"))?;
        expect_eq!((link.uid(), link.gid()), (77, 88));
        Ok(())
    })
}

pub fn devices_fifos_and_sockets(pool: &mut Pool) -> Outcome {
    let nodes = [
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("disk", FileType::BlockDevice, makedev(259, 70_000)),
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
    ];
    let base = inherited(pool, |root| {
        for (name, kind, device) in nodes {
            mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o620), device)?;
        }
        Ok(())
    })?;
    pool.read(&base, |root| {
        for (name, kind, device) in nodes {
            let meta = fs::symlink_metadata(root.join(name))?;
            expect_eq!((FileType::from_raw_mode(meta.mode()), meta.rdev()), (kind, device), "{name}");
        }
        // An image's device is no way to the host's.
        expect_eq!(File::open(root.join("null")).err().and_then(|error| error.raw_os_error()), Some(libc::EACCES));
        Ok(())
    })?;
    let child = pool.layer(Some(&base), |root| {
        fs::remove_file(root.join("null"))?;
        Ok(mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o620), makedev(1, 5))?)
    })?;
    expect_eq!(shown(&pool.changes(&child)?), "C null");
    Ok(())
}

pub fn holes_stay_holes(pool: &mut Pool) -> Outcome {
    const LENGTH: u64 = 1 << 30;
    let base = inherited_sparse(pool, LENGTH)?;
    let child = pool.layer(Some(&base), |root| {
        let file = File::options().write(true).open(root.join("sparse"))?;
        file.write_all_at(b"more", LENGTH / 4)?;
        Ok(file.sync_all()?)
    })?;
    let captured = pool.capture(&child)?;
    for volume in [&base, &child, &captured] {
        pool.read(volume, |root| {
            let meta = fs::metadata(root.join("sparse"))?;
            expect_eq!(meta.len(), LENGTH);
            expect!(meta.blocks() * 512 < 2 << 20, "{} bytes are allocated", meta.blocks() * 512);
            let mut end = [0; 3];
            File::open(root.join("sparse"))?.read_exact_at(&mut end, LENGTH - 3)?;
            expect_eq!(&end, b"end");
            Ok(())
        })?;
    }
    expect_eq!(shown(&pool.driver().changes(child.id, &child.parents)?), "C sparse");
    Ok(())
}

/// A fingerprint would read a gigabyte of zeros.
fn inherited_sparse(pool: &Pool, length: u64) -> Outcome<Volume> {
    pool.layer(None, |root| {
        let file = File::create(root.join("sparse"))?;
        file.write_all_at(b"middle", length / 2)?;
        file.write_all_at(b"end", length - 3)?;
        Ok(file.sync_all()?)
    })
}

pub fn names_are_bytes(pool: &mut Pool) -> Outcome {
    let long = "n".repeat(255);
    let names: [&[u8]; 8] = [
        b"\xff\xfe",
        b"new\nline",
        b" ",
        b"-rf",
        b"a:b,c=d\\",
        b"\x01\x7f",
        "\u{e9}\u{301}".as_bytes(),
        long.as_bytes(),
    ];
    let base = inherited(pool, |root| {
        names.iter().try_for_each(|name| {
            let path = root.join(OsStr::from_bytes(name));
            fs::create_dir(&path)?;
            Ok(fs::write(path.join(OsStr::from_bytes(name)), name)?)
        })
    })?;
    let child = pool.layer(Some(&base), |root| {
        names.iter().try_for_each(|name| {
            let path = root.join(OsStr::from_bytes(name));
            Ok(fs::remove_file(path.join(OsStr::from_bytes(name)))?)
        })
    })?;
    let told: Vec<Vec<u8>> =
        pool.changes(&child)?.iter().map(|change| change.path.as_os_str().as_bytes().to_vec()).collect();
    let mut expected: Vec<Vec<u8>> =
        names.iter().flat_map(|name| [name.to_vec(), [name, &b"/"[..], name].concat()]).collect();
    expected.sort();
    expect_eq!(told, expected);
    Ok(())
}

pub fn times_to_the_nanosecond(pool: &mut Pool) -> Outcome {
    let base = inherited(pool, |root| {
        fs::create_dir(root.join("dir"))?;
        fs::write(root.join("file"), "")?;
        symlink("x", root.join("link"))?;
        ["file", "link", "dir"].iter().try_for_each(|name| set_mtime(&root.join(name), 123_456_789))
    })?;
    let child = pool.layer(Some(&base), |root| {
        for name in ["file", "link", "dir"] {
            expect_eq!(fs::symlink_metadata(root.join(name))?.mtime_nsec(), 123_456_789, "{name}");
            set_mtime(&root.join(name), 123_456_790)?;
        }
        Ok(())
    })?;
    expect_eq!(shown(&pool.changes(&child)?), "C file, C link");
    pool.read(&child, |root| {
        for name in ["file", "link", "dir"] {
            expect_eq!(fs::symlink_metadata(root.join(name))?.mtime_nsec(), 123_456_790, "{name}");
        }
        Ok(())
    })
}

pub fn paths_longer_than_any_call_takes(pool: &mut Pool) -> Outcome {
    const DEPTH: usize = 20;
    let name = "d".repeat(250);
    let base = inherited(pool, |root| write_at(&chain(root, &name, DEPTH)?, "file", b"old"))?;
    let child = pool.layer(Some(&base), |root| write_at(&chain(root, &name, DEPTH)?, "file", b"new"))?;
    let changes = pool.changes(&child)?;
    expect_eq!(changes.len(), DEPTH + 1);
    let longest = &changes[DEPTH].path;
    expect!(longest.as_os_str().len() > libc::PATH_MAX as usize, "{} bytes", longest.as_os_str().len());
    pool.read(&child, |root| {
        let root = File::open(root)?;
        let found = locate(root.as_fd(), longest)?.ok_or("it is not there")?;
        expect_eq!(std::io::read_to_string(found.place().open_file()?)?, "new");
        Ok(())
    })?;
    let gone = pool.layer(Some(&child), |root| {
        let root = File::open(root)?;
        Ok(lamina::fs::remove_tree(root.as_fd(), &std::ffi::CString::new(name.as_str())?)?)
    })?;
    expect_eq!(shown(&pool.changes(&gone)?), format!("D {name}"));
    pool.driver().delete(gone.id)?;
    pool.driver().delete(child.id)?;
    Ok(())
}
