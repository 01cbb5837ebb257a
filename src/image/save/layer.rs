//! The bytes of one layer, in the form that an archive or a registry wants: as they came where they were kept, else
//! packed again from the snapshot.
//!
//! Invariant: the end of a reader is only told when what it gave has the digest that was promised, so no damaged layer
//! is passed on as a good one; memory does not grow with the layer.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek as _, Write},
};

use flate2::{GzBuilder, write::GzEncoder};
use oci_spec::image::MediaType;

use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{Mounted, SparingFile},
    id::{Digest, Hashing},
    image::{
        archive::SPOOL_RESERVE,
        catalog::Layer,
        compression::{Compression, decode},
        pack::pack,
        read_error,
        verified::Verified,
    },
    store::{BlobFormat, Key, Store},
    units::Bytes,
};

/// A layer's bytes in one form.
pub struct Content {
    /// Which form that is.
    pub media_type: MediaType,
    /// sha256 of the bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: Bytes,
    /// The bytes; where the end would come with another digest, an error comes.
    pub bytes: Box<dyn Read + Send>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, {}", self.digest, self.size, self.media_type)
    }
}

/// The layer as a plain tar, the bytes of its diff ID.
///
/// # Errors
/// `Corrupt` if what was kept is missing or cut off, or if the layer's snapshot does not give the same tar again;
/// `Full` without room for that tar; the system's.
pub fn plain(store: &Store, layer: &Layer) -> Result<Content> {
    match kept_plain(store, layer)? {
        Some(content) => Ok(content),
        None => spooled(store, MediaType::ImageLayer, |spool| pack_again(store, layer, spool)),
    }
}

/// The layer as it came, if it came compressed; else with gzip, always the same bytes for the same tar.
///
/// # Errors
/// As [`plain`].
pub fn compressed(store: &Store, layer: &Layer) -> Result<Content> {
    if let Some(content) = as_it_came(store, layer)? {
        return Ok(content);
    }
    spooled(store, MediaType::ImageLayerGzip, |spool| {
        // Neither a name nor a time of its own: flate2 writes none unless it is told to.
        let mut out: GzEncoder<_> = GzBuilder::new().write(spool, flate2::Compression::default());
        match kept_plain(store, layer)? {
            Some(mut plain) => io::copy(&mut plain.bytes, &mut out)
                .map(drop)
                .map_err(|error| read_error(error, "compress the layer"))?,
            None => pack_again(store, layer, &mut out)?,
        }
        out.finish().map(drop).map_err(|error| read_error(error, "compress the layer"))
    })
}

fn as_it_came(store: &Store, layer: &Layer) -> Result<Option<Content>> {
    let Some((blob, file)) = store.blob(&layer.info)? else { return Ok(None) };
    let media_type = match blob.format {
        BlobFormat::Gzip => MediaType::ImageLayerGzip,
        BlobFormat::Zstd => MediaType::ImageLayerZstd,
        BlobFormat::Plain => return Ok(None),
    };
    let bytes = Box::new(Verified::new(file, place(store, layer), Some(blob.digest)));
    Ok(Some(Content { media_type, digest: blob.digest, size: blob.size, bytes }))
}

fn kept_plain(store: &Store, layer: &Layer) -> Result<Option<Content>> {
    let Some((blob, file)) = store.blob(&layer.info)? else { return Ok(None) };
    let compression = match blob.format {
        BlobFormat::Gzip => Compression::Gzip,
        BlobFormat::Zstd | BlobFormat::Plain => Compression::Zstd,
    };
    let name = place(store, layer);
    let told = Told { inner: decode(compression, file)?, name: name.clone() };
    let bytes = Box::new(Verified::new(told, name, Some(layer.diff_id.0)));
    Ok(Some(Content { media_type: MediaType::ImageLayer, digest: layer.diff_id.0, size: blob.plain, bytes }))
}

fn place(store: &Store, layer: &Layer) -> String {
    store.layout().blob(&layer.info.cache_id).display().to_string()
}

/// What `write` writes, in an unnamed file beside the pool: its digest and size stand before it in an archive.
fn spooled(
    store: &Store,
    media_type: MediaType,
    write: impl FnOnce(&mut Hashing<SparingFile>) -> Result<()>,
) -> Result<Content> {
    let mut spool = Hashing::new(SparingFile::unnamed(store.layout().root(), SPOOL_RESERVE)?);
    write(&mut spool)?;
    let (file, digest, size) = spool.finish();
    let mut file: File = file.into_file();
    file.rewind().act(|| "read the packed layer")?;
    let bytes = Box::new(Verified::new(file, "the packed layer".to_owned(), Some(digest)));
    Ok(Content { media_type, digest, size, bytes })
}

/// Packs the layer from its snapshot, which must give the tar that the layer was called after.
fn pack_again(store: &Store, layer: &Layer, out: impl Write) -> Result<()> {
    let key = Key::layer(layer.chain_id);
    // It must not be removed while it is looked at.
    let _lock = store.lock(&key)?;
    let changes = store.layer_changes(&key)?;
    let mounted = Mounted::detached(&store.mounts(&key)?)?;
    let packed = pack(mounted.root(), &changes, out);
    drop(mounted);
    let released = store.release(&key);
    let packed = match packed {
        Ok(packed) => released.map(|()| packed)?,
        Err(error) => return Err(error.and_undo(released)),
    };
    if packed.diff_id == layer.diff_id {
        return Ok(());
    }
    Err(Error::new(
        Kind::Corrupt,
        format!(
            "its snapshot gives a tar of digest {}, and the archive that it came from was not kept; remove its images with 'lamina rmi' and load them again",
            packed.diff_id
        ),
    ))
}

/// Names what is read in a decoder's complaints.
struct Told<R> {
    inner: R,
    name: String,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| io::Error::other(read_error(error, format!("read {}", self.name))))
    }
}
