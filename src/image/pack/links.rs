//! The further names of files that changed: a name that was added to a file of the parent's makes one file of two names,
//! and the archive must say so.
//!
//! Invariant: the tree is walked only if a changed file has a name outside the changes.

use std::{collections::HashMap, os::fd::BorrowedFd, path::Path};

use rustix::fs::{FileType, Stat};

use crate::{
    driver::{Change, ChangeKind},
    error::{Act as _, Result},
    fs::{Way, file_type, identity, walk},
};

/// How many names files have that the changes do not hold, by device and inode.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<(u64, u64), u64>);

impl Links {
    /// Counts a name among the changes.
    pub(super) fn name(&mut self, stat: &Stat) {
        if file_type(stat) != FileType::Directory && stat.st_nlink > 1 {
            *self.0.entry(identity(stat)).or_insert(stat.st_nlink) -= 1;
        }
    }

    /// `changes` with those names, and the directories that hold them: what is unpacked there changes their times.
    pub(super) fn complete<'c>(
        &self,
        root: BorrowedFd<'_>,
        changes: Vec<&'c Change>,
        more: &'c mut Vec<Change>,
    ) -> Result<Vec<&'c Change>> {
        if self.0.values().all(|missing| *missing == 0) {
            return Ok(changes);
        }
        let mut add = |path: &Path| more.push(Change { path: path.to_owned(), kind: ChangeKind::Changed });
        walk(root, &mut |found| {
            if self.0.get(&identity(found.stat)).is_some_and(|missing| *missing > 0) {
                add(found.path);
                found.path.parent().filter(|parent| *parent != Path::new("")).into_iter().for_each(&mut add);
            }
            Ok(Way::Down)
        })
        .act(|| "look for the other names of changed files")?;
        let mut all = changes;
        all.extend(more.iter());
        // Stable, so that of two for one path the change itself comes first and stays.
        all.sort_by(|one, other| one.path.cmp(&other.path));
        all.dedup_by(|later, first| later.path == first.path);
        Ok(all)
    }
}
