//! Image archives: docker-archive (`docker save`, with the OCI layout inside or not) and OCI image archives.
//!
//! Nothing is extracted: the archive's members are indexed once, and layers are read from their places.
//!
//! Invariant: whatever has a digest is checked against it, the last byte included, before its reader reports the end.

mod docker;
mod index;
mod oci;

use std::{
    fs::File,
    io::{self, Read, Seek as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use self::index::Index;
use super::{
    compression::{Compression, decompress},
    config::Config,
    read_error,
    reference::Reference,
    verified::Verified,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::SparingFile,
    id::Digest,
    units::Bytes,
};

/// An image in an archive.
#[derive(Debug)]
pub struct ArchivedImage {
    /// What it is called; may be empty.
    pub references: Vec<Reference>,
    /// Its configuration.
    pub config: Config,
    /// Its layers, lowest first, one for each diff ID of the configuration.
    pub layers: Vec<BlobRef>,
}

/// Where something lies in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// The member's name.
    pub name: String,
    /// Stored bytes.
    pub size: u64,
    /// sha256 of the stored bytes, where the archive tells it.
    pub digest: Option<Digest>,
    offset: u64,
}

/// An image archive, open.
#[derive(Debug)]
pub struct Archive {
    /// For errors.
    name: String,
    file: Arc<File>,
    index: Index,
}

impl Archive {
    /// Opens the archive at `path`. One that is compressed as a whole is decompressed into an unnamed file in the
    /// directory `spool` first.
    ///
    /// # Errors
    /// `Invalid` for what is not a tar archive, `Corrupt` for a damaged one, and the system's.
    pub fn open(path: &Path, spool: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let open = || {
            let file = File::open(path).act(|| "open it")?;
            if !file.metadata().act(|| "look at it")?.is_file() {
                return Err(Error::new(Kind::Invalid, "is not a regular file; give another to standard input"));
            }
            let (plain, compression) = decompress(file.try_clone().act(|| "open it")?)?;
            if compression == Compression::None { Ok(file) } else { spooled(plain, spool) }
        };
        Self::read(name, open())
    }

    /// Takes the archive, compressed or not, from a stream, by way of an unnamed file in the directory `spool`: what
    /// lies at its end is needed first.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn receive(stream: impl Read + Send + 'static, spool: &Path) -> Result<Self> {
        let receive = || spooled(decompress(stream)?.0, spool);
        Self::read("standard input".to_owned(), receive())
    }

    fn read(name: String, file: Result<File>) -> Result<Self> {
        let read = |mut file: File| {
            file.rewind().act(|| "read it")?;
            let index = Index::read(file.try_clone().act(|| "read it")?)?;
            Ok(Self { name: name.clone(), file: Arc::new(file), index })
        };
        file.and_then(read).act(|| format!("open image archive {name}"))
    }

    /// Where it came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The images in it. Of an image for several platforms, the one for this machine.
    ///
    /// # Errors
    /// `Invalid` and `Corrupt` for manifests and configurations that do not hold together.
    pub fn images(&self) -> Result<Vec<ArchivedImage>> {
        if self.index.find(docker::MANIFEST).is_some() {
            docker::images(self)
        } else if self.index.find(oci::INDEX).is_some() {
            oci::images(self)
        } else {
            Err(Error::new(Kind::Invalid, "is not an image archive: it has neither manifest.json nor index.json"))
        }
    }

    /// The stored bytes of a layer. At their end, a digest that does not fit is an error.
    pub fn layer(&self, blob: &BlobRef) -> impl Read + Send + use<> {
        let part = Part { file: Arc::clone(&self.file), at: blob.offset, end: blob.offset + blob.size };
        Verified::new(part, format!("'{}'", blob.name.escape_debug()), blob.digest)
    }

    /// Finds a member; `digest` is what its bytes must have.
    fn blob(&self, name: &str, digest: Option<Digest>) -> Result<BlobRef> {
        let (offset, size) = self.index.find(name).ok_or_else(|| {
            Error::new(Kind::Corrupt, format!("the archive refers to '{}' and does not hold it", name.escape_debug()))
        })?;
        Ok(BlobRef { name: name.to_owned(), offset, size, digest })
    }

    /// Reads a small member whole, and checks its digest.
    fn json(&self, name: &str, digest: Option<Digest>) -> Result<Vec<u8>> {
        let blob = self.blob(name, digest)?;
        let act = || format!("read '{}'", name.escape_debug());
        if blob.size > super::config::JSON_LIMIT {
            let limit = super::config::JSON_LIMIT;
            return Err(Error::new(
                Kind::Invalid,
                format!("{}: it has {} bytes and the limit is {limit}", act(), blob.size),
            ));
        }
        let mut bytes = Vec::new();
        self.layer(&blob).read_to_end(&mut bytes).map_err(|error| read_error(error, act()))?;
        Ok(bytes)
    }
}

/// An archive may be far larger than it looks, and the pool's own file lies on that disk too.
pub(super) const SPOOL_RESERVE: Bytes = Bytes::mib(256);

/// All of `plain` in an unnamed file.
fn spooled(mut plain: impl Read, spool: &Path) -> Result<File> {
    let mut whole = SparingFile::unnamed(spool, SPOOL_RESERVE)?;
    io::copy(&mut plain, &mut whole).map_err(|error| read_error(error, "read it"))?;
    Ok(whole.into_file())
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::with_source(Kind::Invalid, format!("read '{}'", name.escape_debug()), error))
}

/// Puts an image together, and checks that it has a layer for each diff ID.
fn image(references: Vec<Reference>, config: Vec<u8>, layers: Vec<BlobRef>) -> Result<ArchivedImage> {
    let config = Config::parse(config)?;
    let (have, want) = (layers.len(), config.diff_ids().len());
    if have != want {
        return Err(Error::new(
            Kind::Corrupt,
            format!("image {} has {have} layers in its manifest and {want} in its configuration", config.id()),
        ));
    }
    Ok(ArchivedImage { references, config, layers })
}

/// A part of the archive's file, read by position so that several readers do not disturb each other.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}
