//! Images taken away: references, and what nothing needs any more.
//!
//! Invariant: an image goes with its last reference unless a container was made from it, and takes along the steps that led
//! to it and to nothing else; what a build that runs needs stays until that has ended; its layers are no longer kept in the same transaction.

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
    /// `NotFound`; `InUse` while a container was made from it, or while an ID is given and several references name it.
    pub fn remove(&self, name: &str) -> Result<Removed> {
        let image = self.find(name)?;
        let reference = name.parse::<Reference>().ok().filter(|reference| image.references.contains(reference));
        if reference.is_none() && image.references.len() > 1 {
            return Err(Error::new(
                Kind::InUse,
                format!("remove image {name}: {} references name it; remove them by name", image.references.len()),
            ));
        }
        let untagged = reference.map_or(image.references.clone(), |reference| vec![reference]);
        self.remove_names(name, &image, untagged)
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

    /// Removes an image with all its references.
    ///
    /// # Errors
    /// `InUse` while a container was made from it.
    pub fn remove_image(&self, image: &Image) -> Result<Removed> {
        self.remove_names(&image.id.to_string(), image, image.references.clone())
    }

    fn remove_names(&self, name: &str, image: &Image, untagged: Vec<Reference>) -> Result<Removed> {
        // Held until all is written: nobody comes to need what is going.
        let mut locks = Vec::new();
        let mut is_free = |id: ImageId| {
            let lock = self.store.try_lock_image(id)?;
            Ok(lock.map(|lock| locks.push(lock)).is_some())
        };
        let deleted = self.store.database().write(&format!("remove image {name}"), |tx| {
            for reference in &untagged {
                let gone = "DELETE FROM tags WHERE reference = :r AND image = :id";
                let id = image.id.to_string();
                tx.execute(gone, named_params! {":r": reference.canonical(), ":id": id}).sql()?;
            }
            digests::forget_unnamed(tx, image.id, &untagged)?;
            // Counted here: another command may have named it, or taken a name from it, since we looked.
            if is_named(tx, image.id)? {
                return Ok(Vec::new());
            }
            if !is_free(image.id)? {
                let what = format!("remove image {name}: a build that runs needs it; let that end first");
                return Err(Error::new(Kind::InUse, what));
            }
            // The steps of another build went on from it: without its name it is one of them.
            if is_followed(tx, image.id)? {
                return Ok(Vec::new());
            }
            if let Some(user) = user_of(tx, image.id)? {
                let what = format!(
                    "remove image {name}: container {user} was made from it; remove that first with 'lamina rm {user}'"
                );
                return Err(Error::new(Kind::InUse, what));
            }
            let mut deleted = Vec::new();
            let mut open = vec![image.id];
            while let Some(id) = open.pop() {
                if !exists(tx, id)? {
                    continue;
                }
                // A step that led to it goes too, if it led to nothing else.
                let mut needed =
                    || Ok(is_named(tx, id)? || is_followed(tx, id)? || user_of(tx, id)?.is_some() || !is_free(id)?);
                if id != image.id && needed()? {
                    continue;
                }
                open.extend(steps_before(tx, id)?);
                delete(tx, id)?;
                deleted.push(id);
            }
            Ok(deleted)
        })?;
        // They may be made anew while what they were is removed.
        drop(locks);
        self.store.recover_or_tell();
        Ok(Removed { untagged, deleted })
    }
}

/// Deletes the image's row; its layers are no longer kept, from the top down to the first that something needs.
fn delete(tx: &Transaction<'_>, id: ImageId) -> Result<()> {
    let row = "DELETE FROM images WHERE id = :id RETURNING top";
    let top: Option<u64> = tx.query_row(row, named_params! {":id": id.to_string()}, |row| row.get(0)).sql()?;
    top.map_or(Ok(()), |top| unkeep(tx, VolumeId::new(top)?))
}

fn is_named(tx: &Transaction<'_>, id: ImageId) -> Result<bool> {
    let question = "SELECT EXISTS (SELECT 1 FROM tags WHERE image = :id)";
    tx.query_row(question, named_params! {":id": id.to_string()}, |row| row.get(0)).sql()
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
