//! `lamina rm`.

use anyhow::Result;

use super::{Global, for_each, output, pool};
use crate::container::Containers;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        for_each(&self.containers, |name| {
            containers.remove(&containers.find(name)?)?;
            output::line(name)
        })
    }
}
