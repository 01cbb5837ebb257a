//! `lamina exec`.

use std::process::ExitCode;

use anyhow::Result;

use super::{
    Global, pool,
    run::{exit_code, not_run},
    run_options::variables,
};
use crate::{
    container::{Containers, ExecRequest},
    runtime::{Keys, ensure_terminal},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Hand standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; without a value it gets the one that it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Where it starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who it runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Which keys leave its terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: Keys,
    /// Name or ID of a container that runs
    container: String,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// A failure before the command ran, as an exit code: Docker has 126 and 127 as for `run`, and 1 for all else.
pub(super) fn failure_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(not_run(error).unwrap_or(1))
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode> {
        if self.tty && self.interactive && !self.detach {
            ensure_terminal()?;
        }
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let request = ExecRequest {
            args: self.command.clone(),
            env: variables(&self.env)?,
            working_dir: self.workdir.clone(),
            user: self.user.clone(),
            terminal: self.tty && !self.detach,
            stdin: self.interactive && !self.detach,
            detach: self.detach,
            keys: self.detach_keys,
        };
        let exit = containers.exec(&containers.find(&self.container)?, request)?;
        Ok(exit_code(exit.code))
    }
}
