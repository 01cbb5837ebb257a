//! `lamina container ...`: the verbs of containers under Docker's longer names, and `prune`.

use anyhow::Result;
use clap::Subcommand;

use super::{Global, commit, confirm::Asked, cp, create, diff, export, inspect, mount, output, pool, ps, rename, rm};
use crate::{
    container::{Container, Containers, Removal},
    error::Kind,
    store::Store,
    units::Bytes,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Make a container of an image and print its ID
    Create(create::Args),
    /// Remove containers and what they wrote
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Give a container another name
    Rename(rename::Args),
    /// Mount a container and print the path
    Mount(mount::MountArgs),
    /// Unmount containers
    Umount(mount::UmountArgs),
    /// Show what a container changed: A added, C changed, D deleted
    Diff(diff::Args),
    /// Make an image of a container: its changes become a layer
    Commit(commit::Args),
    /// Copy files between a container and the host
    Cp(cp::Args),
    /// Write a container's whole tree as a tar archive
    Export(export::Args),
    /// Show everything about containers, as JSON in Docker's form
    Inspect(inspect::Shared),
    /// Remove all containers that are not in use
    Prune(Asked),
}

impl Verb {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Ls(args) => args.run(global),
            Self::Create(args) => args.run(global),
            Self::Rm(args) => args.run(global),
            Self::Rename(args) => args.run(global),
            Self::Mount(args) => args.run(global),
            Self::Umount(args) => args.run(global),
            Self::Diff(args) => args.run(global),
            Self::Commit(args) => args.run(global),
            Self::Cp(args) => args.run(global),
            Self::Export(args) => args.run(global),
            Self::Inspect(args) => args.run(global, Some(inspect::What::Container)),
            Self::Prune(asked) => prune_if_agreed(global, *asked),
        }
    }
}

fn prune_if_agreed(global: &Global, asked: Asked) -> Result<()> {
    let store = pool::existing(global)?;
    if !asked.agreed("container prune", "This removes all containers that are not in use.")? {
        return Ok(());
    }
    let own = prune(&store)?;
    output::line(format_args!("Total reclaimed space: {}", own.docker()))
}

/// Removes those that nobody uses and tells; what they had in the pool is returned. Their volumes stay.
pub(super) fn prune(store: &Store) -> Result<Bytes> {
    let containers = Containers::new(store);
    let (mut own, mut first) = (Bytes(0), true);
    for container in containers.list()? {
        crate::interrupt::check()?;
        if containers.seen_at(&container)?.is_some() || containers.is_awaited(&container)? {
            continue;
        }
        let size = match remove(store, &container) {
            // Mounted or removed since we looked.
            Err(error) if matches!(error.kind(), Kind::InUse | Kind::NotFound) => continue,
            removed => removed?,
        };
        if first {
            output::line("Deleted Containers:")?;
            first = false;
        }
        own += size;
        output::line(&container.id)?;
    }
    if !first {
        output::line("")?;
    }
    Ok(own)
}

fn remove(store: &Store, container: &Container) -> crate::Result<Bytes> {
    let containers = Containers::new(store);
    let own = store.usage(&containers.snapshot(container)?.key)?.exclusive;
    containers.remove(container, Removal::default()).map(|()| own)
}
