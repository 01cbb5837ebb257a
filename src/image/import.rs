//! Layers into the store: a root file system tar as a one-layer image, and the images of an archive layer by layer.
//!
//! Invariant: a layer is held until the image that needs it is published; on any error nothing of it stays, while layers
//! that other images have are untouched. After a signal, or death, finished layers of an image wait for the next try.

use std::io::Read;

use jiff::Timestamp;

use super::{
    archive::{Archive, ArchivedImage, BlobRef},
    catalog::{Catalog, Image},
    compression,
    config::Config,
    keep::keep_beside,
    outline::Outline,
    reference::Reference,
    unpack::{Unpacked, unpack_outlined},
};
use crate::{
    driver::Access,
    error::{Error, Kind, Result},
    id::{ChainId, DiffId, ImageId},
    interrupt,
    store::{Blob, BlobFormat, Filling, Held, Key, Store},
};

/// Makes a one-layer image of a root file system tar, plain or compressed. `source` is where it came from, for the history.
///
/// # Errors
/// Those of reading and unpacking; nothing stays then.
pub fn import(store: &Store, tar: impl Read + Send, reference: &Reference, source: &str) -> Result<Image> {
    reference.require_free()?;
    let catalog = Catalog::new(store);
    let held = store.draft(None)?;
    let (unpacked, blob) = fill(store, &held, tar)?;
    unpacked.verify(None)?;
    let chain = ChainId::stack(None, unpacked.diff_id);
    catalog.name_layer(&held, chain, unpacked.size, Some(&blob))?;
    let config = Config::imported(unpacked.diff_id, source, Timestamp::now())?;
    catalog.publish(&config, Some(reference))
}

/// What happens while an archive is loaded.
pub trait LoadEvents: Send {
    /// A layer begins: it is number `index` of `count`, and `size` bytes in the archive.
    fn layer(&mut self, diff: DiffId, index: usize, count: usize, size: u64);
    /// A layer is here already and is not unpacked.
    fn exists(&mut self, diff: DiffId);
    /// So many more bytes of the layer were read.
    fn read(&mut self, bytes: u64);
}

/// An image that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its identity.
    pub id: ImageId,
    /// What the archive calls it.
    pub references: Vec<Reference>,
}

/// Loads every image of a docker-archive or OCI archive.
///
/// # Errors
/// Those of reading and unpacking; images that were complete before the error stay.
pub fn load(store: &Store, archive: &Archive, events: &mut dyn LoadEvents) -> Result<Vec<Loaded>> {
    let images = archive.images()?;
    if images.is_empty() {
        return Err(Error::new(Kind::Invalid, "the archive holds no image"));
    }
    let load = |image: &ArchivedImage| {
        let id = load_image(store, archive, image, events)?;
        Ok(Loaded { id, references: image.references.clone() })
    };
    images.iter().map(load).collect()
}

fn load_image(store: &Store, archive: &Archive, image: &ArchivedImage, events: &mut dyn LoadEvents) -> Result<ImageId> {
    image.references.iter().try_for_each(Reference::require_free)?;
    image.config.require_bearable()?;
    let catalog = Catalog::new(store);
    let diffs = image.config.diff_ids();
    let mut parent = None;
    let layers = ChainId::chain(diffs).into_iter().zip(diffs.iter().zip(&image.layers)).enumerate();
    let load = |(index, (chain, (diff, blob))): (usize, (ChainId, (&DiffId, &BlobRef)))| {
        interrupt::check()?;
        let parent = parent.replace(Key::layer(chain));
        if catalog.has_layer(chain)? {
            events.exists(*diff);
            return Ok(None);
        }
        events.layer(*diff, index, diffs.len(), blob.size);
        load_layer(store, archive, blob, (parent, chain, *diff), events)
            .map(Some)
            .map_err(|error| error.within(format!("load layer {} of {}, {diff}", index + 1, diffs.len())))
    };
    let held = together(layers.map(load).filter_map(Result::transpose))?;
    let (first, others) = match image.references.split_first() {
        Some((first, others)) => (Some(first), others),
        None => (None, [].as_slice()),
    };
    let published = catalog.publish(&image.config, first)?;
    for reference in others {
        catalog.publish(&image.config, Some(reference))?;
    }
    drop(held);
    Ok(published.id)
}

fn load_layer<'store>(
    store: &'store Store,
    archive: &Archive,
    blob: &BlobRef,
    (parent, chain, diff): (Option<Key>, ChainId, DiffId),
    events: &mut dyn LoadEvents,
) -> Result<Held<'store>> {
    let held = store.draft(parent.as_ref())?;
    let stored = Told { inner: archive.layer(blob), events };
    let (unpacked, blob) = fill(store, &held, stored)?;
    unpacked.verify(Some(diff))?;
    Catalog::new(store).name_waiting_layer(&held, chain, unpacked.size, &blob)?;
    Ok(held)
}

/// Makes all layers of an image, held until it is published. After a signal those that are finished wait for the next try;
/// after another failure they go, for there may be none.
pub(super) fn together<'store>(layers: impl Iterator<Item = Result<Held<'store>>>) -> Result<Vec<Held<'store>>> {
    let mut held = Vec::new();
    for layer in layers {
        match layer {
            Ok(layer) => held.push(layer),
            Err(error) => {
                if crate::interrupt::asked() {
                    held.into_iter().for_each(Held::leave_waiting);
                }
                return Err(error);
            }
        }
    }
    Ok(held)
}

/// Unpacks a layer's archive, compressed or not, into a held snapshot, and keeps what gives it again as it came.
pub(super) fn fill(store: &Store, held: &Held<'_>, stored: impl Read + Send) -> Result<(Unpacked, Blob)> {
    let (compression, stored) = compression::recognise(stored)?;
    let format = compression.kept_as();
    let file = held.blob()?;
    let (unpacked, (digest, size)) = if format == BlobFormat::Plain {
        let outline = Outline::new(file);
        let unpacked = fill_tree(store, held, stored, Some(&outline))?;
        (unpacked, outline.finish()?)
    } else {
        keep_beside(file, stored, |stored| fill_tree(store, held, compression::decode(compression, stored)?, None))?
    };
    Ok((unpacked, Blob { format, digest, size, plain: unpacked.length }))
}

pub(super) fn fill_tree(
    store: &Store,
    held: &Held<'_>,
    tar: impl Read + Send,
    outline: Option<&Outline>,
) -> Result<Unpacked> {
    let mounted = held.mounted(Access::ReadWrite)?;
    let mut filling = Filling::of(held, &mounted)?;
    let unpacked = unpack_outlined(mounted.root(), tar, &mut |bytes| filling.room(bytes), outline);
    unpacked.and_then(|unpacked| filling.finish().map(|()| unpacked)).map_err(|error| store.explain(error))
}

/// A reader that tells what it read.
struct Told<'a, R> {
    inner: R,
    events: &'a mut (dyn LoadEvents + 'a),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.events.read(length as u64);
        Ok(length)
    }
}
