//! Commands that are measured from outside, this program's own among them.
//!
//! Invariant: a command that fails is an error with its own words, never a sample.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    program::{Program, TIME},
};

/// This program, as a command on the root directory `root`.
pub(super) fn lamina<S: AsRef<OsStr>>(root: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(format!("/proc/{}/exe", std::process::id()));
    command.arg("--root").arg(root).args(arguments).env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Another program, in English.
pub(super) fn other<S: AsRef<OsStr>>(program: Program, arguments: &[S]) -> Result<Command> {
    let mut command = Command::new(program.find()?);
    command.args(arguments).env("LC_ALL", "C");
    Ok(command)
}

/// Runs it to its end.
pub(super) fn succeed(command: Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs it to its end; tells what it said.
pub(super) fn output(mut command: Command) -> Result<String> {
    command.stdin(Stdio::null());
    let output = command.output().act(|| format!("run {}", shown(&command)))?;
    if !output.status.success() {
        return Err(failed(&command, &output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs this program on `root` to its end; tells the most memory that it had resident at a time, in bytes, as the kernel
/// tells whoever waits for it (getrusage(2), `ru_maxrss`). That is GNU time, because a child begins with the highest value
/// of what it was forked from, which is little only of a small program. `report` is a file for what it says.
pub(super) fn peak(root: &Path, arguments: &[&str], report: &Path) -> Result<f64> {
    let own = lamina(root, arguments);
    let mut command = other::<&str>(TIME, &["--format=%M", "--output"])?;
    command.arg(report).arg(own.get_program()).args(own.get_args());
    succeed(command)?;
    let act = || format!("read {}", report.display());
    let said = fs::read_to_string(report).act(act)?;
    let kib: u32 = said.trim().parse().map_err(|error| Error::with_source(Kind::Io, act(), error))?;
    Ok(f64::from(kib) * 1024.0)
}

fn failed(command: &Command, said: &[u8]) -> Error {
    let said = String::from_utf8_lossy(said);
    Error::new(Kind::Io, format!("{} failed: {}", shown(command), said.trim()))
}

fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
