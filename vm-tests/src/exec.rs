//! `vm-tests exec` and `vm-tests shell`: one program in a machine of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::environment;
use crate::host::find;
use crate::host::machine::{Ended, Machine, Output};
use crate::host::workspace::Workspace;
use crate::kmsg::trouble;
use crate::protocol::{Exit, Run};
use crate::report;

/// Code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Runs a command with its output on ours; its exit code.
pub(crate) fn exec(command: Vec<String>, env: &[(String, String)]) -> Result<u8> {
    let workspace = Workspace::lock()?;
    let used: Vec<PathBuf> = command.first().map(PathBuf::from).into_iter().collect();
    let mut machine = Machine::boot(&workspace, &used, false)?;
    let env = environment::guest(env)?;
    let run = Run { argv: command, env, cwd: environment::directory()?, terminal: false };
    let (ended, log) = machine.execute(run, None, &mut |output| match output {
        Output::Stdout(bytes) => report::stdout(bytes),
        Output::Stderr(bytes) => report::stderr(bytes),
    })?;
    for line in trouble(&log, &[]) {
        report::note(&format!("kernel: {line}"));
    }
    code(ended, &machine)
}

/// The code to exit with.
fn code(ended: Ended, machine: &Machine) -> Result<u8> {
    match ended {
        Ended::Exited(exit) => {
            if let Exit::NotStarted(cause) = &exit {
                report::note(cause);
            }
            Ok(exit.shell_code())
        }
        Ended::Lost(_) | Ended::TimedOut if machine.interrupted() => Ok(INTERRUPTED),
        Ended::Lost(words) => bail!("run the command: the guest was lost{words}"),
        Ended::TimedOut => bail!("run the command: it was killed at a time limit nobody set"),
    }
}

/// Gives the user a shell on the machine's console.
pub(crate) fn shell() -> Result<u8> {
    let terminal = Terminal::save()?;
    let workspace = Workspace::lock()?;
    report::note("root shell in the test machine: leave with 'exit' or Ctrl-D; Ctrl-A X ends the machine at once");
    let mut machine = Machine::boot(&workspace, &[], true)?;
    let mut env = environment::guest(&[])?;
    env.push(("PS1".into(), "lamina-vm:\\w# ".into()));
    let script = format!("stty sane rows {} cols {}; exec bash --norc --noprofile -i", terminal.rows, terminal.columns);
    let argv = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let run = Run { argv, env, cwd: environment::directory()?, terminal: true };
    let (ended, _) = machine.execute(run, None, &mut |_| {})?;
    match ended {
        // Ctrl-A X is a way to leave.
        Ended::Lost(_) => Ok(0),
        other => code(other, &machine),
    }
}

/// The user's terminal: QEMU makes it raw, and cannot undo that if it is killed.
#[derive(Debug)]
struct Terminal {
    state: String,
    rows: String,
    columns: String,
}

impl Terminal {
    /// Notes how the terminal is.
    fn save() -> Result<Self> {
        let state = stty(&["-g"]).context("open a shell: standard input is no terminal; use 'vm-tests exec' there")?;
        let size = stty(&["size"])?;
        let (rows, columns) = size.split_once(' ').context("read the terminal's size")?;
        Ok(Self { rows: rows.to_owned(), columns: columns.to_owned(), state })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(stty(&[&self.state]));
    }
}

/// Runs `stty` on our standard input.
fn stty(arguments: &[&str]) -> Result<String> {
    let said = Command::new(find("stty")?).args(arguments).stdin(Stdio::inherit()).output().context("start stty")?;
    if !said.status.success() {
        bail!("stty: {}", String::from_utf8_lossy(&said.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}
