//! Images taken away: references, and what nothing needs any more.
//!
//! Invariant: a name that is removed takes no other one along, but those that registries gave, with the last tag of their
//! repository. An image goes with its last name unless a container was made from it or a build that runs needs it, and
//! takes along the steps that led to it and to nothing else; its layers are no longer kept in the same transaction.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension as _, Transaction, named_params};

use super::{
    catalog::{Catalog, Image},
    digests,
    reference::Reference,
};
use crate::{
    error::{Error, Kind, Result},
    id::{ImageId, VolumeId},
    store::{Sql as _, waiting::unkeep},
};

/// What removing a reference did.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The references that are gone.
    pub untagged: Vec<Reference>,
    /// The image, if it is gone too, and the steps that led to it and to nothing else.
    pub deleted: Vec<ImageId>,
}

impl Catalog<'_> {
    /// Removes a reference, and the image with it if that was the last; given an ID, all references and the image.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while a container was made from it, or while an ID is given and several references name it or
    /// other images were built from it.
    pub fn remove(&self, name: &str) -> Result<Removed> {
        let image = self.find(name)?;
        let what = match name.parse::<Reference>().ok().filter(|_| !self.is_id(name, image.id)) {
            Some(reference) => What::Name(reference),
            None => What::Image,
        };
        self.remove_names(name, &image, &what)
    }

    /// Whether `name` is this ID or its beginning, and not what somebody has called an image.
    fn is_id(&self, name: &str, id: ImageId) -> bool {
        let named = || matches!(name.parse::<Reference>().map(|name| self.id_of(&name)), Ok(Ok(Some(_))));
        id.to_string() == name || (id.0.hex().starts_with(name.trim_start_matches("sha256:")) && !named())
    }

    /// The image and those from which steps of builds led to it, each with the length of its history.
    ///
    /// # Errors
    /// When the database or a configuration cannot be read.
    pub fn line_of(&self, image: &Image) -> Result<Vec<(usize, ImageId)>> {
        let mut line = vec![(image.config.history()?.len(), image.id)];
        let mut open = vec![image.id];
        while let Some(id) = open.pop() {
            for parent in self.store.database().read("look for an image's steps", |tx| steps_before(tx, id))? {
                match self.find(&parent.to_string()) {
                    Ok(found) => line.push((found.config.history()?.len(), parent)),
                    Err(error) if error.kind() == Kind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                open.push(parent);
            }
        }
        Ok(line)
    }

    /// Removes an image with all its references, unless it was given another one since it was looked up.
    ///
    /// # Errors
    /// `InUse` while a container was made from it, or a build that runs needs it.
    pub fn remove_image(&self, image: &Image) -> Result<Removed> {
        self.remove_names(&image.id.to_string(), image, &What::Everything)
    }

    fn remove_names(&self, name: &str, image: &Image, what: &What) -> Result<Removed> {
        // Held until all is written: nobody comes to need what is going.
        let mut locks = Vec::new();
        let mut is_free = |id: ImageId| {
            let lock = self.store.try_lock_image(id)?;
            Ok(lock.map(|lock| locks.push(lock)).is_some())
        };
        let removed = self.store.database().write(&format!("remove image {name}"), |tx| {
            // Looked up here: another command may have named it, or taken a name from it, since we looked.
            let tags = digests::tags(tx, image.id)?;
            let is_named_anew = tags.iter().any(|tag| !image.references.contains(tag));
            let names = digests::names(tx, image.id, tags)?;
            let untagged = match what {
                What::Name(reference) => with_digests(&names, reference),
                // A build that has come to its end, say, has named it since it was looked up.
                What::Everything if is_named_anew => Vec::new(),
                What::Everything => names,
                What::Image => {
                    require_alone(tx, name, image.id, &names)?;
                    names
                }
            };
            if let (What::Name(_), []) = (what, untagged.as_slice()) {
                return Err(Error::new(Kind::NotFound, format!("no such image: {name}")));
            }
            for reference in &untagged {
                digests::unname(tx, image.id, reference)?;
            }
            Ok(Removed { untagged, deleted: delete_unnamed(tx, name, image.id, &mut is_free)? })
        })?;
        // They may be made anew while what they were is removed.
        drop(locks);
        self.store.recover_or_tell();
        Ok(removed)
    }
}

/// What is to be removed.
enum What {
    /// A name.
    Name(Reference),
    /// An image, if it has one name at most and nothing was built from it.
    Image,
    /// An image with all its names, if they are those that were known.
    Everything,
}

/// The name itself, and those that registries gave if it was the last tag of its repository.
fn with_digests(names: &[Reference], reference: &Reference) -> Vec<Reference> {
    let here = || names.iter().filter(|name| name.name() == reference.name());
    let is_it = |name: &&Reference| match reference.digest() {
        Some(digest) => name.digest() == Some(digest),
        None => *name == reference,
    };
    let tag_stays = here().any(|name| name.digest().is_none() && !is_it(&name));
    let all = reference.digest().is_none() && !tag_stays && here().any(|name| is_it(&name));
    here().filter(|name| all || is_it(name)).cloned().collect()
}

/// Refuses to remove an image by its ID that has several names or led to others, as Docker does.
fn require_alone(tx: &Transaction<'_>, name: &str, id: ImageId, names: &[Reference]) -> Result<()> {
    let repositories: BTreeSet<String> = names.iter().map(Reference::name).collect();
    let tags = names.iter().filter(|name| name.digest().is_none()).count();
    let in_use = |why: &str| Err(Error::new(Kind::InUse, format!("remove image {name}: {why}")));
    if tags > 1 || repositories.len() > 1 {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        return in_use(&format!(
            "image is referenced in multiple repositories; remove it by its names: {}",
            names.join(", ")
        ));
    }
    if is_followed(tx, id)? {
        return in_use("image has dependent child images; remove those first, or the name alone");
    }
    Ok(())
}

/// Deletes the image if it has no name any more and is no step to another; returns what went. `is_free` tells whether no
/// build that runs needs an image.
fn delete_unnamed(
    tx: &Transaction<'_>,
    name: &str,
    id: ImageId,
    is_free: &mut dyn FnMut(ImageId) -> Result<bool>,
) -> Result<Vec<ImageId>> {
    if !digests::tags(tx, id)?.is_empty() {
        return Ok(Vec::new());
    }
    if !is_free(id)? {
        let what = format!("remove image {name}: a build that runs needs it; let that end first");
        return Err(Error::new(Kind::InUse, what));
    }
    // The steps of another build went on from it: without its name it is one of them.
    if is_followed(tx, id)? {
        return Ok(Vec::new());
    }
    if let Some(user) = user_of(tx, id)? {
        let what = format!(
            "remove image {name}: container {user} was made from it; remove that first with 'lamina rm {user}'"
        );
        return Err(Error::new(Kind::InUse, what));
    }
    let mut deleted = Vec::new();
    let mut open = vec![id];
    while let Some(next) = open.pop() {
        if !exists(tx, next)? {
            continue;
        }
        // A step that led to it goes too, if it led to nothing else.
        let mut needed = || {
            Ok(!digests::tags(tx, next)?.is_empty()
                || is_followed(tx, next)?
                || user_of(tx, next)?.is_some()
                || !is_free(next)?)
        };
        if next != id && needed()? {
            continue;
        }
        open.extend(steps_before(tx, next)?);
        delete(tx, next)?;
        deleted.push(next);
    }
    Ok(deleted)
}

/// Deletes the image's row; its layers are no longer kept, from the top down to the first that something needs.
fn delete(tx: &Transaction<'_>, id: ImageId) -> Result<()> {
    let row = "DELETE FROM images WHERE id = :id RETURNING top";
    let top: Option<u64> = tx.query_row(row, named_params! {":id": id.to_string()}, |row| row.get(0)).sql()?;
    top.map_or(Ok(()), |top| unkeep(tx, VolumeId::new(top)?))
}

fn exists(tx: &Transaction<'_>, id: ImageId) -> Result<bool> {
    let question = "SELECT EXISTS (SELECT 1 FROM images WHERE id = :id)";
    tx.query_row(question, named_params! {":id": id.to_string()}, |row| row.get(0)).sql()
}

/// The images from which a step of a build led to this one.
fn steps_before(tx: &Transaction<'_>, id: ImageId) -> Result<Vec<ImageId>> {
    let mut statement = tx.prepare("SELECT DISTINCT parent FROM steps WHERE image = :id AND parent <> ''").sql()?;
    let parents = statement.query_map(named_params! {":id": id.to_string()}, |row| row.get::<_, String>(0)).sql()?;
    let parents = parents.collect::<rusqlite::Result<Vec<_>>>().sql()?;
    parents.iter().map(|parent| parent.parse()).collect()
}

/// Whether a step of a build went on from this image.
fn is_followed(tx: &Transaction<'_>, id: ImageId) -> Result<bool> {
    let question = "SELECT EXISTS (SELECT 1 FROM steps WHERE parent = :id)";
    tx.query_row(question, named_params! {":id": id.to_string()}, |row| row.get(0)).sql()
}

/// The first container that was made from this image.
fn user_of(tx: &Transaction<'_>, id: ImageId) -> Result<Option<String>> {
    let question = "SELECT name FROM containers WHERE image = :id ORDER BY created LIMIT 1";
    tx.query_row(question, named_params! {":id": id.to_string()}, |row| row.get(0)).optional().sql()
}
