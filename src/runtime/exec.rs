//! One more process in a container that runs.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command as Program, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags},
    process::Pid,
    termios::isatty,
};
use signal_hook::consts::SIGTERM;

use super::{
    bundle::{Command, process},
    detach::Keys,
    job::Job,
    launch::failure,
    process::{Exit, refusal_code},
    pty::{self, Ended},
    run_directory::RunDirectory,
    user,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{if_there, root_of_process},
    id::CacheId,
    interrupt::HandedOn,
    program::RUNC,
    sys::process::{Process, exit_code},
};

/// See the module's comment.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The container's run, which knows by which runtime it was made.
    pub run: &'a RunDirectory,
    /// The process.
    pub command: Command,
    /// Whether it gets this process's standard input.
    pub stdin: bool,
    /// Whether it goes on by itself.
    pub detach: bool,
    /// What leaves its terminal.
    pub keys: Keys,
}

/// Files of one such process, gone with the value.
struct Files {
    spec: PathBuf,
    log: PathBuf,
}

impl Exec<'_> {
    /// Runs it beside `init`, the container's first process: to its end, or until it has begun if it goes on by itself.
    ///
    /// # Errors
    /// `NoCommand` for a program that the container has not, `NotExecutable` for one that may not be run, `NotFound` for a
    /// user that it has not; the runtime's.
    pub fn run(&self, init: &Process) -> Result<Exit> {
        let root = root_of_process(init.fd().as_fd()).act(|| "look into the container")?;
        let identity = user::resolve(root.as_fd(), &self.command.user)?;
        let spec = process(&self.command, &identity, true)
            .map_err(|error| Error::with_source(Kind::Invalid, "describe the process to the OCI runtime", error))?;
        let files = Files::new(self.run.path());
        let act = || format!("write {}", files.spec.display());
        let text = serde_json::to_vec(&spec).map_err(|error| Error::with_source(Kind::Io, act(), error))?;
        fs::write(&files.spec, text).act(act)?;
        // That by which the container was made: another would not know it.
        let runtime = Job::read(&self.run.job())?.runtime;
        let status = match self.execute(self.program(&runtime, &files))? {
            Ended::Exited(status) => status,
            Ended::Left => return Ok(Exit { code: 0, refusal: None }),
            Ended::Signalled(signal) => return Ok(Exit { code: 128 + signal, refusal: None }),
        };
        let code = exit_code(status).unwrap_or(1);
        // The runtime's own failure has a code that the command could have, too; but only the runtime writes its log.
        let Some(failure) = logged(&files.log).filter(|_| code != 0) else { return Ok(Exit { code, refusal: None }) };
        // It has told it on standard error, too, which is the process's; but crun not where that is a terminal.
        let is_told = !self.command.terminal || runtime.ends_with(RUNC.name);
        if is_told && !self.detach && init.lives()? {
            return Ok(Exit { code: refusal_code(failure.kind()).unwrap_or(1).into(), refusal: None });
        }
        Err(failure)
    }

    fn execute(&self, program: Program) -> Result<Ended> {
        if self.command.terminal && !self.detach {
            return pty::run(program, self.stdin, self.keys);
        }
        follow(program, self.stdin && isatty(io::stdin())).map(Ended::Exited)
    }

    fn program(&self, runtime: &Path, files: &Files) -> Program {
        let mut program = Program::new(runtime);
        program.arg("--root").arg(self.run.state()).arg("--log").arg(&files.log).args(["--log-format", "json"]);
        program.arg("exec").arg("--process").arg(&files.spec);
        if self.detach {
            program.arg("--detach").stdout(Stdio::null()).stderr(Stdio::null());
        }
        if !self.stdin {
            program.stdin(Stdio::null());
        }
        program.arg(self.run.id());
        program
    }
}

/// Runs the runtime to its end, and hands signals on to it. One that reads from this process's terminal stays in front of it
/// and gets by itself what is typed; from others this process's group keeps that away.
fn follow(mut program: Program, reads_terminal: bool) -> Result<ExitStatus> {
    if !reads_terminal {
        program.process_group(0);
    }
    let mut signals = HandedOn::begin([])?;
    let mut child = program.spawn().act(|| format!("run {}", program.get_program().display()))?;
    if let Some(process) = Process::open(Pid::from_child(&child))? {
        while process.lives()? {
            process.ends_within_or(PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN), Duration::MAX)?;
            let mut meant = signals.pending().filter(|signal| !reads_terminal || *signal == SIGTERM);
            meant.try_for_each(|signal| process.signal(signal))?;
        }
    }
    child.wait().act(|| "wait for the OCI runtime")
}

impl Files {
    fn new(directory: &Path) -> Self {
        let name = CacheId::random();
        let file = |kind| directory.join(format!("exec-{}.{kind}", name.short()));
        Self { spec: file("json"), log: file("log") }
    }
}

/// What the runtime says went wrong, in its log in JSON.
pub(super) fn logged(log: &Path) -> Option<Error> {
    let log = fs::read_to_string(log).ok()?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut failed = lines.filter(|line| line.get("level").is_some_and(|level| level == "error"));
    failed.next_back().map(|line| failure(line.get("msg").and_then(|text| text.as_str()).unwrap_or_default()))
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in [&self.spec, &self.log] {
            if let Err(error) = if_there(fs::remove_file(file)) {
                tracing::warn!("remove {}: {error}; it goes with the container's run", file.display());
            }
        }
    }
}
