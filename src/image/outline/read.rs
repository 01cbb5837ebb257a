//! A tar again from its outline and the snapshot that has its files.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::{CONTENT, END, LITERAL, MAGIC};
use crate::{
    error::{Act as _, Error, Kind, Result},
    image::{
        compression::{Compression, decode},
        read_error, shown,
    },
};

/// The bytes of the tar, of which `T` has the files.
pub(in crate::image) struct Outlined<T> {
    records: Box<dyn Read + Send>,
    tree: T,
    now: Part,
}

enum Part {
    /// So many bytes stand in the outline itself.
    Literal(u64),
    /// So many stand in this file.
    Content(File, u64, Vec<u8>),
    /// The kept archive is no outline but the tar, which begins with these bytes.
    Whole(io::Cursor<[u8; MAGIC.len()]>),
    End,
}

impl<T: AsFd> Outlined<T> {
    /// Reads the outline in `file`, whose files are below the directory `tree`.
    ///
    /// # Errors
    /// `Corrupt`, or the system's.
    pub(in crate::image) fn new(file: File, tree: T) -> Result<Self> {
        let mut records = decode(Compression::Zstd, file)?;
        let mut magic = [0; MAGIC.len()];
        records.read_exact(&mut magic).map_err(|error| read_error(error, "read the first bytes of an outline"))?;
        let now = if magic == MAGIC { Part::Literal(0) } else { Part::Whole(io::Cursor::new(magic)) };
        Ok(Self { records, tree, now })
    }

    fn next(&mut self) -> io::Result<Part> {
        let [tag] = self.array()?;
        match tag {
            LITERAL => Ok(Part::Literal(u64::from_le_bytes(self.array()?))),
            CONTENT => {
                let length = u64::from_le_bytes(self.array()?);
                let mut path = vec![0; usize::from(u16::from_le_bytes(self.array()?))];
                self.records.read_exact(&mut path)?;
                let file = open(self.tree.as_fd(), &path).map_err(io::Error::other)?;
                Ok(Part::Content(file, length, path))
            }
            END => Ok(Part::End),
            other => Err(corrupt(format!("the outline has a record of kind {other}"))),
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        self.records.read_exact(&mut array).map(|()| array)
    }
}

impl<T: AsFd> Read for Outlined<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.now {
                Part::Literal(0) | Part::Content(_, 0, _) => self.now = self.next()?,
                Part::Literal(left) => match (&mut self.records).take(*left).read(buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => {
                        *left -= count as u64;
                        return Ok(count);
                    }
                },
                Part::Content(file, left, path) => match file.take(*left).read(buffer)? {
                    0 => return Err(corrupt(format!("its file {} has lost its last {left} bytes", shown(path)))),
                    count => {
                        *left -= count as u64;
                        return Ok(count);
                    }
                },
                Part::Whole(start) => match start.read(buffer)? {
                    0 => return self.records.read(buffer),
                    count => return Ok(count),
                },
                Part::End => return Ok(0),
            }
        }
    }
}

impl<T> fmt::Debug for Outlined<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlined").finish_non_exhaustive()
    }
}

fn corrupt(what: String) -> io::Error {
    io::Error::other(Error::new(Kind::Corrupt, what))
}

/// Opens a regular file and nothing else, inside `tree`: an outline is believed no more than an archive.
fn open(tree: BorrowedFd<'_>, path: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let act = || format!("open its file {}", shown(path));
    let opened = rustix::fs::openat2(tree, OsStr::from_bytes(path), flags, Mode::empty(), resolve);
    let file: OwnedFd = opened.act(act).map_err(|error| error.as_kind(Kind::Corrupt))?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file).act(act)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        other => Err(Error::new(Kind::Corrupt, format!("{}: it is now {other:?}", act()))),
    }
}
