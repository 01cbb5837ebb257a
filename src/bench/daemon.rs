//! A daemon of a peer, private to one row.
//!
//! Invariant: it ends when the value is dropped, by its own process id, and when this process does. Ctrl-C on the terminal
//! is not told to it: whoever asks it something goes on to the end of that, and ends it.

use std::{
    fs,
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
    program::{Program, SETPRIV, UNSHARE},
    sys::process::Process,
};

/// As long as it may take to listen, and then to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at whether it listens.
const PAUSE: Duration = Duration::from_millis(20);

/// As much of what it said as an error tells.
const LAST_LINES: usize = 3;

#[derive(Debug)]
pub(super) struct Daemon {
    program: Program,
    child: Child,
    process: Process,
    log: PathBuf,
}

impl Daemon {
    /// Runs `program` without any network, what it says in the file `log`, until it listens at `socket`.
    pub(super) fn start(program: Program, arguments: &[String], log: &Path, socket: &Path) -> Result<Self> {
        let act = || format!("start {}", program.name);
        let said = fs::File::create_new(log).act(act)?;
        let mut command = Command::new(UNSHARE.find()?);
        command.arg("--net").arg(SETPRIV.find()?).args(["--pdeathsig", "KILL"]).arg(program.find()?).args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone().act(act)?)
            .stderr(said)
            .env("LC_ALL", "C")
            .process_group(0);
        let child = command.spawn().act(act)?;
        let gone = || Error::new(Kind::Io, format!("{}: it is not there any more", act()));
        // Nobody has waited for it yet, so that its number is its own.
        let process = Process::open(Pid::from_child(&child))?.ok_or_else(gone)?;
        let daemon = Self { program, child, process, log: log.to_owned() };
        daemon.wait_for(socket)?;
        Ok(daemon)
    }

    fn wait_for(&self, socket: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(socket).is_err() {
            interrupt::check()?;
            if self.process.ends_within(PAUSE)? {
                return Err(self.failed("ended before it listened"));
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("does not listen after {} s", PATIENCE.as_secs())));
            }
        }
        Ok(())
    }

    /// An error with the last of what it said.
    fn failed(&self, what: &str) -> Error {
        let said = fs::read_to_string(&self.log).unwrap_or_else(|error| format!("(its log cannot be read: {error})"));
        let mut lines: Vec<&str> = said.lines().rev().take(LAST_LINES).collect();
        lines.reverse();
        Error::new(Kind::Unsupported, format!("{} {what}: {}", self.program.name, lines.join("; ")))
    }

    fn end(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM.as_raw())?;
        let deadline = Instant::now() + PATIENCE;
        // A signal to this process ends the waiting early.
        while !self.process.ends_within(deadline.saturating_duration_since(Instant::now()))? {
            if Instant::now() >= deadline {
                self.process.signal(Signal::KILL.as_raw())?;
                break;
            }
        }
        self.child.wait().map(drop).act(|| format!("end {}", self.program.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("{error}");
        }
    }
}
