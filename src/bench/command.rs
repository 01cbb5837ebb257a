//! Commands that are measured from outside, this program's own among them.
//!
//! Invariant: a command that fails is an error with its own words, never a sample.

use std::{
    ffi::OsStr,
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    program::Program,
};

/// How often a running command is asked for its memory. The kernel keeps the highest value itself; only what it grew by
/// since the last look before its end is missed.
const LOOK: Duration = Duration::from_millis(2);

/// This program, as a command on the root directory `root`.
pub(super) fn lamina<S: AsRef<OsStr>>(root: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new("/proc/self/exe");
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
pub(super) fn succeed(mut command: Command) -> Result<()> {
    command.stdin(Stdio::null());
    let output = command.output().act(|| format!("run {}", shown(&command)))?;
    if output.status.success() { Ok(()) } else { Err(failed(&command, &output.stderr)) }
}

/// Runs it to its end; tells the most memory that it had resident at a time (`VmHWM`, proc(5)), in bytes.
pub(super) fn peak(mut command: Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().act(|| format!("run {}", shown(&command)))?;
    let mut most = 0;
    let status = loop {
        most = most.max(resident(&child));
        match child.try_wait().act(|| format!("wait for {}", shown(&command)))? {
            Some(status) => break status,
            None => thread::sleep(LOOK),
        }
    };
    let mut said = Vec::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_end(&mut said).act(|| format!("read what {} said", shown(&command)))?;
    }
    match most {
        _ if !status.success() => Err(failed(&command, &said)),
        0 => Err(Error::new(Kind::Io, format!("the memory of {} was not seen", shown(&command)))),
        most => Ok(f64::from(most) * 1024.0),
    }
}

/// In KiB; 0 when it has ended.
fn resident(child: &Child) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn failed(command: &Command, said: &[u8]) -> Error {
    let said = String::from_utf8_lossy(said);
    Error::new(Kind::Io, format!("{} failed: {}", shown(command), said.trim()))
}

fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
