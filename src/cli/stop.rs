//! `lamina stop`, `kill`, `restart`, `pause`, `unpause` and `wait`: processes of containers that are there.

use anyhow::Result;

use super::{Global, for_each, output, pool};
use crate::container::{Container, Containers, signal_of};

#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    /// Seconds to wait before it is killed [default: 10, or what it was made with]
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct KillArgs {
    /// Which signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Names {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Does `act` for each, and prints the name of each for which it was done.
fn each(
    global: &Global,
    names: &[String],
    act: impl Fn(&Containers<'_>, &Container) -> crate::Result<()>,
) -> Result<()> {
    let store = pool::existing(global)?;
    let containers = Containers::new(&store);
    for_each(names, |name| {
        act(&containers, &containers.find(name)?)?;
        output::line(name)
    })
}

impl StopArgs {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        each(global, &self.containers, |containers, container| containers.stop(container, self.time))
    }

    pub(super) fn restart(&self, global: &Global) -> Result<()> {
        each(global, &self.containers, |containers, container| containers.restart(container, self.time))
    }
}

impl KillArgs {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let signal = signal_of(&self.signal)?;
        each(global, &self.containers, |containers, container| containers.kill(container, signal))
    }
}

impl Names {
    pub(super) fn pause(&self, global: &Global, paused: bool) -> Result<()> {
        each(global, &self.containers, |containers, container| containers.pause(container, paused))
    }

    pub(super) fn wait(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        for_each(&self.containers, |name| output::line(containers.wait(&containers.find(name)?)?))
    }
}
