//! An exact copy of a directory tree.
//!
//! Invariant: after success `fs::compare` finds no difference, and directory times, hard links and holes are kept too.
//! Data is read and written, never shared: `copy_file_range` and `FICLONE` would let XFS and btrfs share the blocks, and
//! the one user of copies, the vfs driver, stands for what a full copy costs.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs::File,
    os::{fd::BorrowedFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    vec,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Uid, chmodat, chownat, fstat, linkat, mkdirat, mknodat,
        openat, seek, symlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    descent::{Descent, names, push_name},
    entry::{Place, Xattrs, file_type, identity, is_dir, locate, times},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
};

/// Copies all below the directory `source`, and its own metadata, to the empty directory `target`.
///
/// Of a source that is written meanwhile each file is copied up to the length that it had when it was opened, and what
/// vanishes is left out.
///
/// # Errors
/// The kernel's reason; `Interrupted`. What was copied until then stays: the caller removes it.
pub fn copy_tree(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let mut copy = Copy {
        source: Descent::new(source)?,
        target: Descent::new(target)?,
        root: target,
        path: PathBuf::new(),
        links: HashMap::new(),
        buffer: vec![0; 256 << 10],
    };
    let mut levels: Vec<vec::IntoIter<CString>> = vec![names(copy.source.here())?.into_iter()];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.next() else {
            levels.pop();
            copy.finish_dir(levels.is_empty())?;
            continue;
        };
        interrupt::check()?;
        push_name(&mut copy.path, &name);
        if copy.entry(&name).act(|| format!("copy {}", copy.path.display()))? {
            levels.push(names(copy.source.here())?.into_iter());
        } else {
            copy.path.pop();
        }
    }
    Ok(())
}

struct Copy<'a> {
    source: Descent,
    target: Descent,
    /// The root of the target.
    root: BorrowedFd<'a>,
    path: PathBuf,
    /// Where the first name of each file with several names was copied to.
    links: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
}

impl Copy<'_> {
    /// Copies one entry; true if it is a directory, which is then entered on both sides.
    fn entry(&mut self, name: &CStr) -> Result<bool> {
        let from = Place { dir: self.source.here(), name };
        let to = Place { dir: self.target.here(), name };
        let Some(stat) = from.stat()? else { return Ok(false) };
        if is_dir(&stat) {
            match self.source.enter(name) {
                Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(false),
                entered => entered?,
            }
            mkdirat(to.dir, name, Mode::RWXU).act(|| "make directory")?;
            self.target.enter(name)?;
            return Ok(true);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity(&stat)) {
                link(self.root, first, to)?;
                return Ok(false);
            }
            self.links.insert(identity(&stat), self.path.clone());
        }
        match copy_content(from, &stat, to, &mut self.buffer).and_then(|()| copy_metadata(from, &stat, to)) {
            Err(error) if error.errno() == Some(libc::ENOENT) && from.stat()?.is_none() => {
                self.links.remove(&identity(&stat));
                super::remove_tree(to.dir, name)?;
            }
            copied => copied?,
        }
        Ok(false)
    }

    /// Gives a directory its metadata, last of all: what is made in it changes its mtime, and a default ACL or a setgid
    /// bit that it has is for what is made in it later.
    fn finish_dir(&mut self, is_root: bool) -> Result<()> {
        let (from, to) = (self.source.here(), self.target.here());
        let stat = fstat(from).act(|| "look at a directory")?;
        copy_metadata(Place { dir: from, name: c"." }, &stat, Place { dir: to, name: c"." })
            .act(|| format!("copy metadata of /{}", self.path.display()))?;
        if !is_root {
            self.source.leave()?;
            self.target.leave()?;
            self.path.pop();
        }
        Ok(())
    }
}

fn link(root: BorrowedFd<'_>, first: &Path, to: Place<'_>) -> Result<()> {
    let gone = || Error::new(Kind::Io, format!("{}, the first name of this file, is gone", first.display()));
    let first = locate(root, first)?.ok_or_else(gone)?;
    let first = first.place();
    linkat(first.dir, first.name, to.dir, to.name, AtFlags::empty()).act(|| "make hard link")
}

/// Makes the entry with its content; owner and mode come later.
fn copy_content(from: Place<'_>, stat: &Stat, to: Place<'_>, buffer: &mut [u8]) -> Result<()> {
    match file_type(stat) {
        FileType::RegularFile => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat(to.dir, to.name, flags, Mode::RUSR | Mode::WUSR).act(|| "make file")?;
            copy_data(&from.open_file()?, &File::from(file), buffer)
        }
        FileType::Symlink => symlinkat(from.link_target()?.as_c_str(), to.dir, to.name).act(|| "make symlink"),
        kind => mknodat(to.dir, to.name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev).act(|| "make node"),
    }
}

/// Copies the data between the holes.
fn copy_data(from: &File, to: &File, buffer: &mut [u8]) -> Result<()> {
    let length = from.metadata().act(|| "look at the file")?.len();
    let mut at = 0;
    while at < length {
        at = match seek(from, SeekFrom::Data(at)) {
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            data => data.act(|| "look for data")?,
        };
        let end = seek(from, SeekFrom::Hole(at)).act(|| "look for a hole")?.min(length);
        while at < end {
            interrupt::check()?;
            let most = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = match from.read_at(&mut buffer[..most], at) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.act(|| "read")?,
            };
            if read == 0 {
                // Cut off since we asked for its length.
                return Ok(());
            }
            to.write_all_at(&buffer[..read], at).act(|| "write")?;
            at += read as u64;
        }
    }
    to.set_len(length).act(|| "set length")
}

/// Gives `to` what `stat` and the attributes of `from` say. The order matters: a change of owner clears setuid bits and
/// file capabilities (`setattr_prepare`, fs/attr.c), and everything changes times.
fn copy_metadata(from: Place<'_>, stat: &Stat, to: Place<'_>) -> Result<()> {
    set_metadata(to, stat, &from.xattrs()?)
}

/// Gives an existing entry the owner, mode, attributes and times of `stat` and `xattrs`, in the order in which the
/// kernel keeps them: a change of owner clears setuid bits and file capabilities, and everything changes times.
///
/// # Errors
/// The kernel's reason.
pub fn set_metadata(to: Place<'_>, stat: &Stat, xattrs: &Xattrs) -> Result<()> {
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to.dir, to.name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW).act(|| "set owner")?;
    if file_type(stat) != FileType::Symlink {
        chmodat(to.dir, to.name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty()).act(|| "set mode")?;
    }
    for (name, value) in xattrs {
        to.set_xattr(name, value)?;
    }
    utimensat(to.dir, to.name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).act(|| "set times")
}

#[cfg(test)]
mod tests;
