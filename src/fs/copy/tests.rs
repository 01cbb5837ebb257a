//! A copy is what it was made of; no root needed.

use std::{
    fs::{self, File, Permissions},
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
};

use super::copy_tree;
use crate::fs::{Verdict, compare};

fn copy(source: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let (from, to) = (File::open(source).unwrap(), File::open(target.path()).unwrap());
    copy_tree(from.as_fd(), to.as_fd()).unwrap();
    let changes = compare(Some(from.as_fd()), to.as_fd(), &mut |_| Ok(Verdict::Unknown)).unwrap();
    assert_eq!(changes, []);
    target
}

#[test]
fn a_copy_has_no_difference_and_keeps_links_holes_and_directory_times() {
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    fs::create_dir_all(at("dir/sub")).unwrap();
    fs::write(at("dir/file"), "text").unwrap();
    fs::set_permissions(at("dir/file"), Permissions::from_mode(0o6755)).unwrap();
    fs::hard_link(at("dir/file"), at("dir/sub/link")).unwrap();
    symlink("/nowhere", at("symlink")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), 0o600.into()).unwrap();
    rustix::fs::lsetxattr(at("dir"), c"user.note", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    sparse.write_at(b"in the middle", 512 << 20).unwrap();
    sparse.set_len(1 << 30).unwrap();
    fs::set_permissions(at("dir/sub"), Permissions::from_mode(0o3711)).unwrap();
    fs::set_permissions(source.path(), Permissions::from_mode(0o751)).unwrap();

    let target = copy(source.path());
    let meta = |name: &str| (fs::metadata(at(name)).unwrap(), fs::metadata(target.path().join(name)).unwrap());
    for dir in ["", "dir", "dir/sub"] {
        let (from, to) = meta(dir);
        assert_eq!((from.mtime(), from.mtime_nsec(), from.mode()), (to.mtime(), to.mtime_nsec(), to.mode()), "{dir}");
    }
    assert_eq!(meta("dir/file").1.ino(), meta("dir/sub/link").1.ino());
    assert_eq!(meta("dir/file").1.nlink(), 2);
    assert_eq!(meta("sparse").1.len(), 1 << 30);
    assert!(meta("sparse").1.blocks() < 2048);
}

#[test]
fn hard_links_are_kept_where_no_path_reaches() {
    let source = tempfile::tempdir().unwrap();
    let flags = rustix::fs::OFlags::DIRECTORY;
    let mut dir = rustix::fs::open(source.path(), flags, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..100 {
        let name = "d".repeat(100);
        rustix::fs::mkdirat(&dir, &*name, 0o755.into()).unwrap();
        dir = rustix::fs::openat(&dir, &*name, flags, rustix::fs::Mode::empty()).unwrap();
    }
    let create = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    rustix::fs::openat(&dir, "a", create, 0o644.into()).unwrap();
    rustix::fs::linkat(&dir, "a", &dir, "b", rustix::fs::AtFlags::empty()).unwrap();
    let target = copy(source.path());
    let root = File::open(target.path()).unwrap();
    let mut path: std::path::PathBuf = (0..100).map(|_| "d".repeat(100)).collect();
    path.push("b");
    let found = crate::fs::locate(root.as_fd(), &path).unwrap().unwrap();
    assert_eq!(found.place().stat().unwrap().unwrap().st_nlink, 2);
}
