//! `lamina rm`.

use anyhow::Result;

use super::{Global, for_each, output, pool};
use crate::container::Containers;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Remove the anonymous volumes that no other container has, too
    #[arg(short, long)]
    volumes: bool,
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        for_each(&self.containers, |name| {
            let container = containers.find(name)?;
            if self.volumes { containers.remove_with_volumes(&container) } else { containers.remove(&container) }?;
            output::line(name)
        })
    }
}
