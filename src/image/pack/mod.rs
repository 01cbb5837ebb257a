//! A tree's changes as a layer archive.
//!
//! Invariants: the same changes give the same bytes, whichever driver holds them: members in the order of the changes
//! (sorted, parents first), nothing from the clock, holes written out as zeros (the image-spec advises against sparse
//! members); unpacked onto a copy of the parent, the archive gives the child.

mod header;
mod links;
mod tree;

use std::{
    collections::HashMap,
    ffi::CString,
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::ffi::OsStrExt as _,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

pub(crate) use self::header::{Entry as Header, padding};
pub use self::tree::{Owners, TreePacker};
use self::{header::Entry, links::Links};
use super::{shown, xattr::is_content};
use crate::{
    driver::{Change, ChangeKind},
    error::{Act as _, Error, Kind, Result},
    fs::Place,
    id::{DiffId, Hashing},
    interrupt,
    units::Bytes,
};

/// What a layer archive became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// sha256 of the archive.
    pub diff_id: DiffId,
    /// Apparent bytes of its regular files, hard links once.
    pub size: Bytes,
    /// Bytes of the archive.
    pub length: Bytes,
}

const BUFFER: usize = 1 << 20;

/// Writes the archive of `changes` to `out`; `root` shows the child.
///
/// # Errors
/// `Invalid` for a name that only a whiteout may have; what the system says.
pub fn pack<'c>(
    root: BorrowedFd<'_>,
    changes: impl IntoIterator<Item = &'c Change>,
    out: impl Write,
) -> Result<Packed> {
    let out = Hashing::new(out);
    let mut packer = Packer { root, out, parent: None, links: HashMap::new(), size: 0, buffer: vec![0; BUFFER] };
    let (changes, mut more) = (changes.into_iter().collect(), Vec::new());
    for change in packer.with_other_names(changes, &mut more)? {
        interrupt::check()?;
        packer.change(change).act(|| format!("pack {}", shown(change.path.as_os_str().as_bytes())))?;
    }
    packer.write(&[0; 1024])?;
    packer.out.flush().act(|| "write the layer archive")?;
    let (_, digest, length) = packer.out.finish();
    Ok(Packed { diff_id: DiffId(digest), size: Bytes(packer.size), length })
}

struct Packer<'a, W> {
    root: BorrowedFd<'a>,
    out: Hashing<W>,
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// The first name of each file that has several.
    links: HashMap<u64, Vec<u8>>,
    size: u64,
    buffer: Vec<u8>,
}

/// A path's directory and its name there.
fn parted(path: &[u8]) -> (&[u8], &[u8]) {
    let cut = path.iter().rposition(|byte| *byte == b'/');
    cut.map_or((&b""[..], path), |cut| (&path[..cut], &path[cut + 1..]))
}

impl<W: Write> Packer<'_, W> {
    /// The changes, and the other names of the files among them.
    fn with_other_names<'c>(&mut self, changes: Vec<&'c Change>, more: &'c mut Vec<Change>) -> Result<Vec<&'c Change>> {
        let mut links = Links::default();
        for change in changes.iter().filter(|change| change.kind != ChangeKind::Deleted) {
            let path = change.path.as_os_str().as_bytes();
            let (parent, name) = parted(path);
            let stat = self.enter(parent).and_then(|()| {
                let Some((_, parent)) = &self.parent else { return Err(Errno::NOENT) };
                fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            });
            links.name(&stat.act(|| format!("look at {}", shown(path)))?);
        }
        links.complete(self.root, changes, more)
    }

    fn change(&mut self, change: &Change) -> Result<()> {
        let path = change.path.as_os_str().as_bytes();
        let (parent, name) = parted(path);
        let deleted = change.kind == ChangeKind::Deleted;
        match self.enter(parent) {
            // The directory that held it made way for something else, and took it along.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if deleted => return Ok(()),
            entered => entered.act(|| "open its directory")?,
        }
        if name.starts_with(b".wh.") {
            return Err(Error::new(Kind::Invalid, "a layer cannot hold a name that starts with '.wh.'"));
        }
        if deleted {
            let mut whiteout = parent.to_vec();
            if !parent.is_empty() {
                whiteout.push(b'/');
            }
            whiteout.extend_from_slice(b".wh.");
            whiteout.extend_from_slice(name);
            return self.head(&Entry::whiteout(whiteout));
        }
        self.entry(path, name)
    }

    fn enter(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        if self.parent.as_ref().is_some_and(|(parent, _)| parent == path) {
            return Ok(());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let name = if path.is_empty() { b"." } else { path };
        let fd = fs::openat2(self.root, name, flags, Mode::empty(), resolve)?;
        self.parent = Some((path.to_vec(), fd));
        Ok(())
    }

    fn entry(&mut self, path: &[u8], name: &[u8]) -> Result<()> {
        let Some((_, parent)) = &self.parent else { return Ok(()) };
        let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).act(|| "look at it")?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            // A socket means nothing without its process; no tar program stores one.
            return Ok(());
        }
        let mut entry = Entry::new(path.to_vec(), &stat, kind)?;
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                entry.link_to(first.clone());
                return self.head(&entry);
            }
            self.links.insert(stat.st_ino, path.to_vec());
        }
        if kind == FileType::Symlink {
            let target = fs::readlinkat(parent, name, Vec::new()).act(|| "read its target")?;
            entry.link = target.into_bytes();
        }
        entry.xattrs = xattrs(parent, name)?;
        if kind != FileType::RegularFile {
            return self.head(&entry);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(parent, name, flags, Mode::empty()).act(|| "open it")?;
        self.head(&entry)?;
        self.content(&file, &stat)
    }

    fn head(&mut self, entry: &Entry) -> Result<()> {
        let bytes = entry.bytes();
        self.write(&bytes)
    }

    fn content(&mut self, file: &OwnedFd, stat: &Stat) -> Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let mut left = size;
        while left > 0 {
            interrupt::check()?;
            let most = BUFFER.min(usize::try_from(left).unwrap_or(BUFFER));
            let count = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut self.buffer[..most]));
            let count = count.act(|| "read it")?;
            if count == 0 {
                return Err(Error::new(Kind::Corrupt, format!("it ended {left} bytes before its size of {size}")));
            }
            self.out.write_all(&self.buffer[..count]).act(|| "write the layer archive")?;
            left -= count as u64;
        }
        self.size += size;
        self.write(&[0; 512][..header::padding(size)])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).act(|| "write the layer archive")
    }
}

/// The attributes that belong to the layer, sorted by name.
///
/// # Errors
/// `Invalid` for a name with a NUL, which no file has; the kernel's reason.
pub(crate) fn xattrs(parent: &impl AsFd, name: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let name = CString::new(name).map_err(|_| Error::new(Kind::Invalid, "a name holds a NUL"))?;
    let found = Place::new(parent, &name).xattrs()?;
    let of_layer = found.into_iter().map(|(name, value)| (name.into_bytes(), value));
    Ok(of_layer.filter(|(name, _)| is_content(name)).collect())
}
