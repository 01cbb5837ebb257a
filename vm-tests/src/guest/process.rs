//! Runs one program and forwards what it writes.
//!
//! As process 1 the agent inherits every orphan. When the program has ended it kills and reaps all that the program
//! left behind, so that no process of one case reaches into the next.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

use super::Sender;
use crate::protocol::{Exit, Frame, Run};

/// The console a terminal program talks to.
const CONSOLE: &str = "/dev/ttyS0";

/// Runs the program to its end and to the end of its output.
pub(super) fn run(run: &Run, sender: &Sender) -> Result<Exit> {
    let mut child = match spawn(run) {
        Ok(child) => child,
        Err(error) => return Ok(Exit::NotStarted(format!("{error:#}"))),
    };
    let forwarders = [
        child.stdout.take().map(|pipe| forward(pipe, sender.clone(), Frame::Stdout)),
        child.stderr.take().map(|pipe| forward(pipe, sender.clone(), Frame::Stderr)),
    ];
    let exit = reap_until(Pid::from_raw(i32::try_from(child.id()).context("read the child's pid")?))?;
    kill_every_process();
    reap_all()?;
    for forwarder in forwarders.into_iter().flatten() {
        if let Ok(ended) = forwarder.join() {
            ended?;
        }
    }
    Ok(exit)
}

/// Starts the program with pipes, or with the console as its controlling terminal.
fn spawn(run: &Run) -> Result<Child> {
    let (program, arguments) = run.argv.split_first().context("the command is empty")?;
    let mut command = if run.terminal {
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program);
        let console = File::options().read(true).write(true).open(CONSOLE).context("open the console")?;
        command.stdout(console.try_clone()?).stderr(console.try_clone()?).stdin(console);
        command
    } else {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    command.args(arguments).env_clear().envs(run.env.iter().map(|(key, value)| (key, value)));
    if !run.cwd.is_dir() {
        anyhow::bail!("start {program}: no directory {} in the guest", run.cwd.display());
    }
    command.current_dir(&run.cwd).spawn().with_context(|| format!("start {program}"))
}

/// Sends what the pipe has until all its writers are gone.
fn forward(
    mut pipe: impl Read + Send + 'static,
    sender: Sender,
    frame: fn(Vec<u8>) -> Frame,
) -> JoinHandle<Result<()>> {
    thread::spawn(move || {
        let mut piece = vec![0; 32 << 10];
        loop {
            match pipe.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => sender.send(&frame(piece.get(..length).unwrap_or_default().to_vec()))?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read the program's output"),
            }
        }
    })
}

/// Reaps whatever ends until the program itself does.
fn reap_until(program: Pid) -> Result<Exit> {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => return Ok(Exit::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Ok(Exit::Signal(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for the program"),
        }
    }
}

/// Reaps until there is no child left. A process that the kernel cannot kill keeps this waiting: the host notices.
fn reap_all() -> Result<()> {
    loop {
        match wait() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error).context("wait for left-over processes"),
        }
    }
}

/// Kills the running program on the host's word, after the kernel has logged what is blocked: the reason of a hang.
pub(super) fn kill_all() {
    if let Err(error) = fs::write(Path::new("/proc/sysrq-trigger"), "w") {
        complain(&anyhow::Error::from(error).context("log blocked tasks"));
    }
    kill_every_process();
}

/// Everything but process 1, which is us, and kernel threads.
fn kill_every_process() {
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => complain(&anyhow::Error::from(error).context("kill all processes")),
    }
}

/// Leaves word on the console, which the host keeps; there is nobody else to tell.
pub(super) fn complain(error: &anyhow::Error) {
    if let Ok(mut console) = File::options().write(true).open("/dev/console") {
        drop(writeln!(console, "vm-tests: guest agent: {error:#}"));
    }
}
