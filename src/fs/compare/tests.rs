//! What counts as a difference, one small tree at a time; no root needed.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File, FileTimes, Permissions},
    os::{
        fd::AsFd as _,
        unix::{
            ffi::OsStrExt as _,
            fs::{PermissionsExt as _, symlink},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Verdict, compare, compare_at};
use crate::fs::{ChangeKind, Changes};

/// Two equal trees.
fn trees() -> [tempfile::TempDir; 2] {
    [(); 2].map(|()| {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("dir/sub")).unwrap();
        for file in ["a", "dir/b", "dir.txt", "dir/sub/c"] {
            fs::write(at(file), file).unwrap();
            set_mtime(&at(file), 7);
        }
        fs::write(root.path().join(OsStr::from_bytes(b"\xff\n")), "x").unwrap();
        set_mtime(&root.path().join(OsStr::from_bytes(b"\xff\n")), 7);
        root
    })
}

fn set_mtime(path: &Path, nanos: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + Duration::from_nanos(nanos);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn diff(parent: &Path, child: &Path) -> Changes {
    let (parent, child) = (File::open(parent).unwrap(), File::open(child).unwrap());
    compare(Some(parent.as_fd()), child.as_fd(), &mut |_| Ok(Verdict::Unknown)).unwrap()
}

fn shown(changes: &Changes) -> String {
    assert!(changes.is_sorted(), "{changes:?}");
    let line = |change: &crate::fs::Change| {
        let letter = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        format!("{letter} {}", change.path.to_string_lossy())
    };
    changes.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// Changes the child by `act` and expects `expected`, from both entry points.
fn check(act: impl FnOnce(&Path), expected: &str) {
    let [parent, child] = trees();
    act(child.path());
    let changes = diff(parent.path(), child.path());
    assert_eq!(shown(&changes), expected);
    let candidates: BTreeSet<PathBuf> = changes.iter().map(|change| change.path.clone()).collect();
    let (parent, child) = (File::open(parent.path()).unwrap(), File::open(child.path()).unwrap());
    let unknown = &mut |_: &super::FilePair<'_>| Ok(Verdict::Unknown);
    let guided = compare_at(parent.as_fd(), child.as_fd(), &candidates, &BTreeSet::new(), unknown).unwrap();
    assert_eq!(guided, changes);
}

#[test]
fn equal_trees_have_no_difference() {
    check(|_| (), "");
}

#[test]
fn a_file_in_the_root_is_listed_alone_and_deeper_ones_after_their_directories() {
    check(|root| fs::write(root.join("out"), "").unwrap(), "A out");
    check(|root| fs::write(root.join("dir/sub/new"), "").unwrap(), "C dir, C dir/sub, A dir/sub/new");
    check(|root| fs::remove_file(root.join("dir/sub/c")).unwrap(), "C dir, C dir/sub, D dir/sub/c");
}

#[test]
fn same_size_and_same_mtime_do_not_hide_a_change() {
    let rewrite = |root: &Path| {
        fs::write(root.join("dir/b"), "DIR/B").unwrap();
        set_mtime(&root.join("dir/b"), 7);
    };
    check(rewrite, "C dir, C dir/b");
}

#[test]
fn one_nanosecond_and_one_mode_bit_count() {
    check(|root| set_mtime(&root.join("a"), 8), "C a");
    check(|root| fs::set_permissions(root.join("a"), Permissions::from_mode(0o4711)).unwrap(), "C a");
    check(|root| fs::set_permissions(root.join("dir"), Permissions::from_mode(0o700)).unwrap(), "C dir");
}

#[test]
fn the_mtime_of_a_directory_does_not_count() {
    check(|root| set_mtime(&root.join("dir"), 1), "");
}

#[test]
fn a_new_directory_is_listed_with_all_it_holds_and_a_deleted_one_alone() {
    let add = |root: &Path| {
        fs::create_dir_all(root.join("new/x")).unwrap();
        fs::write(root.join("new/x/y"), "").unwrap();
    };
    check(add, "A new, A new/x, A new/x/y");
    check(|root| fs::remove_dir_all(root.join("dir")).unwrap(), "D dir");
}

#[test]
fn another_type_is_a_change_of_the_one_path() {
    let to_dir = |root: &Path| {
        fs::remove_file(root.join("a")).unwrap();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/in"), "").unwrap();
    };
    check(to_dir, "C a, A a/in");
    let to_file = |root: &Path| {
        fs::remove_dir_all(root.join("dir")).unwrap();
        fs::write(root.join("dir"), "").unwrap();
    };
    check(to_file, "C dir");
}

#[test]
fn a_directory_is_followed_by_what_it_holds_although_a_dot_sorts_before_a_slash() {
    let both = |root: &Path| {
        fs::write(root.join("dir.txt"), "other").unwrap();
        fs::write(root.join("dir/b"), "other").unwrap();
    };
    check(both, "C dir, C dir/b, C dir.txt");
}

#[test]
fn links_are_compared_by_target_and_not_followed() {
    let [parent, child] = trees();
    for (root, target) in [(&parent, "/one"), (&child, "/two")] {
        symlink(target, root.path().join("link")).unwrap();
        symlink("dir", root.path().join("to-dir")).unwrap();
        for link in ["link", "to-dir"] {
            let times = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
                last_modification: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
            };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, root.path().join(link), &times, flags).unwrap();
        }
    }
    assert_eq!(shown(&diff(parent.path(), child.path())), "C link");
}

#[test]
fn attributes_count() {
    let set = |root: &Path| {
        rustix::fs::lsetxattr(root.join("a"), c"user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    };
    check(set, "C a");
}

#[test]
fn a_further_hard_link_is_an_added_file() {
    check(|root| fs::hard_link(root.join("a"), root.join("z")).unwrap(), "A z");
}

#[test]
fn against_the_empty_tree_all_is_added() {
    let [_, child] = trees();
    let child = File::open(child.path()).unwrap();
    let changes = compare(None, child.as_fd(), &mut |_| Ok(Verdict::Unknown)).unwrap();
    assert_eq!(shown(&changes), "A a, A dir, A dir/b, A dir/sub, A dir/sub/c, A dir.txt, A \u{fffd}\n");
}

#[test]
fn swapped_directories_need_their_subtrees() {
    let [parent, child] = trees();
    for root in [&parent, &child] {
        fs::create_dir(root.path().join("other")).unwrap();
    }
    let at = |name: &str| child.path().join(name);
    fs::rename(at("other"), at("x")).unwrap();
    fs::rename(at("dir"), at("other")).unwrap();
    fs::rename(at("x"), at("dir")).unwrap();
    let full = diff(parent.path(), child.path());
    let (parent, child) = (File::open(parent.path()).unwrap(), File::open(child.path()).unwrap());
    let subtrees = ["dir", "other"].map(PathBuf::from).into();
    let unknown = &mut |_: &super::FilePair<'_>| Ok(Verdict::Unknown);
    let guided = compare_at(parent.as_fd(), child.as_fd(), &BTreeSet::new(), &subtrees, unknown).unwrap();
    assert_eq!(guided, full);
    assert_eq!(shown(&full), "C dir, D dir/b, D dir/sub, C other, A other/b, A other/sub, A other/sub/c");
}

#[test]
fn trees_deeper_than_any_path_and_than_the_descriptors_kept_open_are_compared() {
    let roots = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for (root, text) in roots.iter().zip(["one", "two"]) {
        let mut dir = rustix::fs::open(root.path(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..200 {
            let name = "d".repeat(40);
            rustix::fs::mkdirat(&dir, &*name, 0o755.into()).unwrap();
            dir = rustix::fs::openat(&dir, &*name, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        }
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        let file = rustix::fs::openat(&dir, "f", flags, 0o644.into()).unwrap();
        rustix::io::write(&file, text.as_bytes()).unwrap();
    }
    let changes = diff(roots[0].path(), roots[1].path());
    assert_eq!(changes.len(), 201);
    assert_eq!(changes[200].path.as_os_str().len(), 200 * 41 + 1);
}
