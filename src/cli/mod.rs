//! The command line: typed arguments, one verb per file, each thin: arguments -> library -> output.
//!
//! Invariant: only this module prints. Results go to standard output, everything else to standard error. Exit codes:
//! 0 done, 1 failed, 2 wrong usage; a reader that closes the pipe early is no failure.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the command line is where printing belongs")]

mod bench;
mod build;
mod builder;
mod check;
mod commit;
mod confirm;
mod container;
mod cp;
mod create;
mod diff;
mod export;
mod filter;
mod history;
mod human;
mod image;
mod images;
mod import;
mod info;
mod input;
mod inspect;
mod load;
mod mount;
mod output;
mod pool;
mod progress;
mod ps;
mod pull;
mod push;
mod registry;
mod rename;
mod rm;
mod rmi;
mod save;
mod system;
mod tag;
mod volume;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    error::{Error, Kind},
    interrupt,
    store::{PoolOptions, Store},
};

/// Container images and containers as block-level copy-on-write snapshots.
///
/// Each image layer is a device-mapper thin snapshot or a btrfs subvolume; a container is one more snapshot on top.
/// The first command that needs a pool makes one.
#[derive(Debug, Parser)]
#[command(name = "lamina", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// Where the pool, the database and the mount points lie
    #[arg(long, global = true, env = "LAMINA_ROOT", default_value = "/var/lib/lamina", value_name = "DIR")]
    root: PathBuf,
    /// Tell more on standard error; twice for everything
    #[arg(long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// The same, before the verb: behind it, -v is the verb's own
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    more: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make, look at, grow and remove the pool that all snapshots share
    #[command(subcommand)]
    Pool(pool::Verb),
    /// Build an image from a Dockerfile
    Build(build::Args),
    /// Remove what builds keep for one another
    #[command(subcommand)]
    Builder(builder::Verb),
    /// Make a one-layer image from a root file system tar
    Import(import::Args),
    /// Get an image from a registry
    Pull(pull::Args),
    /// Send an image to a registry
    Push(push::Args),
    /// Load images from a docker-archive or OCI image archive, layer by layer
    Load(load::Args),
    /// Write images to a docker-archive or OCI image archive
    Save(save::Args),
    /// List images
    Images(images::Args),
    /// Give an image one more name
    Tag(tag::Args),
    /// Show the layers of an image
    History(history::Args),
    /// Show everything about an image or a container, as JSON
    Inspect(inspect::Args),
    /// Remove images
    Rmi(rmi::Args),
    /// All that can be done with images
    #[command(subcommand)]
    Image(image::Verb),
    /// Make a container of an image and print its ID
    Create(create::Args),
    /// Mount a container and print the path
    Mount(mount::MountArgs),
    /// Unmount containers
    Umount(mount::UmountArgs),
    /// List containers
    Ps(ps::Args),
    /// Show what a container changed: A added, C changed, D deleted
    Diff(diff::Args),
    /// Make an image of a container: its changes become a layer
    Commit(commit::Args),
    /// Copy files between a container and the host
    Cp(cp::Args),
    /// Write a container's whole tree as a tar archive
    Export(export::Args),
    /// Give a container another name
    Rename(rename::Args),
    /// Remove containers and what they wrote
    Rm(rm::Args),
    /// All that can be done with containers
    #[command(subcommand)]
    Container(container::Verb),
    /// Make, list and remove data volumes
    #[command(subcommand)]
    Volume(volume::Verb),
    /// Check pool, database and mounts against each other
    Check(check::Args),
    /// Show what images and containers take
    #[command(subcommand)]
    System(system::Verb),
    /// Show driver, pool, kernel features and helper programs
    Info(info::Args),
    /// Measure what Lamina is held to, in pools of its own
    Bench(bench::Args),
}

/// Parses the arguments, runs the verb, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.global.verbose.saturating_add(cli.global.more));
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lamina: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::new(
            Kind::Denied,
            "you are not root, and making snapshots and mounts needs root; run it with sudo",
        )
        .into());
    }
    interrupt::install()?;
    let global = &cli.global;
    match &cli.verb {
        Verb::Pool(verb) => verb.run(global),
        Verb::Build(args) => args.run(global),
        Verb::Builder(verb) => verb.run(global),
        Verb::Import(args) => args.run(global),
        Verb::Pull(args) => args.run(global),
        Verb::Push(args) => args.run(global),
        Verb::Load(args) => args.run(global),
        Verb::Save(args) => args.run(global),
        Verb::Images(args) => args.run(global),
        Verb::Tag(args) => args.run(global),
        Verb::History(args) => args.run(global),
        Verb::Inspect(args) => args.run(global),
        Verb::Rmi(args) => args.run(global),
        Verb::Image(verb) => verb.run(global),
        Verb::Create(args) => args.run(global),
        Verb::Mount(args) => args.run(global),
        Verb::Umount(args) => args.run(global),
        Verb::Ps(args) => args.run(global),
        Verb::Diff(args) => args.run(global),
        Verb::Commit(args) => args.run(global),
        Verb::Cp(args) => args.run(global),
        Verb::Export(args) => args.run(global),
        Verb::Rename(args) => args.run(global),
        Verb::Rm(args) => args.run(global),
        Verb::Container(verb) => verb.run(global),
        Verb::Volume(verb) => verb.run(global),
        Verb::Check(args) => args.run(global),
        Verb::System(verb) => verb.run(global),
        Verb::Info(args) => args.run(global),
        Verb::Bench(args) => args.run(),
    }
}

impl Global {
    /// The store, with a pool made if there is none.
    fn store(&self) -> Result<Store> {
        let (store, made) = Store::open_or_make(&self.root, &PoolOptions::default())?;
        if let Some(made) = made {
            eprintln!("lamina: made {made}");
        }
        Ok(store)
    }

    /// The store, if there is a pool: for verbs that only look.
    fn store_if_any(&self) -> Result<Option<Store>> {
        Ok(Store::open(&self.root)?)
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Does `act` for each name, tells each failure, and fails in the end if one failed: one bad name does not keep the
/// others from being done.
fn for_each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut failed = 0;
    for name in names {
        if let Err(error) = act(name) {
            if names.len() == 1 {
                return Err(error);
            }
            eprintln!("lamina: {error:#}");
            failed += 1;
        }
    }
    match failed {
        0 => Ok(()),
        _ => anyhow::bail!("{failed} of {} failed", names.len()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        super::Cli::command().debug_assert();
    }
}
