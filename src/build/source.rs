//! Where `COPY` and `ADD` take files from: the build context, a stage, an image. Never from outside of it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{fingerprint::Fingerprint, ignore::Ignore, pattern::Pattern};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{Place, Way, names, walk},
    id::Digest,
    image::pack::xattrs,
    interrupt,
};

/// A tree to copy from.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) root: BorrowedFd<'a>,
    /// What is left out; the context has such a list.
    pub(super) ignore: Option<&'a Ignore>,
    /// Whether owners are kept: files of a context belong to whoever wrote them and become root's, those of an image
    /// are as they should be.
    pub(super) keeps_owners: bool,
    /// For errors.
    pub(super) name: String,
}

/// A file or directory that a pattern of an instruction found. What lies below is looked at when it is needed, not held: a
/// context may have millions of files.
#[derive(Debug)]
pub(super) struct Match {
    /// Where it lies, below the source's root.
    pub(super) path: PathBuf,
    /// What the last part of its name is.
    pub(super) name: Vec<u8>,
    pub(super) is_dir: bool,
    pub(super) is_file: bool,
    /// Which of the directories above come with it, if `--parents` asks for them.
    pub(super) kept: Option<Kept>,
    /// Once [`Source::digest`] has read it: the digest of all that a copy shows, and of a file's content.
    pub(super) seen: Option<Seen>,
}

impl Match {
    /// What `--exclude` calls it.
    pub(super) fn excludable(&self) -> Vec<u8> {
        self.kept.as_ref().map_or_else(|| self.name.clone(), |kept| kept.below.as_os_str().as_bytes().to_vec())
    }
}

/// A match that keeps the directories from a place of the source on.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// That place.
    pivot: PathBuf,
    /// Where the match lies below it.
    below: PathBuf,
}

impl Kept {
    /// Where the match goes below the destination.
    pub(super) fn path(&self) -> PathBuf {
        self.below.clone()
    }
}

/// A directory that comes with a match.
#[derive(Debug)]
pub(super) struct KeptDirectory {
    /// Where it goes below the destination.
    pub(super) below: PathBuf,
    pub(super) stat: Stat,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What was read of a match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) all: Digest,
    pub(super) content: Option<Digest>,
}

/// One entry to copy: the match itself, or what lies below it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Where it lies, below the source's root.
    pub(super) path: &'a Path,
    /// Its name below the match; empty for the match itself.
    pub(super) below: &'a Path,
    pub(super) stat: &'a Stat,
}

impl Source<'_> {
    /// What `pattern` finds, in order of the alphabet. Only with a wildcard may that be nothing, as in BuildKit: Dockerfiles
    /// take files that may be there so (`package-lock.json*`).
    ///
    /// # Errors
    /// `NotFound` if a name is not there; `Invalid` for a pattern that is none or leads outside.
    pub(super) fn find(&self, pattern: &str) -> Result<Vec<Match>> {
        let paths = self.paths(pattern)?;
        if paths.is_empty() && !has_magic(pattern.as_bytes()) {
            return Err(self.missing(pattern));
        }
        paths.iter().map(|path| self.at(path)).collect()
    }

    /// What `pattern` finds, each with the directories above it from the pattern's `/./` on, or from the source's root.
    ///
    /// # Errors
    /// As [`Source::find`].
    pub(super) fn find_with_parents(&self, pattern: &str) -> Result<Vec<Match>> {
        let (pivot, below) = pattern.split_once("/./").unwrap_or(("", pattern));
        if pivot.contains("**") {
            let what = format!("'{pattern}': before '/./', where a path is cut, '**' cannot stand for any directories");
            return Err(Error::new(Kind::Invalid, what));
        }
        // Each of its parts finds one name.
        let cut = clean(pivot, &self.name)?.len();
        let within = if cut == 0 { self.name.clone() } else { format!("'{pivot}' of {}", self.name) };
        clean(below, &within)?;
        let whole = format!("{pivot}/{below}");
        let paths = if below.contains("**") { self.tree_paths(&whole)? } else { self.paths(&whole)? };
        if paths.is_empty() && !has_magic(pattern.as_bytes()) {
            return Err(self.missing(pattern));
        }
        let found = paths.iter().map(|path| {
            let (pivot, below) = (path.iter().take(cut).collect(), path.iter().skip(cut).collect());
            Ok(Match { kept: Some(Kept { pivot, below }), ..self.at(path)? })
        });
        found.collect()
    }

    /// The directories that come with a match, from above, and what they are.
    pub(super) fn kept_directories(&self, found: &Match) -> Result<Vec<KeptDirectory>> {
        let Some(Kept { pivot, below }) = &found.kept else { return Ok(Vec::new()) };
        let above: Vec<&Path> = below.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
        let look = |above: &Path| {
            let path = pivot.join(above);
            Ok(KeptDirectory { below: above.to_owned(), stat: self.stat(&path)?, xattrs: self.xattrs(&path)? })
        };
        above.into_iter().rev().map(look).collect()
    }

    fn missing(&self, pattern: &str) -> Error {
        let ignored = if self.ignore.is_some() { " or excluded by .dockerignore" } else { "" };
        Error::new(Kind::NotFound, format!("'{pattern}' is not in {}{ignored}", self.name))
    }

    /// The paths that a pattern names in which `**` stands for any directories; of a directory that it names, not what lies
    /// below.
    fn tree_paths(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        let parts = clean(pattern, &self.name)?;
        let fixed = parts.iter().take_while(|part| !has_magic(part)).count();
        let top: PathBuf = parts[..fixed].iter().map(|part| OsStr::from_bytes(part)).collect();
        let pattern = Pattern::parse_tree(&parts[fixed..].join(&b'/'))?;
        let Some(directory) = self.open(&top)? else { return Ok(Vec::new()) };
        if !is_directory(&directory)? {
            return Ok(Vec::new());
        }
        let mut paths = Vec::new();
        walk(Place::new(&directory, c".").open_dir()?.as_fd(), &mut |found| {
            interrupt::check()?;
            let path = top.join(found.path);
            let excluded = self.is_excluded(&path);
            if excluded && !self.may_include_below(&path) {
                return Ok(Way::On);
            }
            if !excluded && pattern.matches(found.path.as_os_str().as_bytes()) {
                paths.push(path);
                return Ok(Way::On);
            }
            Ok(Way::Down)
        })?;
        Ok(paths)
    }

    /// What lies at a path, which is no pattern.
    ///
    /// # Errors
    /// As [`Source::find`].
    pub(super) fn named(&self, path: &str) -> Result<Match> {
        let literal: PathBuf = clean(path, &self.name)?.iter().map(|part| OsStr::from_bytes(part)).collect();
        if self.open(&literal)?.is_none() || self.is_excluded(&literal) && !self.may_include_below(&literal) {
            return Err(self.missing(path));
        }
        self.at(&literal)
    }

    /// The paths that a pattern names.
    fn paths(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        let mut found = vec![PathBuf::new()];
        for part in clean(pattern, &self.name)? {
            let mut next = Vec::new();
            for path in found {
                if has_magic(&part) {
                    next.extend(self.matching(&path, &Pattern::parse(&part)?)?);
                } else {
                    next.push(path.join(OsStr::from_bytes(&part)));
                }
            }
            found = next;
        }
        let mut there = Vec::new();
        for path in found {
            let Some(fd) = self.open(&path)? else { continue };
            // A directory that is left out may hold what is not.
            let may_hold = || -> Result<bool> { Ok(self.may_include_below(&path) && is_directory(&fd)?) };
            if !self.is_excluded(&path) || may_hold()? {
                there.push(path);
            }
        }
        Ok(there)
    }

    fn matching(&self, directory: &Path, pattern: &Pattern) -> Result<Vec<PathBuf>> {
        let Some(fd) = self.open(directory)? else { return Ok(Vec::new()) };
        if !is_directory(&fd)? {
            return Ok(Vec::new());
        }
        let fitting = names(Place::new(&fd, c".").open_dir()?.as_fd())?.into_iter();
        let fitting = fitting.filter(|name| pattern.matches(name.to_bytes()));
        Ok(fitting.map(|name| directory.join(OsStr::from_bytes(name.to_bytes()))).collect())
    }

    fn is_excluded(&self, path: &Path) -> bool {
        !path.as_os_str().is_empty() && self.ignore.is_some_and(|ignore| ignore.excludes(path.as_os_str().as_bytes()))
    }

    fn may_include_below(&self, excluded: &Path) -> bool {
        self.ignore.is_some_and(|ignore| ignore.may_include_below(excluded.as_os_str().as_bytes()))
    }

    /// Opens the name; symlinks are followed inside the source.
    fn open(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match openat2(self.root, Path::new(".").join(path), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno).act(|| format!("look for {} in {}", path.display(), self.name)),
        }
    }

    fn at(&self, path: &Path) -> Result<Match> {
        let kind = FileType::from_raw_mode(self.stat(path)?.st_mode);
        let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
        let (is_dir, is_file) = (kind == FileType::Directory, kind == FileType::RegularFile);
        Ok(Match { path: path.to_owned(), name, is_dir, is_file, kept: None, seen: None })
    }

    pub(super) fn stat(&self, path: &Path) -> Result<Stat> {
        let act = || format!("look at {} in {}", path.display(), self.name);
        let fd = self.open(path)?.ok_or_else(|| Error::new(Kind::NotFound, act()))?;
        fstat(&fd).act(act)
    }

    /// Visits a match and, of a directory, what lies below, parents first, names in the order of their bytes. What
    /// `exclude` excludes, by the names below the match or below what it keeps, is left out.
    pub(super) fn entries(
        &self,
        found: &Match,
        exclude: &Ignore,
        visit: &mut dyn FnMut(&Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let root = found.path.as_path();
        let kept = found.kept.as_ref().map(Kept::path);
        visit(&Entry { path: root, below: Path::new(""), stat: &self.stat(root)? })?;
        if !found.is_dir {
            return Ok(());
        }
        let act = || format!("look at {} in {}", root.display(), self.name);
        let gone = || Error::new(Kind::NotFound, act());
        let directory = Place::new(&self.open(root)?.ok_or_else(gone)?, c".").open_dir().act(act)?;
        walk(directory.as_fd(), &mut |found| {
            let path = root.join(found.path);
            if self.is_excluded(&path) {
                return Ok(if self.may_include_below(&path) { Way::Down } else { Way::On });
            }
            let is_socket = FileType::from_raw_mode(found.stat.st_mode) == FileType::Socket;
            let name = kept.as_ref().map(|kept| kept.join(found.path));
            let name = name.as_deref().unwrap_or(found.path);
            if !is_socket && !exclude.excludes(name.as_os_str().as_bytes()) {
                visit(&Entry { path: &path, below: found.path, stat: found.stat })?;
            }
            Ok(Way::Down)
        })
        .act(act)
    }

    /// Opens the content of a regular file.
    pub(super) fn content(&self, path: &Path) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat2(self.root, Path::new(".").join(path), flags, Mode::empty(), ResolveFlags::IN_ROOT);
        Ok(File::from(fd.act(|| format!("open {} in {}", path.display(), self.name))?))
    }

    /// The attributes of a file or directory that belong into a layer, as file capabilities do.
    pub(super) fn xattrs(&self, path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let act = || format!("read the attributes of {} in {}", path.display(), self.name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = Path::new(".").join(path.parent().unwrap_or(Path::new("")));
        let parent = openat2(self.root, above, flags, Mode::empty(), ResolveFlags::IN_ROOT).act(act)?;
        xattrs(&parent, path.file_name().unwrap_or(OsStr::new(".")).as_bytes()).act(act)
    }

    /// The target of a symlink.
    pub(super) fn link(&self, path: &Path) -> Result<Vec<u8>> {
        let act = || format!("read link {} in {}", path.display(), self.name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat2(self.root, Path::new(".").join(path), flags, Mode::empty(), ResolveFlags::IN_ROOT).act(act)?;
        Ok(readlinkat(&fd, c"", Vec::new()).act(act)?.into_bytes())
    }

    /// Reads everything about a match that a copy of it shows, and notes its digest, so that the copy can be held to it.
    pub(super) fn digest(&self, found: &mut Match, exclude: &Ignore) -> Result<Digest> {
        let mut print = Fingerprint::new(self, found)?;
        let mut content = None;
        self.entries(found, exclude, &mut |entry| {
            interrupt::check()?;
            print.entry(entry);
            match FileType::from_raw_mode(entry.stat.st_mode) {
                FileType::RegularFile => {
                    let digest = self.file_digest(entry.path)?;
                    content = Some(digest);
                    print.xattrs(&self.xattrs(entry.path)?);
                    print.file(digest);
                }
                FileType::Directory => print.xattrs(&self.xattrs(entry.path)?),
                FileType::Symlink => print.link(&self.link(entry.path)?),
                _ => {}
            }
            Ok(())
        })?;
        let all = print.finish();
        found.seen = Some(Seen { all, content: content.filter(|_| found.is_file) });
        Ok(all)
    }

    /// The digest of what lies at a path.
    pub(super) fn digest_at(&self, path: &str) -> Result<Digest> {
        self.digest(&mut self.named(path)?, &Ignore::default())
    }

    fn file_digest(&self, path: &Path) -> Result<Digest> {
        let mut file = self.content(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            interrupt::check()?;
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Digest::finish(hasher)),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).act(|| format!("read {} in {}", path.display(), self.name)),
            }
        }
    }
}

fn has_magic(part: &[u8]) -> bool {
    part.iter().any(|byte| b"*?[\\".contains(byte))
}

/// The parts of a path below a source, cleaned as Go's `path.Clean` does; `/x` is below it too.
fn clean(pattern: &str, name: &str) -> Result<Vec<Vec<u8>>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(Error::new(Kind::Invalid, format!("'{pattern}' leads out of {name}")));
                }
            }
            part => parts.push(part.as_bytes().to_vec()),
        }
    }
    Ok(parts)
}

fn is_directory(fd: &OwnedFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd).act(|| "look at it")?.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests;
