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

use rustix::fs::{CWD, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use self::index::Index;
use super::{
    compression::{Compression, decompress},
    config::Config,
    read_error,
    reference::Reference,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::free_space,
    id::Digest,
    interrupt,
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
        let at = blob.offset;
        let name = blob.name.clone();
        Blob {
            file: Arc::clone(&self.file),
            at,
            end: at + blob.size,
            name,
            check: blob.digest.map(|d| (d, Sha256::new())),
        }
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

/// How much is read before space is asked for again.
const SPOOL_STEP: u64 = 16 << 20;

/// An archive may be far larger than it looks, and the pool's own file lies on that disk too.
const SPOOL_RESERVE: Bytes = Bytes::mib(256);

/// All of `plain` in an unnamed file.
fn spooled(mut plain: impl Read, spool: &Path) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, spool, flags, Mode::RUSR | Mode::WUSR);
    let mut whole = File::from(fd.act(|| format!("make an unnamed file in {}", spool.display()))?);
    loop {
        interrupt::check()?;
        let free = free_space(spool)?;
        if free < SPOOL_RESERVE {
            let what =
                format!("it takes all space of {}: {free} are free, {SPOOL_RESERVE} are kept back", spool.display());
            return Err(Error::new(Kind::Full, what));
        }
        let step = (&mut plain).take(SPOOL_STEP);
        if io::copy(&mut { step }, &mut whole).map_err(|error| read_error(error, "read it"))? == 0 {
            return Ok(whole);
        }
    }
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
struct Blob {
    file: Arc<File>,
    at: u64,
    end: u64,
    name: String,
    check: Option<(Digest, Sha256)>,
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        if buffer.is_empty() {
            return Ok(0);
        }
        if most == 0 {
            return self.finish();
        }
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        if let Some((_, hasher)) = &mut self.check {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

impl Blob {
    fn finish(&mut self) -> io::Result<usize> {
        let Some((expected, hasher)) = self.check.take() else { return Ok(0) };
        let found = Digest::finish(hasher);
        if found == expected {
            return Ok(0);
        }
        let name = self.name.escape_debug();
        Err(io::Error::other(Error::new(
            Kind::Corrupt,
            format!("'{name}' has digest {found} and {expected} was expected"),
        )))
    }
}
