//! Removing the images that nothing needs, and what pulls and loads left that were not finished.
//!
//! Invariant: an image that a container was made from stays, and so does one that gets a name meanwhile.

use super::{
    catalog::{Catalog, Image, Layer},
    removal::Removed,
};
use crate::{
    driver::Usage,
    error::{Kind, Result},
    interrupt,
    store::Store,
    units::Bytes,
};

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// The images.
    pub removed: Vec<Removed>,
    /// Bytes in the pool that were the own ones of the layers which went, those that waited for an image included.
    pub own: Bytes,
    /// Bytes of the archives that these layers came from, and of downloads that were not finished.
    pub blobs: Bytes,
}

/// Removes the images without a name; with `all`, every one that no container was made from.
///
/// # Errors
/// When something cannot be read or removed; what was removed before stays so.
pub fn prune(store: &Store, all: bool) -> Result<Pruned> {
    let catalog = Catalog::new(store);
    let wanted = |image: &Image| all || image.references.is_empty();
    let images: Vec<Image> = catalog.list_results()?.into_iter().filter(wanted).collect();
    let before = catalog.layers_of(&images)?;
    // What another command removed meanwhile did not go by this one.
    let usage = |layer: &Layer| match store.usage(&layer.info.key) {
        Err(error) if error.kind() == Kind::NotFound => Ok(Usage::default()),
        usage => usage,
    };
    let sizes = before.values().map(usage).collect::<Result<Vec<_>>>()?;
    let mut pruned = Pruned::default();
    for image in &images {
        interrupt::check()?;
        match catalog.remove_image(image) {
            Ok(removed) if !removed.deleted.is_empty() => pruned.removed.push(removed),
            Err(error) if error.kind() != Kind::InUse => return Err(error),
            // It has a name now, or a container needs it.
            _ => {}
        }
    }
    let given_up = store.prune_waiting()?;
    pruned.own += given_up.own;
    pruned.blobs += given_up.blobs + store.prune_downloads()?;
    for (layer, usage) in before.values().zip(sizes) {
        if !catalog.has_layer(layer.chain_id)? {
            pruned.own += usage.exclusive;
            pruned.blobs += layer.info.blob.map(|blob| blob.size).unwrap_or_default();
        }
    }
    Ok(pruned)
}
