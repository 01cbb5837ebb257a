//! Which image a step made before: the parent and a key that holds all that the step's result follows from.

use rusqlite::{OptionalExtension as _, named_params};

use super::Build;
use crate::{
    error::{Kind, Result},
    id::{Digest, ImageId},
    image::{
        catalog::{Catalog, Image},
        config::Config,
    },
    store::Sql as _,
};

/// The name of a step's result, before it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StepKey {
    /// The image before the step; empty for none.
    parent: String,
    /// The digest of what the step does.
    act: String,
}

impl StepKey {
    pub(super) fn new(parent: Option<ImageId>, act: &str) -> Self {
        let parent = parent.map(|id| id.to_string()).unwrap_or_default();
        Self { parent, act: Digest::of(act.as_bytes()).to_string() }
    }
}

impl Build<'_> {
    /// The image that this step made the last time, if it is there still.
    pub(super) fn cached(&self, key: &StepKey) -> Result<Option<Image>> {
        let found: Option<String> = self.store.database().read("look up a build step", |tx| {
            tx.query_row(
                "SELECT image FROM steps WHERE parent = :parent AND act = :act",
                named_params! {":parent": key.parent, ":act": key.act},
                |row| row.get(0),
            )
            .optional()
            .sql()
        })?;
        found.map_or(Ok(None), |id| self.held(id.parse()?))
    }

    /// The image with this ID, which nobody removes from now on as long as the build runs; `None` if it went before.
    pub(super) fn held(&self, id: ImageId) -> Result<Option<Image>> {
        self.images.hold(id)?;
        match Catalog::new(self.store).find(&id.to_string()) {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes the image that a step made, and that the step made it.
    pub(super) fn publish(&self, key: &StepKey, config: &Config) -> Result<Image> {
        self.images.hold(config.id())?;
        let id = config.id().to_string();
        Catalog::new(self.store).publish_with(config, None, |tx| {
            tx.execute(
                "INSERT INTO steps (parent, act, image) VALUES (:parent, :act, :image)
                 ON CONFLICT (parent, act) DO UPDATE SET image = :image",
                named_params! {":parent": key.parent, ":act": key.act, ":image": id},
            )
            .sql()
            .map(drop)
        })
    }
}
