//! `lamina builder ...`: what builds keep for one another.

use anyhow::Result;
use clap::Subcommand;

use super::{Global, confirm, output, pool};
use crate::build::mount_cache;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Remove the caches of RUN --mount=type=cache that no build uses
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Verb {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Prune(args) => args.run(global),
        }
    }
}

impl PruneArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let warning = "This removes all caches of RUN --mount=type=cache that no build uses.";
        if !confirm::agreed("builder prune", self.force, warning)? {
            return Ok(());
        }
        let freed = mount_cache::prune(store.layout())?;
        output::line(format_args!("Total reclaimed space: {}", freed.docker()))
    }
}
