//! `lamina rm`.

use anyhow::Result;

use super::{Global, for_each, output, pool};
use crate::container::{Containers, Removal};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kill what runs
    #[arg(short, long)]
    force: bool,
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
        containers.sweep_or_tell();
        for_each(&self.containers, |name| {
            let container = containers.find(name)?;
            containers.remove(&container, Removal { kill: self.force, volumes: self.volumes, by_itself: false })?;
            output::line(name)
        })
    }
}
