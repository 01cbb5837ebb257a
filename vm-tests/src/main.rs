//! Boots a virtual machine once and runs Lamina's root tests inside.
//!
//! On the host this binary boots QEMU and judges; in the guest, which sees the host's root file system, the same
//! binary is process 1 and runs what it is told. `README.md` is the manual.

mod cases;
mod environment;
mod exec;
mod guest;
mod host;
mod kmsg;
mod layout;
mod protocol;
mod report;
mod run;
mod selftest;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use run::Plan;

/// Boots a virtual machine once and runs Lamina's root tests inside.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the cases of test binaries, one by one, as root in the machine
    Run {
        /// Run only cases whose BINARY::NAME contains this (may be repeated: any of them)
        #[arg(long, value_name = "SUBSTRING")]
        filter: Vec<String>,
        /// Time limit of each case
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        timeout_per_case: u64,
        /// Set a variable for the cases
        #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
        env: Vec<(String, String)>,
        /// Show the output of passing cases too, as it comes
        #[arg(long, short)]
        verbose: bool,
        /// Binaries made by cargo from tests, or others that speak libtest's language
        #[arg(required = true)]
        test_binary: Vec<PathBuf>,
    },
    /// Run one command in the machine; its output and exit code become ours
    Exec {
        /// Set a variable for the command
        #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
        env: Vec<(String, String)>,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Open a root shell in the machine, with lamina in the path
    Shell,
    /// Try the harness itself, with cases that pass, fail, hang and panic the guest
    Selftest,
    /// Serve as process 1 of the guest
    #[command(hide = true)]
    GuestAgent,
}

/// Splits `NAME=VALUE`.
fn variable(argument: &str) -> Result<(String, String), String> {
    let split = argument.split_once('=').filter(|(name, _)| !name.is_empty());
    split.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "it is not NAME=VALUE".to_owned())
}

fn main() -> ExitCode {
    match act(Arguments::parse().verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::note(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Does what was asked; the exit code.
fn act(verb: Verb) -> Result<u8> {
    match verb {
        Verb::Run { filter, timeout_per_case, env, verbose, test_binary } => {
            let limit = Duration::from_secs(timeout_per_case);
            let plan = Plan { binaries: test_binary, filters: filter, env, limit, verbose };
            let tally = run::run(&plan, &mut |outcome| report::say(&outcome.to_string()))?;
            report::say(&tally.to_string());
            Ok(u8::from(!tally.success()))
        }
        Verb::Exec { env, command } => exec::exec(command, &env),
        Verb::Shell => exec::shell(),
        Verb::Selftest => {
            let right = selftest::selftest()?;
            report::say(if right { "selftest: all as it must be" } else { "selftest: NOT as it must be" });
            Ok(u8::from(!right))
        }
        Verb::GuestAgent => guest::agent().map(|()| 0),
    }
}
