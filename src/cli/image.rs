//! `lamina image ...`: the verbs of images under Docker's longer names, and `prune`.

use anyhow::Result;
use clap::Subcommand;

use super::{Global, confirm, history, images, import, inspect, load, output, pool, pull, push, rmi, save, tag};
use crate::{image::prune::prune, store::Store, units::Bytes};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Args),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    /// Give an image one more name
    Tag(tag::Args),
    /// Show the layers of an image
    History(history::Args),
    /// Show everything about images, as JSON in Docker's form
    Inspect(inspect::Shared),
    /// Make a one-layer image from a root file system tar
    Import(import::Args),
    /// Get an image from a registry
    Pull(pull::Args),
    /// Send an image to a registry
    Push(push::Args),
    /// Load images from an archive
    Load(load::Args),
    /// Write images to an archive
    Save(save::Args),
    /// Remove the images that have no name
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Remove all images that no container was made from
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    asked: confirm::Asked,
}

impl Verb {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Ls(args) => args.run(global),
            Self::Rm(args) => args.run(global),
            Self::Tag(args) => args.run(global),
            Self::History(args) => args.run(global),
            Self::Inspect(args) => args.run(global, Some(inspect::What::Image)),
            Self::Import(args) => args.run(global),
            Self::Pull(args) => args.run(global),
            Self::Push(args) => args.run(global),
            Self::Load(args) => args.run(global),
            Self::Save(args) => args.run(global),
            Self::Prune(args) => args.run(global),
        }
    }
}

impl PruneArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let which = if self.all { "all images that no container was made from" } else { "all images without a name" };
        if !self.asked.agreed("image prune", &format!("This removes {which}."))? {
            return Ok(());
        }
        let (own, blobs) = pruned(&store, self.all)?;
        output::line(format_args!(
            "Total reclaimed space: {} in the pool, {} of archives",
            own.docker(),
            blobs.docker()
        ))
    }
}

/// Removes and tells; what that was in the pool and of archives is returned.
pub(super) fn pruned(store: &Store, all: bool) -> Result<(Bytes, Bytes)> {
    let pruned = prune(store, all)?;
    for removed in pruned.removed {
        for reference in removed.untagged {
            output::line(format_args!("Untagged: {reference}"))?;
        }
        for id in removed.deleted {
            output::line(format_args!("Deleted: {id}"))?;
        }
    }
    Ok((pruned.own, pruned.blobs))
}
