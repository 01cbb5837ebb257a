//! Little helpers to make trees and to look at them.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Read as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
    time::{Duration, SystemTime},
};

use lamina::{
    driver::{ChangeKind, Changes},
    fs::{Place, Way, file_type, walk},
};
use rustix::fs::{FileType, Mode, OFlags, XattrFlags, mkdirat, openat};
use sha2::{Digest as _, Sha256};

use crate::pool::Outcome;

/// Changes as Docker prints them, in one line.
pub fn shown(changes: &Changes) -> String {
    let line = |change: &lamina::driver::Change| {
        let letter = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        format!("{letter} {}", change.path.display())
    };
    changes.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// Everything there is to know of a tree but access and change times: one hash.
pub fn fingerprint(root: &Path) -> Outcome<String> {
    let mut hash = Sha256::new();
    let dir = File::open(root)?;
    let root = rustix::fs::fstat(&dir)?;
    hash.update(format!("{} {} {} {}.{}", root.st_mode, root.st_uid, root.st_gid, root.st_mtime, root.st_mtime_nsec));
    walk(dir.as_fd(), &mut |found| {
        let stat = found.stat;
        let links = if file_type(stat) == FileType::Directory { 0 } else { stat.st_nlink };
        hash.update(found.path.as_os_str().as_bytes());
        hash.update(format!(
            "\0{} {} {} {} {links} {}.{}\0",
            stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev, stat.st_mtime, stat.st_mtime_nsec
        ));
        hash.update(format!("{:?}", found.place.xattrs()?));
        match file_type(stat) {
            FileType::Symlink => hash.update(found.place.link_target()?.as_bytes()),
            FileType::RegularFile => {
                let mut content = Vec::new();
                let read = found.place.open_file()?.read_to_end(&mut content);
                read.map_err(|error| lamina::Error::with_source(lamina::Kind::Io, "read", error))?;
                hash.update(&content);
            }
            _ => {}
        }
        Ok(Way::Down)
    })?;
    Ok(format!("{:x}", hash.finalize()))
}

/// A tree with a bit of everything.
pub fn furnish(root: &Path) -> Outcome {
    fs::create_dir_all(root.join("etc/conf.d"))?;
    fs::create_dir(root.join("tmp"))?;
    for file in ["etc/hosts", "etc/conf.d/one", "etc/conf.d/two", "readme"] {
        fs::write(root.join(file), file)?;
    }
    fs::write(root.join("data"), vec![7; 300_000])?;
    std::os::unix::fs::symlink("etc/hosts", root.join("link"))?;
    fs::hard_link(root.join("readme"), root.join("etc/readme"))?;
    set_xattr(&root.join("readme"), "user.note", b"kept")
}

/// Sets the modification time, of a symlink its own, to a fixed second and `nanos`.
pub fn set_mtime(path: &Path, nanos: u32) -> Outcome {
    let time = rustix::fs::Timespec { tv_sec: 1_234_567_890, tv_nsec: nanos.into() };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Writes `content` and puts the modification time back to what it was.
pub fn rewrite_in_secret(path: &Path, content: &[u8]) -> Outcome {
    let modified = fs::metadata(path)?.modified()?;
    fs::write(path, content)?;
    File::open(path)?.set_modified(modified)?;
    Ok(())
}

/// Sets an attribute of the entry itself.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Outcome {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?;
    Ok(())
}

/// Inode number and link count.
pub fn inode(path: &Path) -> Outcome<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.ino(), meta.nlink()))
}

/// Opens, or makes, a chain of `depth` directories of this name below `root`, and returns the last.
pub fn chain(root: &Path, name: &str, depth: usize) -> Outcome<OwnedFd> {
    let name = CString::new(name)?;
    let mut dir: OwnedFd = File::open(root)?.into();
    for _ in 0..depth {
        if Place::new(&dir, &name).stat()?.is_none() {
            mkdirat(&dir, &*name, Mode::from_raw_mode(0o755))?;
        }
        dir = Place::new(&dir, &name).open_dir()?;
    }
    Ok(dir)
}

/// Writes the file `name` in an open directory.
pub fn write_at(dir: &OwnedFd, name: &str, content: &[u8]) -> Outcome {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
    let file = openat(dir, name, flags, Mode::from_raw_mode(0o644))?;
    std::io::Write::write_all(&mut File::from(file), content)?;
    Ok(())
}

/// Asks until `done` says so. The kernel has no event for it; the limit is there only to end a test that would hang.
pub fn wait_until(mut done: impl FnMut() -> bool) -> Outcome {
    let end = SystemTime::now() + Duration::from_secs(120);
    while !done() {
        if SystemTime::now() > end {
            return Err("what was waited for did not happen in 120 s".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}
