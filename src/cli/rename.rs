//! `lamina rename`.

use anyhow::Result;

use super::{Global, pool};
use crate::container::{Containers, checked_name};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or ID
    container: String,
    /// The new name
    #[arg(value_parser = checked_name)]
    name: String,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        Ok(containers.rename(&containers.find(&self.container)?, &self.name)?)
    }
}
