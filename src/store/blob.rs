//! What is kept of the archives that layers came from: what is saved or pushed must have the digests that came.
//!
//! Invariant: a file `blobs/CACHE_ID` lives inside the life of the row with that cache ID. It is made once the row is
//! there and not kept, it is durable before the row is published, and whoever removes the row removes the file first. So
//! recovery of a dead command's row takes it along, and no file can be left over.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, Write},
    mem,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{Blob, Info, Layout, Store};
use crate::{
    crash,
    driver::BACKING_RESERVE,
    error::{Act as _, Error, Kind, Result, kind_of},
    fs::SparingFile,
    id::{CacheId, Digest, Hashing},
    units::Bytes,
};

/// The archive of a layer that is being made, while it is written.
#[derive(Debug)]
pub struct BlobFile {
    path: PathBuf,
    directory: PathBuf,
    out: Hashing<SparingFile>,
}

impl BlobFile {
    pub(super) fn create(layout: &Layout, layer: &CacheId) -> Result<Self> {
        let path = layout.blob(layer);
        let out = new(&path, &layout.blobs())?;
        Ok(Self { path, directory: layout.blobs(), out })
    }

    /// Begins with an empty file again. Gives back what was written, open at its start, in a file without a name.
    ///
    /// # Errors
    /// The system's.
    pub fn begin_again(&mut self) -> Result<File> {
        fs::remove_file(&self.path).act(|| format!("remove {}", self.path.display()))?;
        let old = mem::replace(&mut self.out, new(&self.path, &self.directory)?);
        let mut old = old.finish().0.into_file();
        old.rewind().act(|| format!("read what was in {}", self.path.display()))?;
        Ok(old)
    }

    /// Makes it durable; tells its digest and its bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(self) -> Result<(Digest, Bytes)> {
        let (file, digest, size) = self.out.finish();
        let synced = file.into_file().sync_all().and_then(|()| sync_directory(&self.directory));
        synced.act(|| format!("write {} to the disk", self.path.display()))?;
        crash::point(crash::Point::BlobWritten);
        Ok((digest, size))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn new(path: &Path, directory: &Path) -> Result<Hashing<SparingFile>> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.act(|| format!("make {}", path.display()))?;
    crash::point(crash::Point::BlobMade);
    Ok(Hashing::new(SparingFile::new(file, directory, BACKING_RESERVE)))
}

impl Write for BlobFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Store {
    /// The archive that a layer came from, open at its start; `None` for a layer that came from none.
    ///
    /// # Errors
    /// `Corrupt` if it is missing or has another size than it had.
    pub fn blob(&self, layer: &Info) -> Result<Option<(Blob, File)>> {
        let Some(blob) = layer.blob else { return Ok(None) };
        let path = self.layout.blob(&layer.cache_id);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(&path, "it is missing"),
            _ => Error::with_source(kind_of(&error), format!("open {}", path.display()), error),
        })?;
        let size = file.metadata().act(|| format!("look at {}", path.display()))?.len();
        if size != blob.size.0 {
            return Err(damaged(&path, &format!("it has {size} bytes and {} were expected", blob.size.0)));
        }
        Ok(Some((blob, file)))
    }
}

fn damaged(path: &Path, what: &str) -> Error {
    let path = path.display();
    Error::new(
        Kind::Corrupt,
        format!(
            "read {path}, from which the layer came: {what}; remove its images with 'lamina rmi' and load them again"
        ),
    )
}

/// Removes the archive of a layer. Nothing there is success.
pub(super) fn remove(layout: &Layout, layer: &CacheId) -> Result<()> {
    let path = layout.blob(layer);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => {
            removed.and_then(|()| sync_directory(&layout.blobs())).act(|| format!("remove {}", path.display()))?
        }
    }
    crash::point(crash::Point::BlobRemoved);
    Ok(())
}

/// Removes all archives, for a pool that is destroyed.
pub(super) fn remove_all(layout: &Layout) -> Result<()> {
    for name in list(layout)?.into_keys() {
        let path = layout.blobs().join(name);
        fs::remove_file(&path).act(|| format!("remove {}", path.display()))?;
    }
    sync_directory(&layout.blobs()).act(|| format!("write {} to the disk", layout.blobs().display()))
}

/// All archives that are there, by their files' names, with their bytes.
pub(super) fn list(layout: &Layout) -> Result<BTreeMap<OsString, Bytes>> {
    let read = || -> io::Result<_> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(layout.blobs())? {
            let entry = entry?;
            match entry.metadata() {
                // It went while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                metadata => drop(found.insert(entry.file_name(), Bytes(metadata?.len()))),
            }
        }
        Ok(found)
    };
    read().act(|| format!("list {}", layout.blobs().display()))
}

/// A name is durable when its directory is.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
