//! What a thin-pool lies on: two files on loop devices, or block devices used as they are.
//!
//! Invariant: nothing that holds anything is overwritten. A file or device is taken only if it is blank, or if the
//! note `making` in the pool's directory says that an unfinished creation of ours took it.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::{
    block::{self, LoopFile},
    crash,
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
            Err(error) if error.kind() == ErrorKind::NotFound => {
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

    /// Durable when it returns: metadata that tells of chunks must not outlive a power failure that the file's length does
    /// not.
    pub(super) fn set_len(&self, size: Bytes) -> Result<()> {
        let file = self.open()?;
        file.set_len(size.0).and_then(|()| file.sync_all()).act(|| self.act(&format!("make {size} long")))
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

    /// Where [`Backing::replace_by`]'s new file is made. A user who repairs by hand will not take this name.
    pub(super) fn draft(&self) -> Self {
        Self { path: self.path.with_extension("lamina-repair"), own: true }
    }

    /// Puts the file `new` in the place of this one, of which nothing is lost: it stays beside, under the returned name.
    pub(super) fn replace_by(&self, new: &Path) -> Result<PathBuf> {
        let act = || format!("put {} in the place of {}", new.display(), self.path.display());
        // What wrote it may not have done so; a name must not be durable before what it names.
        File::open(new).and_then(|file| file.sync_all()).act(act)?;
        let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).act(act);
        let mut number = 1;
        // The old one has two names for a moment, so that at no instant there is none under its own.
        let aside = loop {
            let aside = self.aside(number);
            match fs::hard_link(&self.path, &aside) {
                // A process that was killed right here has given it this name already.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && inode(&aside)? == inode(&self.path)? => {
                    break aside;
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                linked => break linked.act(act).map(|()| aside)?,
            }
        };
        crash::point(crash::Point::RepairKept);
        fs::rename(new, &self.path).act(act)?;
        crash::point(crash::Point::RepairNamed);
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).act(act)?;
        Ok(aside)
    }

    fn aside(&self, number: u32) -> PathBuf {
        self.path.with_extension(format!("damaged-{number}"))
    }

    /// Removes what [`Backing::replace_by`] kept of a file of ours, and what it did not come to use.
    pub(super) fn remove_aside(&self) -> Result<()> {
        self.draft().remove()?;
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
