//! The exact difference of two directory trees.
//!
//! Invariant: the answer is that of [`Changes`], whatever told us where to look. A native diff (send stream, block
//! mapping, overlay's upper directory) only narrows what is looked at; each candidate is judged here, by its content.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs::File,
    io::Read,
    mem,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    vec,
};

use rustix::fs::{FileType, Stat};

use super::{
    change::{Change, ChangeKind, Changes},
    descent::{Descent, Way, names, push_name, walk},
    entry::{Place, differs, file_type, is_dir},
};
use crate::{
    error::{Act as _, Result},
    interrupt,
};

/// What a driver knows about the content of two files without reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is equal, for certain.
    Same,
    /// It is not.
    Different,
    /// Compare the bytes.
    Unknown,
}

/// Two regular files at one path, with the same size and the same metadata.
#[derive(Debug)]
pub struct FilePair<'a> {
    /// Their path below the roots.
    pub path: &'a Path,
    /// The parent's.
    pub parent: (Place<'a>, &'a Stat),
    /// The child's.
    pub child: (Place<'a>, &'a Stat),
}

/// A driver's answer to whether two files have the same content.
pub type Same<'s> = dyn FnMut(&FilePair<'_>) -> Result<Verdict> + 's;

/// Where differences can be in a directory that both trees have.
pub(crate) enum Look {
    /// At any name of either tree.
    Everywhere,
    /// Only at the names that the child's directory lists.
    Child,
    /// Only at these.
    Names(BTreeSet<CString>),
}

/// Tells for a directory at a path, open in the child, where to look.
pub(crate) type Guide<'g> = dyn FnMut(&Path, BorrowedFd<'_>) -> Result<Look> + 'g;

/// All differences of the tree at `child` against that at `parent`, or against the empty tree. `same` is asked about
/// the content of regular files whose metadata is the same.
///
/// # Errors
/// When a tree cannot be read; `Interrupted`; what `same` returns.
pub fn compare(parent: Option<BorrowedFd<'_>>, child: BorrowedFd<'_>, same: &mut Same<'_>) -> Result<Changes> {
    match parent {
        Some(parent) => Walk::start(parent, child, &mut |_, _| Ok(Look::Everywhere), same, |_| true)?.run(),
        None => {
            let mut changes = Changes::new();
            added_below(child, Path::new(""), |_| true, &mut changes)?;
            Ok(changes)
        }
    }
}

/// The same for two trees that can only differ at `candidates` and below directories that only one of them has. Looks
/// at nothing else, so the time follows the number of candidates. A directory that is a candidate stands for itself,
/// not for what it holds, unless it is also in `subtrees`: those are compared to the bottom.
///
/// # Errors
/// As [`compare`].
pub fn compare_at(
    parent: BorrowedFd<'_>,
    child: BorrowedFd<'_>,
    candidates: &BTreeSet<PathBuf>,
    subtrees: &BTreeSet<PathBuf>,
    same: &mut Same<'_>,
) -> Result<Changes> {
    let mut guide = |dir: &Path, _: BorrowedFd<'_>| {
        if dir.ancestors().any(|above| subtrees.contains(above)) {
            return Ok(Look::Everywhere);
        }
        let mut next = BTreeSet::new();
        for set in [candidates, subtrees] {
            // A path's order goes by its components, so all that lies below `dir` follows it.
            let below = set.range(dir.to_path_buf()..).map_while(|path| path.strip_prefix(dir).ok());
            let names = below.filter_map(|path| path.components().next());
            next.extend(names.filter_map(|name| CString::new(name.as_os_str().as_encoded_bytes()).ok()));
        }
        Ok(Look::Names(next))
    };
    Walk::start(parent, child, &mut guide, same, |_| true)?.run()
}

/// The same where `guide` tells where to look, and an entry of the child is there only if it `exists`.
///
/// # Errors
/// As [`compare`], and what `guide` returns.
pub(crate) fn compare_guided(
    parent: BorrowedFd<'_>,
    child: BorrowedFd<'_>,
    guide: &mut Guide<'_>,
    same: &mut Same<'_>,
    exists: fn(&Stat) -> bool,
) -> Result<Changes> {
    Walk::start(parent, child, guide, same, exists)?.run()
}

/// Lists everything below `root` as added; `prefix` is the path of `root` itself. Entries that do not `exist` are left
/// out.
fn added_below(root: BorrowedFd<'_>, prefix: &Path, exists: fn(&Stat) -> bool, changes: &mut Changes) -> Result<()> {
    walk(root, &mut |found| {
        if exists(found.stat) {
            changes.push(Change { path: prefix.join(found.path), kind: ChangeKind::Added });
        }
        Ok(Way::Down)
    })
}

/// Two trees walked side by side.
struct Walk<'w, 'g, 's> {
    parent: Descent,
    child: Descent,
    path: PathBuf,
    frames: Vec<Frame>,
    changes: Changes,
    guide: &'w mut Guide<'g>,
    same: &'w mut Same<'s>,
    /// Whether an entry of the child is one: overlay's whiteouts are not.
    exists: fn(&Stat) -> bool,
}

/// A directory that both have.
struct Frame {
    names: vec::IntoIter<CString>,
    /// Whether it is among the changes already.
    listed: bool,
}

impl<'w, 'g, 's> Walk<'w, 'g, 's> {
    fn start(
        parent: BorrowedFd<'_>,
        child: BorrowedFd<'_>,
        guide: &'w mut Guide<'g>,
        same: &'w mut Same<'s>,
        exists: fn(&Stat) -> bool,
    ) -> Result<Self> {
        let (parent, child) = (Descent::new(parent)?, Descent::new(child)?);
        let mut walk =
            Self { parent, child, path: PathBuf::new(), frames: Vec::new(), changes: Vec::new(), guide, same, exists };
        // The root is never listed.
        walk.open_frame(true)?;
        Ok(walk)
    }

    fn run(mut self) -> Result<Changes> {
        while let Some(frame) = self.frames.last_mut() {
            match frame.names.next() {
                Some(name) => self.step(name)?,
                None => {
                    self.frames.pop();
                    self.path.pop();
                    if !self.frames.is_empty() {
                        self.parent.leave()?;
                        self.child.leave()?;
                    }
                }
            }
        }
        Ok(self.changes)
    }

    /// Starts on the directory that both sides have been led into.
    fn open_frame(&mut self, listed: bool) -> Result<()> {
        let here = self.child.here();
        let look: Vec<CString> = match (self.guide)(&self.path, here)? {
            Look::Everywhere => {
                let all: BTreeSet<CString> = names(self.parent.here())?.into_iter().chain(names(here)?).collect();
                all.into_iter().collect()
            }
            Look::Child => names(here)?,
            Look::Names(names) => names.into_iter().collect(),
        };
        self.frames.push(Frame { names: look.into_iter(), listed });
        Ok(())
    }

    fn step(&mut self, name: CString) -> Result<()> {
        interrupt::check()?;
        push_name(&mut self.path, &name);
        let descended = self.judge(&name).act(|| format!("compare {}", self.path.display()))?;
        if !descended {
            self.path.pop();
        }
        Ok(())
    }

    /// Compares one name; true if both have a directory there, which is entered.
    fn judge(&mut self, name: &CString) -> Result<bool> {
        let old = Place { dir: self.parent.here(), name };
        let new = Place { dir: self.child.here(), name };
        let (old_stat, new_stat) = (old.stat()?, new.stat()?.filter(self.exists));
        let (kind, old_dir, new_dir) = match (&old_stat, &new_stat) {
            (None, None) => return Ok(false),
            (Some(_), None) => (Some(ChangeKind::Deleted), false, false),
            (None, Some(new_stat)) => (Some(ChangeKind::Added), false, is_dir(new_stat)),
            (Some(old_stat), Some(new_stat)) => {
                let pair = FilePair { path: &self.path, parent: (old, old_stat), child: (new, new_stat) };
                let changed = differs(pair.parent, pair.child)? || !same_content(&pair, self.same)?;
                (changed.then_some(ChangeKind::Changed), is_dir(old_stat), is_dir(new_stat))
            }
        };
        if let Some(kind) = kind {
            self.list(kind);
        }
        if new_dir && old_dir {
            self.parent.enter(name)?;
            self.child.enter(name)?;
            self.open_frame(kind.is_some())?;
        } else if new_dir {
            let below = Place { dir: self.child.here(), name }.open_dir()?;
            added_below(below.as_fd(), &self.path, self.exists, &mut self.changes)?;
        }
        Ok(new_dir && old_dir)
    }

    /// Adds the entry at the present path, and before it each directory above it that is not listed yet.
    fn list(&mut self, kind: ChangeKind) {
        let above: Vec<&Path> = self.path.ancestors().skip(1).collect();
        for (frame, path) in self.frames.iter_mut().zip(above.into_iter().rev()) {
            if !mem::replace(&mut frame.listed, true) {
                self.changes.push(Change { path: path.to_path_buf(), kind: ChangeKind::Changed });
            }
        }
        self.changes.push(Change { path: self.path.clone(), kind });
    }
}

/// Whether the content is the same, of a pair whose metadata is.
fn same_content(pair: &FilePair<'_>, same: &mut Same<'_>) -> Result<bool> {
    let (parent, child) = (pair.parent, pair.child);
    if file_type(child.1) != FileType::RegularFile || child.1.st_size == 0 {
        return Ok(true);
    }
    match same(pair)? {
        Verdict::Same => Ok(true),
        Verdict::Different => Ok(false),
        Verdict::Unknown => same_bytes(&mut parent.0.open_file()?, &mut child.0.open_file()?),
    }
}

/// Whether two files hold the same bytes from where they stand.
fn same_bytes(old: &mut File, new: &mut File) -> Result<bool> {
    const BUFFER: usize = 128 << 10;
    let (mut old_bytes, mut new_bytes) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        interrupt::check()?;
        let old_length = fill(old, &mut old_bytes)?;
        let new_length = fill(new, &mut new_bytes)?;
        if old_bytes[..old_length] != new_bytes[..new_length] {
            return Ok(false);
        }
        if old_length < BUFFER {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).act(|| "read"),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
