//! A directory tree, or one file, as a tar archive: what `cp` and `export` send.
//!
//! Invariant: nothing is followed and nothing but regular files and directories is opened, so a tree that is written
//! meanwhile by somebody hostile leads nowhere else; at worst the archive is refused half way.

use std::{
    collections::HashMap,
    io::Write,
    os::fd::{AsFd as _, BorrowedFd},
    os::unix::ffi::OsStrExt as _,
};

use rustix::fs::{FileType, Stat, fstat};

use super::{Header, padding, xattrs};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{Place, Way, file_type, identity, is_dir, walk},
    image::shown,
    interrupt,
    units::Bytes,
};

/// Whose the files in an archive are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// As they are, attributes included.
    Kept,
    /// All root's, and without attributes.
    Root,
}

/// Writes archives; see the module's comment.
#[derive(Debug)]
pub struct TreePacker<W> {
    out: W,
    owners: Owners,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    size: u64,
    buffer: Vec<u8>,
}

impl<W: Write> TreePacker<W> {
    /// Begins an archive.
    pub fn new(out: W, owners: Owners) -> Self {
        Self { out, owners, links: HashMap::new(), size: 0, buffer: vec![0; super::BUFFER] }
    }

    /// Adds all below the directory `root`, under names that begin with `name`; without a name, `root` itself has none
    /// in the archive either.
    ///
    /// # Errors
    /// When something cannot be read or written; `Interrupted`.
    pub fn directory(&mut self, root: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        if !name.is_empty() {
            let stat = fstat(root).act(|| "look at the directory")?;
            self.entry(Place { dir: root, name: c"." }, &stat, name)?;
        }
        walk(root, &mut |found| {
            let below = found.path.as_os_str().as_bytes();
            let path = if name.is_empty() { below.to_vec() } else { [name, below].join(&b'/') };
            match self.entry(found.place, found.stat, &path) {
                // Somebody who writes in the tree has removed it before anything of it was written here.
                Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Way::On),
                packed => packed.act(|| format!("pack {}", shown(&path))).map(|()| Way::Down),
            }
        })
    }

    /// Adds one entry, not what is below it.
    ///
    /// # Errors
    /// As [`TreePacker::directory`].
    pub fn entry(&mut self, place: Place<'_>, stat: &Stat, name: &[u8]) -> Result<()> {
        interrupt::check()?;
        let kind = file_type(stat);
        if kind == FileType::Socket {
            // A socket means nothing without its process; no tar program stores one.
            return Ok(());
        }
        if kind == FileType::RegularFile {
            return self.file(place, name);
        }
        let target = if kind == FileType::Symlink { place.link_target()?.into_bytes() } else { Vec::new() };
        let Some(mut header) = self.header(place, stat, name)? else { return Ok(()) };
        header.link = target;
        self.write(&header.bytes())
    }

    /// A header with owner and attributes; a further name of a file that was packed is written at once.
    fn header(&mut self, place: Place<'_>, stat: &Stat, name: &[u8]) -> Result<Option<Header>> {
        let mut header = Header::new(name.to_vec(), stat, file_type(stat))?;
        if self.owners == Owners::Root {
            header.set_owner((0, 0));
            header.set_mode(of_root(stat.st_mode, (stat.st_uid, stat.st_gid)));
        }
        let several = !is_dir(stat) && stat.st_nlink > 1;
        if let Some(first) = self.links.get(&identity(stat)).filter(|_| several) {
            header.link_to(first.clone());
            return self.write(&header.bytes()).map(|()| None);
        }
        if self.owners == Owners::Kept {
            header.xattrs = xattrs(&place.dir, place.name.to_bytes()).act(|| "read its attributes")?;
        }
        if several {
            self.links.insert(identity(stat), name.to_vec());
        }
        Ok(Some(header))
    }

    fn file(&mut self, place: Place<'_>, name: &[u8]) -> Result<()> {
        let mut file = place.open_file()?;
        // What it is now, and not what it was when it was looked at.
        let stat = fstat(file.as_fd()).act(|| "look at it")?;
        let Some(header) = self.header(place, &stat, name)? else { return Ok(()) };
        self.write(&header.bytes())?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let mut left = size;
        while left > 0 {
            interrupt::check()?;
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match std::io::Read::read(&mut file, &mut self.buffer[..most]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                count => count.act(|| "read it")?,
            };
            if count == 0 {
                return Err(Error::new(Kind::InUse, format!("it was cut off by {left} bytes while it was read")));
            }
            self.out.write_all(&self.buffer[..count]).act(|| "write the archive")?;
            left -= count as u64;
        }
        self.size += size;
        self.write(&[0; 512][..padding(size)])
    }

    /// Ends the archive; tells the apparent bytes of its files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<Bytes> {
        self.write(&[0; 1024])?;
        self.out.flush().act(|| "write the archive")?;
        Ok(Bytes(self.size))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).act(|| "write the archive")
    }
}

/// The permissions of what becomes root's: a program that runs as its owner or group must not run as root then.
fn of_root(mode: u32, (user, group): (u32, u32)) -> u32 {
    let bits = |owner: u32, bit: u32| if owner == 0 { 0 } else { bit };
    mode & !bits(user, 0o4000) & !bits(group, 0o2000)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd as _};

    use super::{Owners, TreePacker};

    #[test]
    fn what_becomes_roots_runs_as_nobody_else() {
        for (owner, wanted) in [((33, 34), 0o755), ((0, 34), 0o4755), ((33, 0), 0o2755), ((0, 0), 0o6755)] {
            assert_eq!(super::of_root(0o6755, owner), wanted, "{owner:?}");
        }
    }

    #[test]
    fn a_tree_is_packed_under_a_name_or_without() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/f"), "hello").unwrap();
        fs::hard_link(at("d/f"), at("d/g")).unwrap();
        std::os::unix::fs::symlink("/etc", at("link")).unwrap();
        let root = fs::File::open(directory.path()).unwrap();
        for (name, wanted) in
            [("", ["d/", "d/f", "d/g", "link"].as_slice()), ("x", &["x/", "x/d/", "x/d/f", "x/d/g", "x/link"])]
        {
            let mut bytes = Vec::new();
            let mut packer = TreePacker::new(&mut bytes, Owners::Root);
            packer.directory(root.as_fd(), name.as_bytes()).unwrap();
            assert_eq!(packer.finish().unwrap().0, 5);
            let mut archive = tar::Archive::new(&bytes[..]);
            let names: Vec<String> = archive
                .entries()
                .unwrap()
                .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap())
                .collect();
            assert_eq!(names, wanted);
        }
    }
}
