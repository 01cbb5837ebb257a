//! `lamina create`.

use anyhow::{Context as _, Result};

use super::{Global, output, pool};
use crate::{
    container::{Containers, checked_name},
    image::catalog::Catalog,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the container; one is made up if none is given
    #[arg(long, value_parser = checked_name)]
    name: Option<String>,
    /// Reference or ID of the image
    image: String,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let image = Catalog::new(&store).find(&self.image)?;
        let container = Containers::new(&store).create(&image, &self.image, self.name.as_deref())?;
        output::line(&container.id).with_context(|| format!("container {} is made", container.id))
    }
}
