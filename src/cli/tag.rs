//! `lamina tag`.

use anyhow::Result;

use super::{Global, pool};
use crate::image::{catalog::Catalog, reference::Reference};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Reference or ID
    #[arg(value_name = "IMAGE")]
    source: String,
    /// One more name for it
    #[arg(value_name = "REF")]
    target: Reference,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let catalog = Catalog::new(&store);
        Ok(catalog.tag(&catalog.find(&self.source)?, &self.target)?)
    }
}
