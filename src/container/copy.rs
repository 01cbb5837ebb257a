//! `cp`: files between a container and the host, as an archive that goes through a pipe.
//!
//! Where things land is Docker's rule (cli/command/container/cp.go): a directory receives what is copied under its own
//! name, unless only its content is meant (`DIR/.`); what does not exist gets the name that was given.
//!
//! Invariant: a container's links lead nowhere outside it, also while it runs and changes them: what is read is reached
//! through descriptors ([`Scope`]), and what is written goes through the unpacker.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    thread,
};

use rustix::fs::FileType;

use super::{Container, Containers};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{Scope, Spot, file_type},
    image::{
        pack::{Owners, TreePacker},
        unpack::unpack_into,
    },
    units::Bytes,
};

/// How files are copied.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Owners as they are, with attributes; else everything is root's.
    pub owners: Owners,
    /// A link that is named as the source stands for what it leads to.
    pub follow: bool,
}

/// What is copied.
struct Source {
    spot: Spot,
    /// Only what is in it.
    content: bool,
    /// What it is called where it lands in a directory.
    name: Vec<u8>,
}

/// Where it lands.
struct Target {
    /// The directory, below the root.
    directory: PathBuf,
    /// The name there; `None` for the content alone.
    name: Option<Vec<u8>>,
}

impl Containers<'_> {
    /// Copies `path` of a container to `target` on the host.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what Docker refuses, what the system says. What was copied before stays.
    pub fn copy_out(&self, container: &Container, path: &Path, target: &Path, how: How) -> Result<Bytes> {
        let act = || format!("copy {}:{} to {}", container.name, path.display(), target.display());
        let view = self.view(container)?;
        let copy = || {
            let source = Source::find(Scope::tree(view.root()), path, how)?;
            let root = open_root()?;
            let host = Scope::host(root.as_fd());
            let target = Target::find(host, &absolute(target)?, &source)?;
            target.refuse_special(host)?;
            let directory = host.open(&target.directory)?;
            through_pipe(&source, &target, how, |tar| {
                unpack_into(directory.as_fd(), b"", tar, &mut |_| Ok(())).map(drop)
            })
        };
        copy().act(act)
    }

    /// Copies `source` of the host to `path` of a container.
    ///
    /// # Errors
    /// As [`Containers::copy_out`].
    pub fn copy_in(&self, source: &Path, container: &Container, path: &Path, how: How) -> Result<Bytes> {
        let act = || format!("copy {} to {}:{}", source.display(), container.name, path.display());
        let view = self.view(container)?;
        let copy = || {
            let root = open_root()?;
            let source = Source::find(Scope::host(root.as_fd()), &absolute(source)?, how)?;
            let target = Target::find(Scope::tree(view.root()), path, &source)?;
            view.refuse_hidden(&target.path())?;
            let landing = view.landing(&target.directory)?;
            let into = target.directory.as_os_str().as_bytes();
            landing.written(|| {
                through_pipe(&source, &target, how, |tar| {
                    unpack_into(view.root(), into, tar, &mut |bytes| landing.room(bytes)).map(drop)
                })
            })
        };
        copy().act(act)
    }

    /// Writes `path` of a container as an archive to `out`.
    ///
    /// # Errors
    /// `NotFound`; what the system says.
    pub fn copy_to_archive(&self, container: &Container, path: &Path, out: impl Write, how: How) -> Result<Bytes> {
        let view = self.view(container)?;
        let copy = || {
            let source = Source::find(Scope::tree(view.root()), path, how)?;
            let name = (!source.content).then(|| source.name.clone());
            source.send(name.as_deref().unwrap_or_default(), how, out)
        };
        copy().act(|| format!("copy {}:{}", container.name, path.display()))
    }

    /// Unpacks the archive `tar` in the directory `path` of a container.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory; those of unpacking. What was unpacked before stays.
    pub fn copy_from_archive(&self, tar: impl Read + Send, container: &Container, path: &Path) -> Result<Bytes> {
        let view = self.view(container)?;
        let copy = || {
            let spot = Scope::tree(view.root()).find(path, true)?;
            if !spot.is_dir() {
                let what = format!("{} is no directory of the container", path.display());
                return Err(Error::new(Kind::NotFound, what));
            }
            let into = spot.path();
            view.refuse_hidden(&into)?;
            let landing = view.landing(&into)?;
            let mut room = |bytes| landing.room(bytes);
            let unpack = || unpack_into(view.root(), into.as_os_str().as_bytes(), tar, &mut room);
            landing.written(unpack).map(|unpacked| unpacked.size)
        };
        copy().act(|| format!("copy to {}:{}", container.name, path.display()))
    }
}

fn open_root() -> Result<File> {
    File::open("/").act(|| "open /")
}

/// The same path, with its meaning at the end kept: [`std::path::absolute`] drops `/.`.
fn absolute(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).act(|| format!("find {}", path.display()))?;
    Ok(match ending(path) {
        Ending::Name => absolute,
        Ending::Slash => absolute.join(""),
        Ending::Content => PathBuf::from(format!("{}/.", absolute.display())),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Name,
    /// `DIR/`: it must be a directory.
    Slash,
    /// `DIR/.`: what is in it.
    Content,
}

fn ending(path: &Path) -> Ending {
    match path.as_os_str().as_bytes() {
        b"." | [.., b'/', b'.'] => Ending::Content,
        [.., b'/'] => Ending::Slash,
        _ => Ending::Name,
    }
}

impl Source {
    fn find(scope: Scope<'_>, path: &Path, how: How) -> Result<Self> {
        let ending = ending(path);
        let spot = scope.find(path, how.follow || ending != Ending::Name)?;
        if spot.stat.is_none() {
            return Err(Error::new(Kind::NotFound, format!("{} does not exist", path.display())));
        }
        if ending != Ending::Name && !spot.is_dir() {
            return Err(Error::new(Kind::Invalid, format!("{} is not a directory", path.display())));
        }
        let name = path.components().next_back().and_then(|last| match last {
            std::path::Component::Normal(name) => Some(name.as_bytes().to_vec()),
            _ => None,
        });
        // The root, or `..`, has no name of its own.
        let content = ending == Ending::Content || name.is_none();
        Ok(Self { spot, content, name: name.unwrap_or_default() })
    }

    /// Writes it as an archive in which it is called `name`; its content alone for an empty name.
    fn send(&self, name: &[u8], how: How, out: impl Write) -> Result<Bytes> {
        let mut packer = TreePacker::new(out, how.owners);
        match &self.spot.stat {
            Some(stat) if !self.spot.is_dir() => packer.entry(self.spot.place(), stat, name)?,
            _ => packer.directory(self.spot.open_dir()?.as_fd(), name)?,
        }
        packer.finish()
    }
}

impl Target {
    fn find(scope: Scope<'_>, path: &Path, source: &Source) -> Result<Self> {
        let refuse = |what: &str| Err(Error::new(Kind::Invalid, format!("{}: {what}", path.display())));
        let is_dir = source.spot.is_dir();
        let spot = scope.find(path, true)?;
        let itself = |spot: Spot| {
            let name = spot.name.to_bytes().to_vec();
            Ok(Self { directory: spot.parent, name: Some(name) })
        };
        match &spot.stat {
            None if !is_dir && ending(path) != Ending::Name => refuse("no such directory"),
            None => itself(spot),
            Some(_) if spot.is_dir() => {
                let name = (!(is_dir && source.content)).then(|| source.name.clone());
                Ok(Self { directory: spot.path(), name })
            }
            Some(_) if is_dir => refuse("cannot copy a directory to a file"),
            Some(_) if ending(path) != Ending::Name => refuse("is not a directory"),
            Some(_) => itself(spot),
        }
    }
}

impl Target {
    /// The path below the root that is written.
    fn path(&self) -> PathBuf {
        match &self.name {
            Some(name) => self.directory.join(OsStr::from_bytes(name)),
            None => self.directory.clone(),
        }
    }

    /// A file must not take the place of a device, a fifo or a socket of the host.
    fn refuse_special(&self, host: Scope<'_>) -> Result<()> {
        let what = match host.find(&self.path(), false)?.stat.as_ref().map(file_type) {
            Some(FileType::BlockDevice | FileType::CharacterDevice) => "a device",
            Some(FileType::Fifo) => "a fifo",
            Some(FileType::Socket) => "a socket",
            _ => return Ok(()),
        };
        let path = self.path();
        let what = format!("/{} is {what}; only a directory or a regular file can be written", path.display());
        Err(Error::new(Kind::Invalid, what))
    }
}

/// Packs in a thread of its own while `unpack` reads.
fn through_pipe(
    source: &Source,
    target: &Target,
    how: How,
    unpack: impl FnOnce(io::PipeReader) -> Result<()>,
) -> Result<Bytes> {
    let (reader, writer) = io::pipe().act(|| "make a pipe")?;
    let name = target.name.as_deref().unwrap_or_default();
    thread::scope(|scope| {
        let sender = scope.spawn(|| source.send(name, how, BufWriter::with_capacity(1 << 18, writer)));
        let unpacked = unpack(reader);
        let sent = sender.join().unwrap_or_else(|_| Err(Error::new(Kind::Io, "the reading thread panicked")));
        match (sent, unpacked) {
            // The unpacker gave up first, and knows why.
            (Err(sent), Err(unpacked)) if sent.errno() == Some(libc::EPIPE) => Err(unpacked),
            (Err(sent), _) => Err(sent),
            (Ok(size), unpacked) => unpacked.map(|()| size),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::fd::AsFd as _,
        path::{Path, PathBuf},
    };

    use super::{How, Owners, Source, Target};
    use crate::fs::Scope;

    #[test]
    fn things_land_where_docker_puts_them() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("dir/sub")).unwrap();
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("there")).unwrap();
        let root = fs::File::open(directory.path()).unwrap();
        let scope = Scope::tree(root.as_fd());
        let land = |from: &str, to: &str| {
            let how = How { owners: Owners::Root, follow: false };
            let source = Source::find(scope, Path::new(from), how)?;
            Target::find(scope, Path::new(to), &source)
        };
        for (from, to, directory, name) in [
            ("/file", "/there", "there", Some("file")),
            ("/file", "/there/", "there", Some("file")),
            ("/file", "/new", "", Some("new")),
            ("/file", "/there/new", "there", Some("new")),
            ("/dir", "/there", "there", Some("dir")),
            ("/dir/", "/there", "there", Some("dir")),
            ("/dir/.", "/there", "there", None),
            ("/dir", "/new", "", Some("new")),
            ("/dir/.", "/new", "", Some("new")),
            ("/", "/there", "there", None),
        ] {
            let target = land(from, to).unwrap();
            let wanted = (PathBuf::from(directory), name.map(|name| name.as_bytes().to_vec()));
            assert_eq!((target.directory, target.name), wanted, "{from} {to}");
        }
        for (from, to, words) in [
            ("/file", "/new/", "no such directory"),
            ("/dir", "/file", "cannot copy a directory"),
            ("/file/", "/there", "not a directory"),
            ("/none", "/there", "does not exist"),
            ("/file", "/none/new", "open directory"),
            ("/file", "/file/", "not a directory"),
        ] {
            let error = land(from, to).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(words), "{from} {to}: {error}");
        }
    }
}
