//! What a thin-pool lies on: two files on loop devices, or block devices used as they are.
//!
//! Invariant: nothing that holds anything is overwritten. A file or device is taken only if it is blank, or if the
//! note `making` in the pool's directory says that an unfinished creation of ours took it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::ffi::OsStrExt as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use crate::{
    block::{self, LoopFile},
    error::{Act as _, Error, Kind, Result},
    fs::free_space,
    sys,
    units::Bytes,
};

/// One of the two.
#[derive(Clone, Debug)]
pub(super) struct Backing {
    pub(super) path: PathBuf,
    /// Made and removed by us, rather than given.
    pub(super) own: bool,
}

impl Backing {
    pub(super) fn new(given: Option<&PathBuf>, directory: &Path, name: &str) -> Self {
        match given {
            Some(path) => Self { path: path.clone(), own: false },
            None => Self { path: directory.join(name), own: true },
        }
    }

    fn act(&self, what: &str) -> String {
        format!("{what} {}", self.path.display())
    }

    pub(super) fn exists(&self) -> Result<bool> {
        self.path.try_exists().act(|| self.act("look for"))
    }

    /// Whether it is a block device; missing is `NotFound`.
    pub(super) fn is_device(&self) -> Result<bool> {
        let kind = match fs::metadata(&self.path) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let what = format!("backing {} of the pool is missing", self.path.display());
                return Err(Error::new(Kind::NotFound, what));
            }
            Err(error) => return Err(error).act(|| self.act("look at")),
        };
        match (kind.is_file(), kind.is_block_device()) {
            (true, _) => Ok(false),
            (_, true) => Ok(true),
            _ => Err(Error::new(Kind::Invalid, format!("{} is no file and no block device", self.path.display()))),
        }
    }

    fn open(&self) -> Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.path).act(|| self.act("open"))
    }

    pub(super) fn size(&self) -> Result<Bytes> {
        if self.is_device()? {
            let device = File::open(&self.path).act(|| self.act("open"))?;
            return sys::block::size(&device).map(Bytes).act(|| self.act("ask for the size of"));
        }
        fs::metadata(&self.path).map(|found| Bytes(found.len())).act(|| self.act("look at"))
    }

    /// Free space of the file system below; `None` for a device.
    pub(super) fn free_below(&self) -> Result<Option<Bytes>> {
        if self.is_device()? {
            return Ok(None);
        }
        free_space(&self.path).map(Some)
    }

    /// Makes the file if it is one and missing or empty, `size` long; tells how large it is.
    pub(super) fn prepare(&self, size: Bytes) -> Result<Bytes> {
        if !self.exists()? {
            let made = OpenOptions::new().read(true).write(true).create_new(true).open(&self.path);
            made.act(|| self.act("make"))?;
        }
        if !self.is_device()? && self.size()? == Bytes(0) {
            self.set_len(size)?;
        }
        self.size()
    }

    pub(super) fn set_len(&self, size: Bytes) -> Result<()> {
        self.open()?.set_len(size.0).act(|| self.act(&format!("make {size} long")))
    }

    /// Takes disk space for all of the file, so that a full disk can never break it.
    pub(super) fn allocate(&self, size: Bytes) -> Result<()> {
        if self.is_device()? {
            return Ok(());
        }
        let length = libc::off_t::try_from(size.0).unwrap_or(libc::off_t::MAX);
        nix::fcntl::posix_fallocate(self.open()?, 0, length)
            .act(|| self.act(&format!("take {size} of the disk for pool metadata in")))
    }

    /// Fails with `NotOurs` if it holds anything.
    pub(super) fn require_empty(&self) -> Result<()> {
        block::ensure_blank(&self.path).map(drop)
    }

    /// Removes what is ours: the file, or of a given one what lies where marks lie.
    pub(super) fn remove(&self) -> Result<()> {
        if !self.exists()? {
            return Ok(());
        }
        if self.own {
            return fs::remove_file(&self.path).act(|| self.act("remove"));
        }
        block::make_blank(&self.path)
    }

    /// Puts the file `new` in the place of this one, of which nothing is lost: it stays beside, under the returned name.
    pub(super) fn replace_by(&self, new: &Path) -> Result<PathBuf> {
        let act = || format!("put {} in the place of {}", new.display(), self.path.display());
        let mut number = 1;
        // The old one has two names for a moment, so that at no instant there is none under its own.
        let aside = loop {
            let aside = self.aside(number);
            match fs::hard_link(&self.path, &aside) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                linked => break linked.act(act).map(|()| aside)?,
            }
        };
        fs::rename(new, &self.path).act(act)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).act(act)?;
        Ok(aside)
    }

    fn aside(&self, number: u32) -> PathBuf {
        self.path.with_extension(format!("damaged-{number}"))
    }

    /// Removes what [`Backing::replace_by`] kept of a file of ours.
    pub(super) fn remove_aside(&self) -> Result<()> {
        let mut number = 1;
        let mut removed = self.own;
        while removed {
            let aside = self.aside(number);
            removed = aside.try_exists().act(|| format!("look for {}", aside.display()))?;
            if removed {
                fs::remove_file(&aside).act(|| format!("remove {}", aside.display()))?;
            }
            number += 1;
        }
        Ok(())
    }

    /// The block device to use: its number, and the loop device if this call attached one.
    pub(super) fn attach(&self) -> Result<((u32, u32), Option<LoopFile>)> {
        if self.is_device()? {
            let number = fs::metadata(&self.path).act(|| self.act("look at"))?.rdev();
            return Ok(((rustix::fs::major(number), rustix::fs::minor(number)), None));
        }
        // One that a killed process left is as good as a new one.
        let attached = match LoopFile::find(&self.path)? {
            Some(found) => found,
            None => LoopFile::attach(&self.path)?,
        };
        Ok((attached.number(), Some(attached)))
    }

    /// Detaches the loop device of the file, if there is one.
    pub(super) fn detach(&self) -> Result<()> {
        if !self.exists()? || self.is_device()? {
            return Ok(());
        }
        LoopFile::find(&self.path)?.map_or(Ok(()), LoopFile::detach)
    }

    /// Makes the loop device as long as the file has become.
    pub(super) fn refresh(&self) -> Result<()> {
        if self.is_device()? {
            return Ok(());
        }
        LoopFile::find(&self.path)?.map_or(Ok(()), |attached| attached.refresh_capacity())
    }
}

/// The note that a creation is under way, and what it has taken.
#[derive(Debug)]
pub(super) struct Making<'a> {
    directory: &'a Path,
}

impl<'a> Making<'a> {
    pub(super) fn of(directory: &'a Path) -> Self {
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("making")
    }

    pub(super) fn exists(&self) -> Result<bool> {
        self.path().try_exists().act(|| format!("look for {}", self.path().display()))
    }

    /// Whether an unfinished creation took `backing`.
    pub(super) fn took(&self, backing: &Backing) -> Result<bool> {
        match fs::read(self.path()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            read => {
                let taken = read.act(|| format!("read {}", self.path().display()))?;
                Ok(taken.split(|byte| *byte == 0).any(|path| path == backing.path.as_os_str().as_bytes()))
            }
        }
    }

    pub(super) fn write(&self, takes: [&Backing; 2]) -> Result<()> {
        let paths = takes.map(|backing| backing.path.as_os_str().as_bytes()).join(&0);
        let write = || {
            let mut file = File::create(self.path())?;
            file.write_all(&paths)?;
            file.sync_all()
        };
        write().act(|| format!("write {}", self.path().display()))?;
        self.sync()
    }

    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.act(|| format!("remove {}", self.path().display())),
        }?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        let directory = File::open(self.directory).act(|| format!("open {}", self.directory.display()))?;
        rustix::fs::fsync(directory.as_fd()).act(|| format!("write {}", self.directory.display()))
    }
}
