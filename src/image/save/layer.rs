//! The bytes of one layer, in the form that an archive or a registry wants: as they came where the layer came from an
//! archive, else packed again from the snapshot.
//!
//! Invariant: the end of a reader is only told when what it gave has the digest that was promised, so no damaged layer
//! is passed on as a good one; memory does not grow with the layer.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek as _, Write},
    os::fd::{AsFd, BorrowedFd},
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
        outline::Outlined,
        pack::pack,
        read_error,
        verified::Verified,
    },
    store::{BlobFormat, Key, Lock, Store},
    units::Bytes,
};

/// A layer's bytes in one form, which `R` reads.
pub struct Content<R> {
    /// Which form that is.
    pub media_type: MediaType,
    /// sha256 of the bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: Bytes,
    /// The bytes; where the end would come with another digest, an error comes.
    pub bytes: R,
}

impl<R> fmt::Debug for Content<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, {}", self.digest, self.size, self.media_type)
    }
}

/// The layer as a plain tar, the bytes of its diff ID.
///
/// # Errors
/// `Corrupt` if what was kept is missing or cut off, or if the layer's snapshot does not give the same tar again;
/// `Full` without room for that tar; the system's.
pub fn plain<'store>(store: &'store Store, layer: &Layer) -> Result<Content<Box<dyn Read + 'store>>> {
    if let Some(content) = kept_plain(store, layer)? {
        return Ok(content);
    }
    let Content { media_type, digest, size, bytes } =
        spooled(store, MediaType::ImageLayer, |spool| pack_again(store, layer, spool))?;
    Ok(Content { media_type, digest, size, bytes: Box::new(bytes) })
}

/// The layer as it came, if it came compressed; else with gzip, always the same bytes for the same tar. `go_on` is asked
/// meanwhile.
///
/// # Errors
/// As [`plain`], and those of `go_on`.
pub fn compressed(store: &Store, layer: &Layer, go_on: GoOn<'_>) -> Result<Content<Verified<File>>> {
    if let Some(content) = as_it_came(store, layer)? {
        return Ok(content);
    }
    spooled(store, MediaType::ImageLayerGzip, |spool| {
        // Neither a name nor a time of its own: flate2 writes none unless it is told to.
        let mut out: GzEncoder<_> = GzBuilder::new().write(spool, flate2::Compression::default());
        pour(store, layer, Asking { out: &mut out, go_on })?;
        out.finish().map(drop).map_err(|error| read_error(error, "compress the layer"))
    })
}

/// [`plain`], from a file, so that another thread may read it.
///
/// # Errors
/// As [`compressed`].
pub fn plain_in_file(store: &Store, layer: &Layer, go_on: GoOn<'_>) -> Result<Content<Verified<File>>> {
    spooled(store, MediaType::ImageLayer, |spool| pour(store, layer, Asking { out: spool, go_on }))
}

/// Whether what is being made is still wanted.
type GoOn<'a> = &'a dyn Fn() -> Result<()>;

struct Asking<'a, W> {
    out: W,
    go_on: GoOn<'a>,
}

impl<W: Write> Write for Asking<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.go_on)().map_err(io::Error::other)?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the plain tar.
fn pour(store: &Store, layer: &Layer, mut out: impl Write) -> Result<()> {
    match kept_plain(store, layer)? {
        Some(mut kept) => {
            io::copy(&mut kept.bytes, &mut out).map(drop).map_err(|error| read_error(error, "write the layer's tar"))
        }
        None => pack_again(store, layer, out),
    }
}

fn as_it_came(store: &Store, layer: &Layer) -> Result<Option<Content<Verified<File>>>> {
    let Some((blob, file)) = store.blob(&layer.info)? else { return Ok(None) };
    let media_type = match blob.format {
        BlobFormat::Gzip => MediaType::ImageLayerGzip,
        BlobFormat::Zstd => MediaType::ImageLayerZstd,
        BlobFormat::Plain => return Ok(None),
    };
    let bytes = Verified::new(file, place(store, layer), Some(blob.digest));
    Ok(Some(Content { media_type, digest: blob.digest, size: blob.size, bytes }))
}

fn kept_plain<'store>(store: &'store Store, layer: &Layer) -> Result<Option<Content<Box<dyn Read + 'store>>>> {
    let Some((blob, file)) = store.blob(&layer.info)? else { return Ok(None) };
    let name = place(store, layer);
    let inner: Box<dyn Read + 'store> = match blob.format {
        BlobFormat::Gzip => decode(Compression::Gzip, file)?,
        BlobFormat::Zstd => decode(Compression::Zstd, file)?,
        BlobFormat::Plain => Box::new(Outlined::new(file, Tree::of(store, layer)?).act(|| format!("read {name}"))?),
    };
    let told = Told { inner, name: name.clone() };
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
) -> Result<Content<Verified<File>>> {
    let mut spool = Hashing::new(SparingFile::unnamed(store.layout().root(), SPOOL_RESERVE)?);
    write(&mut spool)?;
    let (file, digest, size) = spool.finish();
    let mut file: File = file.into_file();
    file.rewind().act(|| "read the packed layer")?;
    let bytes = Verified::new(file, "the packed layer".to_owned(), Some(digest));
    Ok(Content { media_type, digest, size, bytes })
}

/// Packs the layer from its snapshot, which must give the tar that the layer was called after.
fn pack_again(store: &Store, layer: &Layer, out: impl Write) -> Result<()> {
    let tree = Tree::of(store, layer)?;
    let packed = pack(tree.as_fd(), &store.layer_changes(&tree.released.key)?, out)?;
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

/// A layer's tree, mounted where nobody sees it. Dropped from top to bottom.
struct Tree<'store> {
    mounted: Mounted,
    released: Released<'store>,
    /// It must not be removed while it is looked at.
    _lock: Lock,
}

impl<'store> Tree<'store> {
    fn of(store: &'store Store, layer: &Layer) -> Result<Self> {
        let key = Key::layer(layer.chain_id);
        let lock = store.lock(&key)?;
        let released = Released { store, key };
        let mounted = Mounted::detached(&store.mounts(&released.key)?)?;
        Ok(Self { mounted, released, _lock: lock })
    }
}

impl AsFd for Tree<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mounted.root()
    }
}

/// Ends what [`Store::mounts`] began.
struct Released<'store> {
    store: &'store Store,
    key: Key,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.release(&self.key) {
            // A device that stays is used, or ended, by whoever uses or removes the layer next.
            tracing::warn!("end the use of layer {}: {error}", self.key);
        }
    }
}

/// Names what is read in a decoder's complaints.
struct Told<R> {
    inner: R,
    name: String,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let act = format!(
                "read {}; if it is damaged, remove its images with 'lamina rmi' and load them again",
                self.name
            );
            io::Error::other(read_error(error, act))
        })
    }
}
