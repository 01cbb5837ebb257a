//! By which digests registries know the images that are here: Docker's `RepoDigests`.
//!
//! Invariant: such a name leads to an image and keeps none. It comes with a pull or push, and goes with the image's last
//! reference in that repository.

use rusqlite::{OptionalExtension as _, Transaction, named_params};

use super::{catalog::Image, reference::Reference};
use crate::{
    error::Result,
    id::{Digest, ImageId},
    store::{Sql as _, Store},
};

/// Notes that the registry knows `image`, if it is still there, by `digest` in the repository of `reference`.
pub(super) fn note(tx: &Transaction<'_>, reference: &Reference, digest: Digest, image: ImageId) -> Result<()> {
    tx.execute(
        "INSERT INTO digests (repository, digest, image) SELECT :repository, :digest, id FROM images WHERE id = :image
         ON CONFLICT (repository, digest) DO UPDATE SET image = :image",
        named_params! {
            ":repository": reference.name(), ":digest": digest.to_string(), ":image": image.to_string(),
        },
    )
    .sql()
    .map(drop)
}

/// The image that a reference with a digest names.
pub(super) fn find(tx: &Transaction<'_>, reference: &Reference) -> Result<Option<String>> {
    let Some(digest) = reference.digest() else { return Ok(None) };
    let question = "SELECT image FROM digests WHERE repository = :repository AND digest = :digest";
    let parameters = named_params! {":repository": reference.name(), ":digest": digest.to_string()};
    tx.query_row(question, parameters, |row| row.get(0)).optional().sql()
}

/// Forgets the digests of `image` in repositories where no reference names it any more.
pub(super) fn forget_unnamed(tx: &Transaction<'_>, image: ImageId, gone: &[Reference]) -> Result<()> {
    for reference in gone {
        let name = reference.name();
        tx.execute(
            "DELETE FROM digests WHERE image = :image AND repository = :name AND NOT EXISTS (
                 SELECT 1 FROM tags WHERE image = :image
                 AND (substr(reference, 1, length(:name) + 1) IN (:name || ':', :name || '@')))",
            named_params! {":image": image.to_string(), ":name": name},
        )
        .sql()?;
    }
    Ok(())
}

/// The names with digests that lead to `image`, the latest first.
///
/// # Errors
/// When the database cannot be read.
pub fn of(store: &Store, image: &Image) -> Result<Vec<Reference>> {
    let names: Vec<String> = store.database().read("look up an image's digests", |tx| {
        let question = "SELECT repository || '@' || digest FROM digests WHERE image = :image ORDER BY rowid DESC";
        let mut statement = tx.prepare(question).sql()?;
        let names = statement.query_map(named_params! {":image": image.id.to_string()}, |row| row.get(0)).sql()?;
        names.collect::<rusqlite::Result<_>>().sql()
    })?;
    names.iter().map(|name| name.parse()).collect()
}
