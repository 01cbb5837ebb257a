//! One entry of an open directory: what it is, what its metadata says, and how two of them differ.
//!
//! Invariant: an entry is always reached through a descriptor of its directory and a single name, never through a
//! longer path and never through a symlink, so neither the length of a path nor a planted link matters. Nothing but a
//! regular file or a directory is ever opened: opening a device or a fifo has effects.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Component, Path},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags, fstat, lgetxattr, llistxattr,
        lsetxattr, openat, readlinkat, stat, statat,
    },
    io::Errno,
};

use crate::error::{Act as _, Error, Kind, Result};

/// Extended attributes by name, all namespaces that the caller may read.
pub type Xattrs = BTreeMap<CString, Vec<u8>>;

/// A name in an open directory; `.` is the directory itself.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The directory, opened for reading or with `O_PATH`.
    pub dir: BorrowedFd<'a>,
    /// One name, without a slash.
    pub name: &'a CStr,
}

/// What sort of file `stat` is of.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether `stat` is of a directory.
pub fn is_dir(stat: &Stat) -> bool {
    file_type(stat) == FileType::Directory
}

/// The times of access and change that `stat` tells.
pub fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec: u64| Timespec { tv_sec, tv_nsec: tv_nsec.try_into().unwrap_or_default() };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// What tells two names of one file on one file system from two files.
pub fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Whether `path` leads to the open `file`, and not to another that took its place, or to none.
pub fn is_at(file: impl AsFd, path: &Path) -> bool {
    matches!((fstat(file), stat(path)), (Ok(ours), Ok(there)) if identity(&ours) == identity(&there))
}

impl<'a> Place<'a> {
    /// The entry `name` of `dir`.
    pub fn new(dir: &'a impl AsFd, name: &'a CStr) -> Self {
        Self { dir: dir.as_fd(), name }
    }

    fn shown(&self) -> String {
        format!("'{}'", self.name.to_string_lossy().escape_debug())
    }

    /// What it is; `None` if there is no such name.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn stat(&self) -> Result<Option<Stat>> {
        match statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some).act(|| format!("look at {}", self.shown())),
        }
    }

    /// Opens the directory of that name.
    ///
    /// # Errors
    /// The kernel's reason; `ENOTDIR` or `ELOOP` if it is something else.
    pub fn open_dir(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.dir, self.name, flags, Mode::empty()).act(|| format!("open directory {}", self.shown()))
    }

    /// Opens the regular file of that name for reading.
    ///
    /// # Errors
    /// `InUse` if it has become something else since it was looked at; the kernel's reason.
    pub fn open_file(&self) -> Result<File> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(self.dir, self.name, flags, Mode::empty()).act(|| format!("open {}", self.shown()))?;
        open_regular(&found)
            .act(|| format!("open {}", self.shown()))?
            .ok_or_else(|| Error::new(Kind::InUse, format!("open {}: it was replaced while it was read", self.shown())))
    }

    /// Where the symlink of that name points.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn link_target(&self) -> Result<CString> {
        readlinkat(self.dir, self.name, Vec::new()).act(|| format!("read link {}", self.shown()))
    }

    /// Its extended attributes; none on a file system that has none.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn xattrs(&self) -> Result<Xattrs> {
        let path = self.proc_path();
        let act = |name: &CStr| format!("read attribute {} of {}", name.to_string_lossy(), self.shown());
        let names = match read_all(|buffer| llistxattr(&*path, buffer)) {
            Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
            other => other.act(|| act(c"names"))?,
        };
        let mut found = Xattrs::new();
        for name in names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
            match read_all(|buffer| lgetxattr(&*path, name, buffer)) {
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                value => {
                    found.insert(name.to_owned(), value.act(|| act(name))?);
                }
            }
        }
        Ok(found)
    }

    /// Sets one extended attribute.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_xattr(&self, name: &CStr, value: &[u8]) -> Result<()> {
        lsetxattr(self.proc_path().as_c_str(), name, value, XattrFlags::empty())
            .act(|| format!("set attribute {} of {}", name.to_string_lossy(), self.shown()))
    }

    /// Attributes have no call that takes a directory and a name before Linux 6.13 (`getxattrat`), and `fgetxattr`
    /// takes no `O_PATH` descriptor. This path has a fixed length and its last part is not followed by the `l*` calls.
    fn proc_path(&self) -> CString {
        let mut path = format!("/proc/self/fd/{}/", self.dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name.to_bytes());
        // A CStr's bytes and this prefix hold no NUL, so the default is never taken.
        CString::new(path).unwrap_or_default()
    }
}

/// Opens what an `O_PATH` descriptor names for reading, if it is a regular file. Nothing else is: that alone makes some
/// devices act, and a fifo's other end go on.
///
/// # Errors
/// The kernel's reason.
pub fn open_regular(found: &OwnedFd) -> Result<Option<File>> {
    let stat = fstat(found).act(|| "look at it")?;
    if file_type(&stat) != FileType::RegularFile {
        return Ok(None);
    }
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).act(|| "open it again to read it").map(Some)
}

/// Reads a value whose length can change between asking for it and reading it (`ERANGE`).
fn read_all(mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    // Most values are shorter; `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` are 64 KiB (linux/limits.h).
    for size in [256, 1 << 16] {
        let mut buffer = vec![0; size];
        match read(&mut buffer) {
            Err(Errno::RANGE) => {}
            result => {
                buffer.truncate(result?);
                return Ok(buffer);
            }
        }
    }
    Err(Errno::TOOBIG)
}

/// Whether an entry differs in what it is or in its own metadata, as [`Changes`](crate::driver::Changes) says it.
/// Content is not read: two regular files of equal size and metadata do not differ here.
///
/// # Errors
/// When one of them cannot be read.
pub fn differs(parent: (Place<'_>, &Stat), child: (Place<'_>, &Stat)) -> Result<bool> {
    let ((old, old_stat), (new, new_stat)) = (parent, child);
    if !same_stat(old_stat, new_stat) {
        return Ok(true);
    }
    if file_type(new_stat) == FileType::Symlink && old.link_target()? != new.link_target()? {
        return Ok(true);
    }
    Ok(shown_xattrs(old)? != shown_xattrs(new)?)
}

fn same_stat(old: &Stat, new: &Stat) -> bool {
    // The mode has the type in it.
    let owned = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    let modified = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
    owned(old) == owned(new)
        && match file_type(new) {
            FileType::Directory => true,
            FileType::RegularFile => modified(old) == modified(new) && old.st_size == new.st_size,
            FileType::BlockDevice | FileType::CharacterDevice => {
                modified(old) == modified(new) && old.st_rdev == new.st_rdev
            }
            _ => modified(old) == modified(new),
        }
}

fn shown_xattrs(place: Place<'_>) -> Result<Xattrs> {
    let mut xattrs = place.xattrs()?;
    xattrs.retain(|name, _| !name.to_bytes().starts_with(b"trusted.overlay."));
    Ok(xattrs)
}

/// An entry found by its path.
#[derive(Debug)]
pub struct Located {
    dir: OwnedFd,
    name: CString,
}

impl Located {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        Place::new(&self.dir, &self.name)
    }
}

/// Finds the directory that holds `path` below `root`, name by name, so that `path` may have any length; `None` if a
/// directory on the way is missing or is none. The last name need not exist.
///
/// # Errors
/// `Invalid` for a path that is empty, absolute, or has `..`; else the kernel's reason.
pub fn locate(root: BorrowedFd<'_>, path: &Path) -> Result<Option<Located>> {
    let invalid = || Error::new(Kind::Invalid, format!("path {} is not below a root", path.display()));
    let mut names = path.components().map(|component| match component {
        Component::Normal(name) => CString::new(name.as_encoded_bytes()).map_err(|_| invalid()),
        _ => Err(invalid()),
    });
    let mut name = names.next().ok_or_else(invalid)??;
    let mut dir = Place::new(&root, c".").open_dir()?;
    for next in names {
        match Place::new(&dir, &name).open_dir() {
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => return Ok(None),
            below => dir = below?,
        }
        name = next?;
    }
    Ok(Some(Located { dir, name }))
}
