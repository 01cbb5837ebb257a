//! The manifests that images were pulled or first pushed with: an image goes out with the same digest each time.
//!
//! Invariant: a manifest goes with its image.

use rusqlite::{OptionalExtension as _, Transaction, named_params};

use super::manifest::Manifest;
use crate::{
    error::Result,
    id::ImageId,
    store::{Sql as _, Store},
};

/// Keeps `manifest` for `image`, and no longer another one.
pub(super) fn keep(tx: &Transaction<'_>, image: ImageId, manifest: &Manifest) -> Result<()> {
    tx.execute(
        "INSERT INTO manifests (image, manifest) VALUES (:image, :manifest)
         ON CONFLICT (image) DO UPDATE SET manifest = :manifest",
        named_params! {":image": image.to_string(), ":manifest": manifest.bytes},
    )
    .sql()
    .map(drop)
}

/// The manifest that `image` was last pulled, or first pushed, with.
pub(super) fn find(store: &Store, image: ImageId) -> Result<Option<Manifest>> {
    let bytes: Option<Vec<u8>> = store.database().read("look up a manifest", |tx| {
        let question = "SELECT manifest FROM manifests WHERE image = :image";
        tx.query_row(question, named_params! {":image": image.to_string()}, |row| row.get(0)).optional().sql()
    })?;
    bytes.map(Manifest::parse).transpose()
}
