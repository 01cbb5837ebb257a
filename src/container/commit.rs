//! `commit`: a container's changes become a layer on those of its image.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Container, Containers, instant::Instant};
use crate::{
    error::Result,
    image::{
        catalog::{Catalog, Image},
        config::Step,
        layer,
        reference::Reference,
    },
};

/// What the new image says besides.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// A remark.
    pub message: String,
    /// Who made it.
    pub author: String,
    /// How a container of it runs, the object `config`; as the container's image says, if there is none.
    pub runs: Option<Map<String, Value>>,
}

impl Containers<'_> {
    /// Makes the container's present state a new image.
    ///
    /// # Errors
    /// `Full`, or the driver's; nothing stays then.
    pub fn commit(&self, container: &Container, reference: Option<&Reference>, note: Note) -> Result<Image> {
        let catalog = Catalog::new(self.store);
        let image = catalog.find(&container.image.to_string())?;
        let Instant { mut held, changes, mount_points } = self.captured(container)?;
        if mount_points.is_empty() {
            self.unlimit(container, &held)?;
        } else {
            held = self.bared(container, &held, &mount_points)?;
        }
        let layer = layer::stack(&held, &changes, &image.config)?;
        let Note { message, author, runs } = note;
        let created = Timestamp::now();
        let step = Step { created_by: "", comment: &message, author: &author, created, layer: Some(layer.diff_id) };
        let config = image.config.stepped(&step, |config| {
            if let Some(runs) = runs {
                *config = runs;
            }
        })?;
        layer.publish(self.store, &held, || catalog.publish(&config, reference))
    }
}
