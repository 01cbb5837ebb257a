//! A container's process made by an OCI runtime under a supervisor (`conmon`), and told to begin.
//!
//! Invariant: between the two everything is ready and nothing of the image runs yet, so whoever wants its first output
//! attaches then. A launch that is dropped before it began takes all away again.

use std::{
    env, fs,
    io::Read as _,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Command as Program, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
};
use serde::Deserialize;

use super::{
    bundle::Command,
    cgroup::Cgroup,
    enter::{ENTER, Job},
    program::{OciRuntime, Waits},
    run_directory::RunDirectory,
    supervisors,
};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::{MountSpec, if_there},
    interrupt,
    program::CONMON,
    sys::process::Process,
};

/// What is to run, and where its traces go.
#[derive(Debug)]
pub struct Launch<'a> {
    /// By which runtime.
    pub runtime: OciRuntime,
    /// Where the run has its files.
    pub run: RunDirectory,
    /// The root file system.
    pub mount: MountSpec,
    /// The process.
    pub command: Command,
    /// Whether it has a standard input.
    pub stdin: bool,
    /// Whether that stays open when whoever is attached goes.
    pub keep_stdin: bool,
    /// The directory of what is kept of the container: the file with its exit code gets its ID for a name.
    pub home: &'a Path,
    /// Its output.
    pub log: PathBuf,
    /// Where is noted which mount points the root file system had not.
    pub mount_points: PathBuf,
    /// This program's arguments after the container has ended.
    pub after: Vec<String>,
}

/// How often it is looked whether the runtime that conmon waits for is still there.
const LOOK_UP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// As often conmon may have nothing to tell when it is gone; on a busy host it takes a while.
const SILENCE: u32 = 5;

/// A process that waits to be told to begin.
#[derive(Debug)]
pub struct Launched {
    run: RunDirectory,
    runtime: OciRuntime,
    begun: bool,
}

/// What the supervisor tells: a process ID, or a negative number and why.
#[derive(Deserialize)]
struct Word {
    #[serde(alias = "pid")]
    data: i32,
    #[serde(default)]
    message: String,
}

impl Launch<'_> {
    /// Makes the process.
    ///
    /// # Errors
    /// `MissingProgram`; `NoCommand` for a program that the image has not, `NotExecutable` for one that may not be
    /// run; the runtime's. Nothing stays then.
    pub fn make(self) -> Result<Launched> {
        self.run.make()?;
        let launched = Launched { run: self.run.clone(), runtime: self.runtime, begun: false };
        crash::point(crash::Point::RunIntent);
        self.write_job()?;
        let (told, tell) = sync_pipe()?;
        let mut conmon = self.conmon(&tell)?;
        conmon.stderr(Stdio::piped());
        let child = conmon.spawn().act(|| "run conmon")?;
        drop(tell);
        // It goes on in a process of its own, which tells when the container is made.
        let output = child.wait_with_output().act(|| "wait for conmon")?;
        if let Err(error) = supervisors::take_in(&self.run) {
            tracing::warn!(
                "{error}; whatever ends the service or login that this command is part of ends the container's supervisor, too"
            );
        }
        let line = self.hear(told)?;
        match serde_json::from_str(&line) {
            Ok(Word { data: 1.., .. }) => Ok(launched),
            Ok(Word { message, .. }) => Err(failure(&message)),
            Err(_) => Err(failure(&String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// What conmon tells, once it does. When the runtime was killed and left a process that has conmon's end of a pipe,
    /// conmon waits for that for ever; it is ended then.
    fn hear(&self, mut told: fs::File) -> Result<String> {
        let act = || "hear what conmon tells";
        let (mut line, mut silent) = (Vec::new(), 0);
        loop {
            match poll(&mut [PollFd::new(&told, PollFlags::IN)], Some(&LOOK_UP)) {
                Ok(0) if self.run.runtime_has_ended()? => silent += 1,
                Ok(0) => silent = 0,
                Ok(_) => {
                    let mut buffer = [0; 4096];
                    let length = told.read(&mut buffer).act(act)?;
                    line.extend_from_slice(&buffer[..length]);
                    if length == 0 || line.contains(&b'\n') {
                        return Ok(String::from_utf8_lossy(&line).into_owned());
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).act(act),
            }
            interrupt::check()?;
            match silent {
                0..SILENCE => {}
                SILENCE => Cgroup::new(self.run.id()).remove()?,
                _ => return Ok(String::new()),
            }
        }
    }

    fn write_job(&self) -> Result<()> {
        let job = Job {
            id: self.run.id().to_owned(),
            runs: self.run.path().parent().unwrap_or(Path::new("/")).to_owned(),
            mount: self.mount.clone(),
            command: self.command.clone(),
            runtime: self.runtime.program().find()?,
            mount_points: self.mount_points.clone(),
        };
        let path = self.run.job();
        let act = || format!("write {}", path.display());
        let text = serde_json::to_vec(&job).map_err(|error| Error::with_source(Kind::Io, act(), error))?;
        fs::write(&path, text).act(act)
    }

    fn conmon(&self, tell: &OwnedFd) -> Result<Program> {
        let own = env::current_exe().act(|| "find this program")?;
        let run = &self.run;
        let mut conmon = Program::new(CONMON.find()?);
        conmon.args(["--api-version", "1", "--full-attach", "--no-sync-log", "--cid", run.id(), "--cuuid", run.id()]);
        let paths = [
            ("--bundle", run.path()),
            ("--container-pidfile", &run.init_file()),
            ("--conmon-pidfile", &run.supervisor_file()),
            ("--exit-dir", self.home),
            ("--runtime", &own),
            ("--exit-command", &own),
        ];
        for (option, path) in paths {
            conmon.arg(option).arg(path);
        }
        conmon.arg("--log-path").arg(format!("k8s-file:{}", self.log.display()));
        conmon.args(["--runtime-arg", ENTER, "--runtime-arg"]).arg(run.job());
        for argument in &self.after {
            conmon.arg("--exit-command-arg").arg(argument);
        }
        let flags =
            [("--terminal", self.command.terminal), ("--stdin", self.stdin), ("--leave-stdin-open", self.keep_stdin)];
        conmon.args(flags.into_iter().filter(|(_, on)| *on).map(|(flag, _)| flag));
        // Its own directory is where it notes that memory ran out; the socket for a terminal shall not lie in /tmp.
        conmon.current_dir(self.home).stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
        conmon.env("TMPDIR", run.path()).env("_OCI_SYNCPIPE", tell.as_raw_fd().to_string());
        for kept in ["PATH", "LAMINA_CRASH_AT"] {
            conmon.envs(env::var_os(kept).map(|value| (kept, value)));
        }
        Ok(conmon)
    }
}

/// The end that is told is inherited by every program that this process starts, the other is not.
fn sync_pipe() -> Result<(fs::File, OwnedFd)> {
    let act = || "make a pipe";
    let (told, tell) = rustix::pipe::pipe().act(act)?;
    rustix::io::fcntl_setfd(&told, rustix::io::FdFlags::CLOEXEC).act(act)?;
    Ok((told.into(), tell))
}

/// The runtime's failure in our words, as far as it is the caller's: the two that have exit codes of their own.
pub(super) fn failure(said: &str) -> Error {
    let said = spoken(said.trim());
    let lower = said.to_lowercase();
    // crun says the second of a directory.
    let refused = lower.contains("permission denied") || lower.contains("operation not permitted");
    let kind = if lower.contains("executable file not found")
        || lower.contains("executable file `") && lower.contains("not found")
        || lower.contains("no such file or directory") && lower.contains("exec")
    {
        Kind::NoCommand
    } else if refused && lower.contains("exec") || lower.contains("is a directory") {
        Kind::NotExecutable
    } else {
        Kind::Io
    };
    let said = if said.is_empty() { "it ended without a word" } else { said.as_str() };
    Error::new(kind, format!("OCI runtime: {said}"))
}

/// What a runtime says, out of what it logs: `time=... level=error msg="..."`.
fn spoken(logged: &str) -> String {
    let Some((_, message)) = logged.split_once("msg=") else { return logged.to_owned() };
    serde_json::from_str(message.lines().next().unwrap_or(message)).unwrap_or_else(|_| message.to_owned())
}

impl Launched {
    /// Its run.
    pub fn run(&self) -> &RunDirectory {
        &self.run
    }

    /// Lets it begin, as the runtime's `start` does: through a fifo before which the process waits. Done here it spares a
    /// process that takes longer than the rest of a short run.
    ///
    /// # Errors
    /// If it has ended before; the system's.
    pub fn begin(mut self) -> Result<()> {
        let gate = self.run.gate();
        // Opening the gate lets it begin, and it may have ended a moment later.
        let init = self.run.init()?.ok_or_else(ended_before)?;
        match self.runtime.waits_for() {
            Waits::Reader => read_one(&gate, &init)?,
            Waits::Writer => write_one(&gate)?,
        }
        crash::point(crash::Point::RunOpened);
        if_there(fs::remove_file(&gate)).act(|| format!("remove {}", gate.display()))?;
        self.begun = true;
        Ok(())
    }
}

fn ended_before() -> Error {
    Error::new(Kind::Io, "the container's process ended before it began")
}

/// Reads what `init` writes once somebody has the fifo open.
fn read_one(gate: &Path, init: &Process) -> Result<()> {
    let act = || format!("read {}", gate.display());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(gate, flags, Mode::empty()).act(act)?;
    loop {
        let mut ready = [PollFd::new(&fd, PollFlags::IN), PollFd::from_borrowed_fd(init.fd().as_fd(), PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).act(act),
        }
        match rustix::io::read(&fd, &mut [0_u8; 8]) {
            Ok(1..) => return Ok(()),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) if init.lives()? => {}
            Ok(_) => return Err(ended_before()),
            Err(errno) => return Err(errno).act(act),
        }
    }
}

/// Writes what the process reads, which holds the fifo open.
fn write_one(gate: &Path) -> Result<()> {
    let act = || format!("write {}", gate.display());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(gate, flags, Mode::empty()) {
        Err(Errno::NXIO) => Err(ended_before()),
        fd => rustix::io::write(fd.act(act)?, &[0]).act(act).map(drop),
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.begun {
            return;
        }
        if let Err(error) = clear(&self.run) {
            tracing::warn!("{error}; the next command tries again");
        }
    }
}

/// How long the kernel may take to end a supervisor that was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends what runs in the container and removes what it has on /run and its cgroup. Idempotent. How it ended is noted
/// before by its supervisor, if anybody is to know: that is ended, too, lest it notes it when the next run has begun.
///
/// # Errors
/// `InUse` for a process that does not end.
pub fn clear(run: &RunDirectory) -> Result<()> {
    if let Some(init) = run.init()? {
        // In a PID namespace everything ends with the first process.
        init.signal(libc::SIGKILL)?;
    }
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    // What a supervisor calls in the end takes its place.
    let supervisor = run.supervisor()?.filter(|supervisor| supervisor.id() != own);
    supervisor.as_ref().map_or(Ok(()), |supervisor| supervisor.signal(libc::SIGKILL))?;
    Cgroup::new(run.id()).remove()?;
    if let Some(supervisor) = supervisor
        && !supervisor.ends_within(PATIENCE)?
    {
        let what = format!("the supervisor of container {:.12}, process {}, does not end", run.id(), supervisor.id());
        return Err(Error::new(Kind::InUse, what));
    }
    run.remove()
}
