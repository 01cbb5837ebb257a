//! The tree being written: every path is resolved by the kernel inside the root, every last component unfollowed.
//!
//! Invariants: a parent is opened by `openat2(RESOLVE_IN_ROOT)`, so a symlink planted by anybody, absolute or with any
//! number of `..`, stays inside; no magic link is entered, and no other mount by a layer. Only one parent is held open at a time,
//! so no later member can have replaced it. A directory keeps its modification time when its content changes; only a
//! member of its own sets it, so that the result does not depend on the order or on the clock.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
};

use super::{name::Name, node, placed::Placed, prune};
use crate::{
    error::{Act as _, Error, Kind, Result, kind_of},
    image::{
        shown,
        tar::{Member, MemberKind},
    },
};

/// How often a resolution is tried again. `RESOLVE_IN_ROOT` gives up with EAGAIN when a rename or a mount happened
/// anywhere on the system while it stood at a `..` (`handle_dots` in fs/namei.c), so the next try is a fair one.
const TRIES: u32 = 1000;

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory held open while things in it change.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) ino: u64,
    mtime: Timespec,
    /// This layer made it.
    pub(super) ours: bool,
    /// New files in it inherit an access control list, which must be taken off again.
    inherits: bool,
    /// Its path leads through no symlink.
    direct: bool,
}

impl Dir {
    pub(super) fn new(fd: OwnedFd, placed: &Placed) -> rustix::io::Result<Self> {
        let stat = fs::fstat(&fd)?;
        let inherits = fs::fgetxattr_query(&fd, c"system.posix_acl_default").is_ok();
        let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        Ok(Self { fd, ino: stat.st_ino, mtime, ours: placed.is_ours(stat.st_ino), inherits, direct: false })
    }

    /// Gives it back the modification time that it had.
    pub(super) fn close(self) -> rustix::io::Result<()> {
        restore_mtime(self.fd.as_fd(), self.mtime)
    }
}

pub(super) fn restore_mtime(dir: BorrowedFd<'_>, mtime: Timespec) -> rustix::io::Result<()> {
    let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    fs::futimens(dir, &Timestamps { last_access: unchanged, last_modification: mtime })
}

/// A regular file being written.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) fd: OwnedFd,
    /// Its path leads to it whatever symlinks become.
    pub(super) named: bool,
    inherited: bool,
}

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    current: Option<(Vec<u8>, Dir)>,
    placed: Placed,
    before_loss: &'a dyn Fn() -> Result<()>,
    /// The directory that the archive is unpacked in, if it is one for people and not a layer.
    into: Option<&'a [u8]>,
    /// Whether a directory of the archive may be a symlink to one, and a hard link's target begin with a slash.
    follows: bool,
}

impl<'a> Tree<'a> {
    /// `before_loss` is called before anything of this layer goes again.
    pub(super) fn new(root: BorrowedFd<'a>, before_loss: &'a dyn Fn() -> Result<()>) -> Self {
        Self { root, current: None, placed: Placed::default(), before_loss, into: None, follows: false }
    }

    /// The tree for an archive of files rather than changes.
    pub(super) fn following(self) -> Self {
        Self { follows: true, ..self }
    }

    /// The tree of which only the directory `into` is meant.
    pub(super) fn into(self, into: &'a [u8]) -> Self {
        Self { into: Some(into), ..self }
    }

    /// Where a name of the archive lies.
    pub(super) fn below(&self, parent: Vec<u8>) -> Vec<u8> {
        match self.into {
            None | Some([]) => parent,
            Some(into) if parent.is_empty() => into.to_vec(),
            Some(into) => [into, &parent].join(&b'/'),
        }
    }

    /// Ends work in the present directory.
    pub(super) fn leave(&mut self) -> Result<()> {
        match self.current.take() {
            Some((path, dir)) => dir.close().act(|| format!("restore the time of directory {}", shown(&path))),
            None => Ok(()),
        }
    }

    /// Sets the root's own metadata.
    pub(super) fn root(&mut self, member: &Member) -> Result<()> {
        if member.kind != MemberKind::Directory {
            return Err(Error::new(Kind::Invalid, "the root can only be a directory"));
        }
        self.leave()?;
        let fd = self.open(b"")?;
        node::strip_xattrs(&fd)?;
        node::set_metadata(&fd, member)
    }

    /// A new empty regular file in place of whatever was there.
    pub(super) fn create(&mut self, parent: Vec<u8>, name: Vec<u8>) -> Result<NewFile> {
        self.enter(parent, true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (fd, inherited) =
            self.replace(&name, |dir| fs::openat(&dir.fd, &name[..], flags, Mode::RUSR | Mode::WUSR))?;
        Ok(NewFile { fd, named: self.present()?.direct, inherited })
    }

    /// Sets a written file's metadata.
    pub(super) fn finish(&self, file: &NewFile, member: &Member) -> Result<()> {
        if file.inherited {
            node::strip_xattrs(&file.fd)?;
        }
        node::set_metadata(&file.fd, member)
    }

    /// Makes anything but a regular file.
    pub(super) fn place(&mut self, member: &Member, parent: Vec<u8>, name: Vec<u8>) -> Result<()> {
        match member.kind {
            MemberKind::Directory => self.directory(member, parent, name),
            MemberKind::HardLink => self.hard_link(member, parent, name),
            _ => {
                self.enter(parent, true)?;
                node::refuse(member)?;
                let (_, inherited) = self.replace(&name, |dir| node::make(member, dir.fd.as_fd(), &name))?;
                let dir = self.present()?;
                if inherited && member.kind != MemberKind::Symlink {
                    node::strip_xattrs_at(dir.fd.as_fd(), &name)?;
                }
                node::set_metadata_at(member, dir.fd.as_fd(), &name)
            }
        }
    }

    /// A directory keeps what it holds; anything else makes way.
    fn directory(&mut self, member: &Member, parent: Vec<u8>, name: Vec<u8>) -> Result<()> {
        let path = [&parent[..], &name].join(&b'/');
        self.enter(parent, true)?;
        let dir = self.present()?;
        let open = || match fs::openat(&dir.fd, &name[..], DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) if self.follows => {
                self.resolve(path.strip_prefix(b"/").unwrap_or(&path), ResolveFlags::empty()).map_err(|_| errno)
            }
            opened => opened,
        };
        let make = || fs::mkdirat(&dir.fd, &name[..], Mode::RWXU).and_then(|()| open());
        let (fd, fresh) = match make() {
            Err(Errno::EXIST) => match open() {
                Err(Errno::NOTDIR | Errno::LOOP) if self.into.is_some() => {
                    return Err(Error::new(Kind::Invalid, "cannot overwrite non-directory with directory"));
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    self.clear(dir, &name)?;
                    (make(), true)
                }
                there => (there, false),
            },
            made => (made, true),
        };
        let fd = fd.act(|| "make directory")?;
        let inherited = dir.inherits;
        self.note(&name)?;
        if fresh {
            self.placed.made(fs::fstat(&fd).act(|| "stat directory")?.st_ino);
        }
        if inherited || !fresh {
            node::strip_xattrs(&fd)?;
        }
        node::set_metadata(&fd, member)
    }

    fn hard_link(&mut self, member: &Member, parent: Vec<u8>, name: Vec<u8>) -> Result<()> {
        let of = if self.follows { Name::added_link_target } else { Name::link_target };
        let (target_parent, target) = of(&member.link)?;
        let target_parent = self.below(target_parent);
        self.enter(parent, true)?;
        let missing = |error: Error| match error.kind() {
            Kind::NotFound => error.as_kind(Kind::Invalid),
            _ => error,
        };
        let act = || format!("link it to {}", shown(&member.link));
        let other = match &self.current {
            Some((path, _)) if *path == target_parent => None,
            _ => Some(self.open(&target_parent).map_err(missing).act(act)?),
        };
        self.replace(&name, |dir| {
            let from = other.as_ref().unwrap_or(&dir.fd);
            // Without AT_SYMLINK_FOLLOW a symlink as the target is itself linked.
            fs::linkat(from, &target[..], &dir.fd, &name[..], AtFlags::empty())
        })
        .map(|_| ())
        .map_err(|error| if error.errno() == Some(libc::ENOENT) { error.as_kind(Kind::Invalid) } else { error })
        .act(act)
    }

    /// Removes `name` of earlier layers.
    pub(super) fn whiteout(&mut self, parent: Vec<u8>, name: Vec<u8>) -> Result<()> {
        self.placed.complete()?;
        if !self.enter(parent, false)? {
            return Ok(());
        }
        let (dir, placed) = (self.present()?, &self.placed);
        if dir.ours {
            return Ok(());
        }
        prune::lower(placed, dir, &name).act(|| format!("remove {}", shown(&name)))
    }

    /// Removes what earlier layers have in `directory`.
    pub(super) fn opaque(&mut self, directory: Vec<u8>) -> Result<()> {
        self.placed.complete()?;
        if !self.enter(directory, false)? {
            return Ok(());
        }
        let (dir, placed) = (self.present()?, &self.placed);
        if dir.ours {
            return Ok(());
        }
        prune::lower_content(placed, dir).act(|| "remove what earlier layers have in the directory")
    }

    /// Runs `make`; what stands in its way is removed first. Tells whether the new thing may have inherited an ACL.
    fn replace<T>(&mut self, name: &[u8], mut make: impl FnMut(&Dir) -> rustix::io::Result<T>) -> Result<(T, bool)> {
        let dir = self.present()?;
        let made = match make(dir) {
            Err(Errno::EXIST) => {
                self.clear(dir, name)?;
                make(dir)
            }
            made => made,
        };
        let made = made.act(|| "make it")?;
        let inherits = dir.inherits;
        self.note(name)?;
        Ok((made, inherits))
    }

    /// Removes what stands in the way.
    fn clear(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        // A directory of an earlier layer may hold something of this one.
        let is_directory = || fs::openat(&dir.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).is_ok();
        if self.into.is_some() {
            if is_directory() {
                return Err(Error::new(Kind::Invalid, "cannot overwrite directory with non-directory"));
            }
            prune::refuse_mount(dir, name)?;
        }
        if dir.ours || self.placed.may_have(dir.ino, name) || is_directory() {
            (self.before_loss)()?;
        }
        prune::all(dir.fd.as_fd(), name).act(|| "remove what is there")
    }

    /// Remembers that `name` in the present directory is this layer's.
    fn note(&mut self, name: &[u8]) -> Result<()> {
        let dir = self.present()?;
        if !dir.ours {
            let ino = dir.ino;
            self.placed.put(ino, name);
        }
        Ok(())
    }

    fn present(&self) -> Result<&Dir> {
        let current = self.current.as_ref().map(|(_, dir)| dir);
        current.ok_or_else(|| Error::new(Kind::Io, "no directory is open"))
    }

    /// Makes `path` the present directory. Missing ones are made if `make`, else the answer is false.
    fn enter(&mut self, path: Vec<u8>, make: bool) -> Result<bool> {
        if self.current.as_ref().is_some_and(|(current, _)| *current == path) {
            return Ok(true);
        }
        self.leave()?;
        let (fd, direct) = match self.open_directly(&path) {
            Some(fd) => (fd, true),
            None => match self.open(&path) {
                Err(error) if error.kind() == Kind::NotFound && make => {
                    let fd = self.make_path(&path)?;
                    (fd, self.open_directly(&path).is_some())
                }
                Err(error) if error.kind() == Kind::NotFound => return Ok(false),
                opened => (opened?, false),
            },
        };
        let mut dir = Dir::new(fd, &self.placed).act(|| format!("look at directory {}", shown(&path)))?;
        dir.direct = direct;
        self.current = Some((path, dir));
        Ok(true)
    }

    /// Opens a directory whose path has no symlink in it.
    fn open_directly(&self, path: &[u8]) -> Option<OwnedFd> {
        self.resolve(path, ResolveFlags::NO_SYMLINKS).ok()
    }

    fn resolve(&self, path: &[u8], further: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        // A layer has one file system; what people copy may go into a volume that is mounted in the tree.
        let one = if self.into.is_some() { ResolveFlags::empty() } else { ResolveFlags::NO_XDEV };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | one | further;
        let name = if path.is_empty() { b"." } else { path };
        let mut tries = 0;
        loop {
            match fs::openat2(self.root, name, DIRECTORY, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < TRIES => tries += 1,
                opened => break opened,
            }
        }
    }

    /// Opens a directory by its path inside the root.
    fn open(&self, path: &[u8]) -> Result<OwnedFd> {
        self.resolve(path, ResolveFlags::empty()).map_err(|errno| {
            let (kind, reason) = match errno {
                Errno::NOENT => (Kind::NotFound, "does not exist"),
                Errno::NOTDIR => (Kind::NotFound, "is not a directory"),
                Errno::LOOP => (Kind::Invalid, "leads through a loop of symlinks or a magic link"),
                Errno::XDEV => (Kind::Invalid, "leads to another file system"),
                errno => {
                    let error = std::io::Error::from(errno);
                    return Error::with_source(kind_of(&error), format!("open directory {}", shown(path)), error);
                }
            };
            Error::new(kind, format!("directory {} {reason}", shown(path)))
        })
    }

    /// Makes the missing directories of `path`, as Docker does: mode 0755, owned by root.
    fn make_path(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let mut above = self.open(b"")?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        let mut start = 0;
        for end in ends {
            let name = &path[start..end];
            start = end + 1;
            above = match self.open(&path[..end]) {
                Err(error) if error.kind() == Kind::NotFound => {
                    self.make_directory(above, name).act(|| format!("make directory {}", shown(&path[..end])))?
                }
                opened => opened?,
            };
        }
        Ok(above)
    }

    fn make_directory(&mut self, parent: OwnedFd, name: &[u8]) -> Result<OwnedFd> {
        let dir = Dir::new(parent, &self.placed).act(|| "look at its parent")?;
        fs::mkdirat(&dir.fd, name, Mode::RWXU).map_err(|errno| match errno {
            Errno::EXIST => Error::new(Kind::Invalid, "what is there is no directory, or a symlink that leads to none"),
            errno => {
                let error = std::io::Error::from(errno);
                Error::with_source(kind_of(&error), "mkdir", error)
            }
        })?;
        let fd = fs::openat(&dir.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).act(|| "open it")?;
        node::plain_directory(&fd)?;
        self.placed.made(fs::fstat(&fd).act(|| "stat it")?.st_ino);
        if !dir.ours {
            self.placed.put(dir.ino, name);
        }
        dir.close().act(|| "restore its parent's time")?;
        Ok(fd)
    }
}
