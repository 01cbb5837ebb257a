//! `lamina commit`.

use anyhow::Result;

use super::{Global, output, pool};
use crate::{container::Containers, image::reference::Reference};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or ID
    container: String,
    /// What to call the new image
    #[arg(value_name = "REF")]
    reference: Option<Reference>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let image = containers.commit(&containers.find(&self.container)?, self.reference.as_ref())?;
        output::line(image.id)
    }
}
