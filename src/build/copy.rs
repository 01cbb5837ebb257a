//! `COPY` and `ADD`: files of a source become a layer archive, which is unpacked like any other.
//!
//! The archive never lies anywhere: it goes through a pipe from the thread that reads the source to the unpacker, whose
//! rules keep everything inside the image's tree.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{self, BufWriter, Read, Write},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    thread,
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::{
    fingerprint::Fingerprint,
    ignore::Ignore,
    permissions::Permissions,
    source::{Entry, KeptDirectory, Match, Source},
    target::{Resolved, resolve},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::is_dir,
    id::{Digest, Hashing},
    image::{
        pack::{Header, padding},
        unpack::unpack,
    },
    interrupt,
    units::Bytes,
};

/// What is the same for all files of one instruction.
#[derive(Debug, Default)]
pub(super) struct How {
    /// What of the source is left out.
    pub(super) exclude: Ignore,
    /// Owner of everything; `None` keeps the source's.
    pub(super) owner: Option<(u32, u32)>,
    /// Permissions of everything.
    pub(super) mode: Option<Permissions>,
    /// The time of what the source has no time for: directories on the way, here-documents.
    pub(super) now: i64,
}

/// What an instruction copies.
#[derive(Debug)]
pub(super) enum Piece {
    /// Files of the source.
    Found(Match),
    /// An archive of the source, whose content is meant.
    Archive(Match),
    /// A here-document.
    Text { name: String, content: String },
}

impl Piece {
    fn name(&self) -> &[u8] {
        match self {
            Self::Found(found) | Self::Archive(found) => &found.name,
            Self::Text { name, .. } => name.as_bytes(),
        }
    }

    /// The archive that it is.
    pub(super) fn archive(&self) -> Option<&Match> {
        if let Self::Archive(found) = self { Some(found) } else { None }
    }

    pub(super) fn is_archive(&self) -> bool {
        self.archive().is_some()
    }

    pub(super) fn is_dir(&self) -> bool {
        matches!(self, Self::Found(Match { is_dir: true, .. }))
    }
}

/// Copies `pieces` of `source` to `dest`, an absolute path of the image at `root`. One that ends with a slash is a
/// directory, and made if nothing is copied; so is one below which what is copied keeps its directories. Archives are not
/// unpacked here.
///
/// # Errors
/// `Invalid` for several files and a destination that is no directory; those of reading and unpacking.
pub(super) fn copy(
    root: BorrowedFd<'_>,
    source: &Source<'_>,
    pieces: &[Piece],
    dest: &str,
    how: &How,
    room: &mut dyn FnMut(Bytes) -> Result<()>,
) -> Result<()> {
    let target = resolve(root, Path::new(dest))?;
    let keeps = pieces.iter().any(|piece| matches!(piece, Piece::Found(Match { kept: Some(_), .. })));
    let as_directory = dest.ends_with('/') || keeps || target.is_dir && target.missing == 0;
    if !as_directory && pieces.len() > 1 {
        let what = format!("copy several files to {dest}: it must be a directory and end with a /");
        return Err(Error::new(Kind::Invalid, what));
    }
    let (reader, writer) = io::pipe().act(|| "make a pipe")?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let out = BufWriter::with_capacity(1 << 18, writer);
            let mut sender = Sender { out, root, source, how, made: BTreeSet::new() };
            sender.send(pieces, &target, as_directory)
        });
        let unpacked = unpack(root, reader, room);
        let sent = sender.join().unwrap_or_else(|_| Err(Error::new(Kind::Io, "the copying thread panicked")));
        match (sent, unpacked) {
            // The unpacker gave up first, and knows why.
            (Err(sent), Err(unpacked)) if sent.errno() == Some(libc::EPIPE) => Err(unpacked),
            (Err(sent), _) => Err(sent),
            (Ok(()), unpacked) => unpacked.map(drop),
        }
    })
}

/// Joined with nothing, a path would end with a slash, as only a directory may.
fn joined(base: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { base.to_owned() } else { base.join(below) }
}

pub(super) fn changed() -> Error {
    Error::new(Kind::Corrupt, "it changed while the build read it; build again")
}

struct Sender<'a, W: Write> {
    out: W,
    root: BorrowedFd<'a>,
    source: &'a Source<'a>,
    how: &'a How,
    /// Directories that were sent.
    made: BTreeSet<PathBuf>,
}

impl<W: Write> Sender<'_, W> {
    fn send(&mut self, pieces: &[Piece], target: &Resolved, as_directory: bool) -> Result<()> {
        if as_directory {
            self.directories_above(&target.path.join("below"))?;
        }
        for piece in pieces {
            let base = match piece {
                Piece::Found(Match { kept: Some(kept), .. }) => joined(&target.path, &kept.path()),
                piece if as_directory && !piece.is_dir() => target.path.join(OsStr::from_bytes(piece.name())),
                _ => target.path.clone(),
            };
            if let Piece::Found(found) = piece {
                self.kept_directories(found, &target.path)?;
            }
            self.directories_above(&base)?;
            match piece {
                Piece::Found(found) => self.found(found, &base)?,
                Piece::Text { content, .. } => self.text(&base, content)?,
                Piece::Archive(_) => {}
            }
        }
        self.write(&[0; 1024])?;
        self.out.flush().act(|| "pass a layer on")
    }

    /// The cache's key says what was read before: if that is no longer so, the layer must not be found under it.
    fn found(&mut self, found: &Match, base: &Path) -> Result<()> {
        let (source, how) = (self.source, self.how);
        let mut print = Fingerprint::new(source, found)?;
        source.entries(found, &how.exclude, &mut |entry| {
            interrupt::check()?;
            print.entry(entry);
            self.entry(entry, &joined(base, entry.below), &mut print)
        })?;
        if found.seen.is_some_and(|seen| seen.all != print.finish()) {
            return Err(changed())
                .act(|| format!("copy {} of {}", Path::new(".").join(&found.path).display(), source.name));
        }
        Ok(())
    }

    /// Makes the directories that a match keeps, as the source has them.
    fn kept_directories(&mut self, found: &Match, target: &Path) -> Result<()> {
        for KeptDirectory { below, stat, xattrs } in self.source.kept_directories(found)? {
            let path = target.join(&below);
            self.directories_above(&path)?;
            let mut header = Header::new(path.as_os_str().as_bytes().to_vec(), &stat, FileType::Directory)?;
            header.xattrs = xattrs;
            if !self.source.keeps_owners {
                header.set_owner((0, 0));
            }
            if let Some(mode) = &self.how.mode {
                header.set_mode(mode.of(stat.st_mode, true));
            }
            self.directory(&path, header)?;
        }
        Ok(())
    }

    /// Makes what is missing on the way, as `mkdir -p` does.
    fn directories_above(&mut self, path: &Path) -> Result<()> {
        let above: Vec<&Path> = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
        for directory in above.into_iter().rev() {
            self.directory(
                directory,
                Header::directory(directory.as_os_str().as_bytes().to_vec(), 0o755, self.how.now),
            )?;
        }
        Ok(())
    }

    /// A directory that is there keeps what it is.
    fn directory(&mut self, path: &Path, mut header: Header) -> Result<()> {
        let there = resolve(self.root, path)?;
        if there.missing == 0 && !there.is_dir {
            let what = format!("copy to /{}: it is a file in the image, and would be a directory", path.display());
            return Err(Error::new(Kind::Invalid, what));
        }
        if there.missing == 0 || !self.made.insert(path.to_owned()) {
            return Ok(());
        }
        self.own(&mut header);
        self.write(&header.bytes())
    }

    fn own(&self, header: &mut Header) {
        if let Some(owner) = self.how.owner {
            header.set_owner(owner);
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, path: &Path, print: &mut Fingerprint) -> Result<()> {
        let source = self.source;
        let kind = FileType::from_raw_mode(entry.stat.st_mode);
        let mut header = Header::new(path.as_os_str().as_bytes().to_vec(), entry.stat, kind)?;
        if !source.keeps_owners {
            header.set_owner((0, 0));
        }
        if let Some(mode) = self.how.mode.as_ref().filter(|_| kind != FileType::Symlink) {
            header.set_mode(mode.of(entry.stat.st_mode, kind == FileType::Directory));
        }
        if kind == FileType::Directory {
            header.xattrs = source.xattrs(entry.path)?;
            print.xattrs(&header.xattrs);
            // The root of the image is there always.
            return if path.as_os_str().is_empty() { Ok(()) } else { self.directory(path, header) };
        }
        self.refuse(path)?;
        self.own(&mut header);
        if kind == FileType::Symlink {
            header.link = source.link(entry.path)?;
            print.link(&header.link);
        }
        if kind != FileType::RegularFile {
            return self.write(&header.bytes());
        }
        let file = source.content(entry.path)?;
        header.xattrs = source.xattrs(entry.path)?;
        print.xattrs(&header.xattrs);
        self.write(&header.bytes())?;
        let content = self.content(file, entry).act(|| format!("copy {} of {}", entry.path.display(), source.name))?;
        print.file(content);
        Ok(())
    }

    /// Refuses to put a file where a directory is, and under a name that would remove another.
    fn refuse(&self, path: &Path) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Kind::Invalid, format!("copy to /{}: {why}", path.display())));
        if path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".wh.")) {
            return refuse("in a layer, a name that begins with '.wh.' removes another");
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat2(self.root, Path::new(".").join(path), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(fd) if is_dir(&fstat(&fd).act(|| "look at what is there")?) => {
                refuse("it is a directory in the image, and would be a file")
            }
            // Whatever else keeps it from being there, the unpacker meets, too.
            _ => Ok(()),
        }
    }

    fn content(&mut self, file: impl Read, entry: &Entry<'_>) -> Result<Digest> {
        let size = u64::try_from(entry.stat.st_size).unwrap_or_default();
        let mut out = Hashing::new(&mut self.out);
        let copied = io::copy(&mut file.take(size), &mut out).act(|| "read it")?;
        let (_, digest, _) = out.finish();
        if copied != size {
            return Err(changed());
        }
        self.write(&[0; 512][..padding(size)])?;
        Ok(digest)
    }

    fn text(&mut self, path: &Path, content: &str) -> Result<()> {
        let size = content.len() as u64;
        let mode = self.how.mode.as_ref().map_or(0o644, |mode| mode.of(0o644, false));
        let mut header = Header::file(path.as_os_str().as_bytes().to_vec(), mode, self.how.now, size);
        self.own(&mut header);
        self.write(&header.bytes())?;
        self.write(content.as_bytes())?;
        self.write(&[0; 512][..padding(size)])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).act(|| "pass a layer on")
    }
}
