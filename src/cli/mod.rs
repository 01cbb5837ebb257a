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
mod exec;
mod export;
mod filter;
mod hidden;
mod history;
mod human;
mod image;
mod images;
mod import;
mod info;
mod input;
mod inspect;
mod load;
mod logs;
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
mod run;
mod run_options;
mod save;
mod stop;
mod system;
mod tag;
mod top;
mod volume;

use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    container::Containers,
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
    /// Show everything about containers, images and volumes, as JSON in Docker's form
    Inspect(inspect::Args),
    /// Remove images
    Rmi(rmi::Args),
    /// All that can be done with images
    #[command(subcommand)]
    Image(image::Verb),
    /// Run a command in a new container
    Run(run::Args),
    /// Make a container of an image and print its ID
    Create(create::Args),
    /// Start containers that are there
    Start(run::StartArgs),
    /// Ask containers to stop, and kill those that do not
    Stop(stop::StopArgs),
    /// Send a signal to containers
    Kill(stop::KillArgs),
    /// Stop and start containers
    Restart(stop::StopArgs),
    /// Stop the processes of containers where they are
    Pause(stop::Names),
    /// Let paused containers go on
    Unpause(stop::Names),
    /// Wait until containers have ended, and print their exit codes
    Wait(stop::Names),
    /// Run one more command in a container that runs
    Exec(exec::Args),
    /// Take the place of a running container's terminal
    Attach(run::AttachArgs),
    /// Show what a container wrote to its output
    Logs(logs::Args),
    /// Show the processes of a container
    Top(top::Args),
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
    /// Measure block-level against file-level copy-on-write on this machine, in pools of its own
    Bench(bench::Args),
    #[command(hide = true)]
    Exited(hidden::ExitedArgs),
}

/// Parses the arguments, runs the verb, and returns the exit code.
pub fn main() -> ExitCode {
    if let Some(error) = hidden::in_place_of_runtime(env::args_os()) {
        output::tell(format_args!("lamina: {error:#}"));
        return ExitCode::FAILURE;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    start_log(cli.global.verbose.saturating_add(cli.global.more));
    match run(&cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => match cli.verb {
            // Their codes are the container's, and it has none yet: as if the signal had ended this command.
            Verb::Run(_) | Verb::Start(_) | Verb::Attach(_) => run::exit_code(128 + libc::SIGPIPE),
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            output::tell(format_args!("lamina: {error:#}"));
            match cli.verb {
                Verb::Run(_) => run::failure_code(&error),
                Verb::Exec(_) => exec::failure_code(&error),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Wrong usage, or help that was asked for. The codes below 125 of `run` are the command's.
fn usage(error: &clap::Error) -> ExitCode {
    if error.print().is_err() {
        return ExitCode::FAILURE;
    }
    let is_run = verb_of(env::args().skip(1)).is_some_and(|verb| verb == "run");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_run => ExitCode::from(125),
        code => run::exit_code(code),
    }
}

/// The first argument that is no option of ours.
fn verb_of(mut args: impl Iterator<Item = String>) -> Option<String> {
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--root" => drop(args.next()),
            option if option.starts_with('-') => {}
            _ => return Some(arg),
        }
    }
    None
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.verb {
        Verb::Run(args) => ready().and_then(|()| args.run(&cli.global)),
        Verb::Start(args) => ready().and_then(|()| args.run(&cli.global)),
        Verb::Attach(args) => ready().and_then(|()| args.run(&cli.global)),
        Verb::Exec(args) => ready().and_then(|()| args.run(&cli.global)),
        _ => ready().and_then(|()| run_plain(cli)).map(|()| ExitCode::SUCCESS),
    }
}

/// What every verb asks for.
fn ready() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::new(
            Kind::Denied,
            "you are not root, and making snapshots and mounts needs root; run it with sudo",
        )
        .into());
    }
    Ok(interrupt::install()?)
}

/// The verbs whose exit code only says whether they worked.
fn run_plain(cli: &Cli) -> Result<()> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Run(_) | Verb::Start(_) | Verb::Attach(_) | Verb::Exec(_) => Ok(()),
        Verb::Stop(args) => args.run(global),
        Verb::Kill(args) => args.run(global),
        Verb::Restart(args) => args.restart(global),
        Verb::Pause(args) => args.pause(global, true),
        Verb::Unpause(args) => args.pause(global, false),
        Verb::Wait(args) => args.wait(global),
        Verb::Logs(args) => args.run(global),
        Verb::Top(args) => args.run(global),
        Verb::Exited(args) => args.run(global),
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
            output::tell(format_args!("lamina: made {made}"));
        }
        thaw_or_tell(&store);
        Ok(store)
    }

    /// The store, if there is a pool: for verbs that only look.
    fn store_if_any(&self) -> Result<Option<Store>> {
        let store = Store::open(&self.root)?;
        store.iter().for_each(thaw_or_tell);
        Ok(store)
    }
}

/// What a command that died had stopped for an instant goes on with the next one.
fn thaw_or_tell(store: &Store) {
    if let Err(error) = Containers::new(store).thaw_left() {
        tracing::warn!("let go on what a command that died had stopped: {error}; the next command tries again");
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
        // Where nobody reads any more, nobody can be told, and a panic would end the undoing.
        .log_internal_errors(false)
        .init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        || error.downcast_ref::<Error>().is_some_and(|error| error.kind() == Kind::Unread)
}

/// Does `act` for each name, tells each failure, and fails in the end if one failed: one bad name does not keep the
/// others from being done.
fn for_each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut failed = 0;
    for name in names {
        interrupt::check()?;
        if let Err(error) = act(name) {
            if names.len() == 1 {
                return Err(error);
            }
            output::tell(format_args!("lamina: {error:#}"));
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
