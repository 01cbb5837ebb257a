//! Layers on their way into the store: `downloads/HEX`, named by the digest of what is to come.
//!
//! Invariant: such a file means nothing until somebody has checked its digest. It outlives the process, so that the next
//! one goes on where this one stopped, and goes with the first image that it was downloaded for. One process at a time
//! writes it, under a lock (flock(2)); another that wants the same has a file without a name meanwhile.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, linkat};

use super::{Held, Layout, Store, blob::sync_directory};
use crate::{
    crash,
    driver::BACKING_RESERVE,
    error::{Act as _, Result},
    fs::{SparingFile, is_at},
    id::Digest,
    units::Bytes,
};

/// See the module's comment.
#[derive(Debug)]
pub struct Download {
    file: File,
    /// None for a file without a name.
    path: Option<PathBuf>,
    directory: PathBuf,
}

/// Where they lie, for threads that have no store.
#[derive(Clone, Debug)]
pub struct Downloads {
    directory: PathBuf,
}

impl Downloads {
    /// The file for what has this digest: what a command before this one downloaded of it is in there.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self, digest: Digest) -> Result<Download> {
        let directory = self.directory.clone();
        let path = directory.join(digest.hex());
        let act = || format!("open {}", path.display());
        let mut found = locked(&path).act(act)?;
        if let Some(file) = &found
            && file.metadata().act(act)?.nlink() > 1
        {
            // It is a layer's archive by now, which nobody may write to, whatever another registry says of it.
            fs::remove_file(&path).act(act)?;
            found = locked(&path).act(act)?;
        }
        match found {
            Some(file) => Ok(Download { file, path: Some(path), directory }),
            None => {
                let file = SparingFile::unnamed(&directory, BACKING_RESERVE)?.into_file();
                Ok(Download { file, path: None, directory })
            }
        }
    }
}

impl Store {
    /// Where downloads lie.
    pub fn download_place(&self) -> Downloads {
        Downloads { directory: self.layout.downloads() }
    }

    /// The bytes that are here of each download.
    ///
    /// # Errors
    /// The system's.
    pub fn downloads(&self) -> Result<Vec<Bytes>> {
        let act = || format!("look into {}", self.layout.downloads().display());
        let mut sizes = Vec::new();
        for entry in fs::read_dir(self.layout.downloads()).act(act)? {
            match entry.act(act)?.metadata() {
                // It came to its end.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                metadata => sizes.push(Bytes(metadata.act(act)?.len())),
            }
        }
        Ok(sizes)
    }

    /// Removes what was downloaded of this digest, if anything is there and nobody downloads it now.
    ///
    /// # Errors
    /// The system's.
    pub fn forget_download(&self, digest: Digest) -> Result<()> {
        let path = self.layout.downloads().join(digest.hex());
        let act = || format!("remove {}", path.display());
        if path.exists()
            && let Some(_file) = locked(&path).act(act)?
        {
            fs::remove_file(&path).act(act)?;
        }
        Ok(())
    }

    /// Removes what was downloaded for images that did not come to be, and what nobody downloads now; returns its bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn prune_downloads(&self) -> Result<Bytes> {
        let act = || format!("clean {}", self.layout.downloads().display());
        let mut freed = Bytes(0);
        for entry in fs::read_dir(self.layout.downloads()).act(act)? {
            let path = entry.act(act)?.path();
            if let Some(file) = locked(&path).act(act)? {
                freed += Bytes(file.metadata().act(act)?.len());
                fs::remove_file(&path).act(act)?;
            }
        }
        Ok(freed)
    }
}

impl Download {
    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// A writer at its end, which leaves the disk its last bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn writer(&self) -> Result<SparingFile> {
        let file = self.file.try_clone().act(|| "open the download")?;
        Ok(SparingFile::new(file, &self.directory, BACKING_RESERVE))
    }

    /// Makes its content durable.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().act(|| "write the download to the disk")?;
        crash::point(crash::Point::Downloaded);
        Ok(())
    }

    /// Takes its name away: it is needed no longer, or of no use.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&self) -> Result<()> {
        match &self.path {
            Some(path) => fs::remove_file(path).act(|| format!("remove {}", path.display())),
            None => Ok(()),
        }
    }
}

impl Held<'_> {
    /// Makes what was downloaded, all of which is durable, the archive that this layer comes from. It goes with the row.
    ///
    /// # Errors
    /// The system's.
    pub fn adopt(&self, download: &Download) -> Result<()> {
        let path = self.layout().blob(self.cache_id());
        let open = format!("/proc/self/fd/{}", download.file.as_raw_fd());
        let act = || format!("keep the layer's archive as {}", path.display());
        linkat(CWD, open, CWD, &path, AtFlags::SYMLINK_FOLLOW).act(act)?;
        crash::point(crash::Point::BlobAdopted);
        sync_directory(&self.layout().blobs()).act(act)
    }
}

/// Opens the file of this name, or makes it, for this process alone; none if another one has it.
fn locked(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        // Its name may have gone since it was opened.
        if file.metadata()?.nlink() > 0 && is_at(&file, path) {
            return Ok(Some(file));
        }
    }
}

/// Removes all of them, for a pool that is destroyed.
pub(super) fn remove_all(layout: &Layout) -> Result<()> {
    let act = || format!("clean {}", layout.downloads().display());
    for entry in fs::read_dir(layout.downloads()).act(act)? {
        fs::remove_file(entry.act(act)?.path()).act(act)?;
    }
    Ok(())
}
