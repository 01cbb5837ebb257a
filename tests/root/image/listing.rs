//! Everything about a tree that a layer keeps, as text, for comparing.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use lamina::{
    driver::{Change, ChangeKind},
    id::Digest,
};

/// [`listing`], with the first path of the same file for each hard link.
pub fn listing_with_links(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = listing(root);
    let mut first = HashMap::new();
    for (path, text) in &mut found {
        let stat = fs::symlink_metadata(root.join(std::ffi::OsStr::from_bytes(path))).unwrap();
        if !stat.is_dir() {
            let first = first.entry((stat.dev(), stat.ino())).or_insert_with(|| path.clone());
            text.push_str(&format!(" is {}", first.escape_ascii()));
        }
    }
    found
}

/// Path in bytes to description.
pub fn listing(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut queue = vec![PathBuf::new()];
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(root.join(&directory)).unwrap() {
            let path = directory.join(entry.unwrap().file_name());
            if fs::symlink_metadata(root.join(&path)).unwrap().is_dir() {
                queue.push(path.clone());
            }
            found.insert(path.as_os_str().as_bytes().to_vec(), describe(&root.join(&path)));
        }
    }
    found
}

fn describe(path: &Path) -> String {
    let stat = fs::symlink_metadata(path).unwrap();
    let content = match stat.file_type() {
        kind if kind.is_file() => Digest::of(&fs::read(path).unwrap()).hex(),
        kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
        _ => format!("{:x}", stat.rdev()),
    };
    let mut list = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut xattrs: Vec<String> = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            format!("{}={:?}", name.escape_ascii(), &value[..length])
        })
        .collect();
    xattrs.sort();
    let times = (stat.mtime(), stat.mtime_nsec());
    format!("{:o} {}:{} {times:?} {content} {xattrs:?}", stat.mode(), stat.uid(), stat.gid())
}

/// What a driver would tell of the difference.
pub fn changes(before: &Path, after: &Path) -> Vec<Change> {
    let (before, after) = (listing(before), listing(after));
    let path = |bytes: &Vec<u8>| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let mut changes: Vec<Change> = Vec::new();
    for (name, text) in &after {
        let kind = match before.get(name) {
            None => ChangeKind::Added,
            Some(old) if old != text => ChangeKind::Changed,
            Some(_) => continue,
        };
        changes.push(Change { path: path(name), kind });
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        let path = path(name);
        // Nothing below a deleted directory is listed.
        let parent = path.parent().unwrap().as_os_str().as_bytes().to_vec();
        if parent.is_empty() || after.contains_key(&parent) {
            changes.push(Change { path, kind: ChangeKind::Deleted });
        }
    }
    changes.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    changes
}
