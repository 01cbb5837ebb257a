//! By which digests registries know the images that are here: Docker's `RepoDigests`.
//!
//! Invariant: such a name leads to an image and keeps none. It comes with a pull or push, and goes by itself or with the
//! image's last tag in that repository.

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

/// The names that keep `image`, which somebody gave it.
pub(super) fn tags(tx: &Transaction<'_>, image: ImageId) -> Result<Vec<Reference>> {
    names_of(tx, image, "SELECT reference FROM tags WHERE image = :image ORDER BY reference")
}

/// All names of `image`, whose `tags` these are, those by digest last.
pub(super) fn names(tx: &Transaction<'_>, image: ImageId, tags: Vec<Reference>) -> Result<Vec<Reference>> {
    let noted = "SELECT repository || '@' || digest FROM digests WHERE image = :image ORDER BY 1";
    let mut names = tags;
    for name in names_of(tx, image, noted)? {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| name.digest().is_some());
    Ok(names)
}

fn names_of(tx: &Transaction<'_>, image: ImageId, question: &str) -> Result<Vec<Reference>> {
    let mut statement = tx.prepare(question).sql()?;
    let names =
        statement.query_map(named_params! {":image": image.to_string()}, |row| row.get::<_, String>(0)).sql()?;
    let names = names.collect::<rusqlite::Result<Vec<_>>>().sql()?;
    names.iter().map(|name| name.parse()).collect()
}

/// Takes this name from `image`.
pub(super) fn unname(tx: &Transaction<'_>, image: ImageId, name: &Reference) -> Result<()> {
    let image = image.to_string();
    let gone = "DELETE FROM tags WHERE reference = :name AND image = :image";
    tx.execute(gone, named_params! {":name": name.canonical(), ":image": image}).sql()?;
    if let Some(digest) = name.digest() {
        let gone = "DELETE FROM digests WHERE repository = :repository AND digest = :digest AND image = :image";
        let digest = digest.to_string();
        tx.execute(gone, named_params! {":repository": name.name(), ":digest": digest, ":image": image}).sql()?;
    }
    Ok(())
}

/// The names with digests that lead to `image`, the latest first.
///
/// # Errors
/// When the database cannot be read.
pub fn of(store: &Store, image: &Image) -> Result<Vec<Reference>> {
    let question = "SELECT repository || '@' || digest FROM digests WHERE image = :image ORDER BY rowid DESC";
    store.database().read("look up an image's digests", |tx| names_of(tx, image.id, question))
}
