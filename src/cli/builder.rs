//! `lamina builder ...`: what builds keep for one another.

use anyhow::Result;
use clap::Subcommand;

use super::{Global, confirm::Asked, output, pool};
use crate::build::mount_cache;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Remove the caches of RUN --mount=type=cache that no build uses
    Prune(Asked),
}

impl Verb {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Prune(asked) => prune_if_agreed(global, *asked),
        }
    }
}

fn prune_if_agreed(global: &Global, asked: Asked) -> Result<()> {
    let store = pool::existing(global)?;
    let warning = "This removes all caches of RUN --mount=type=cache that no build uses.";
    if !asked.agreed("builder prune", warning)? {
        return Ok(());
    }
    let freed = mount_cache::prune(store.layout())?;
    output::line(format_args!("Total reclaimed space: {}", freed.docker()))
}
