//! A supervisor (`conmon`) called, and a container's process made under it by an OCI runtime.
//!
//! Invariant: the supervisor may be called before there is anything to run; it is told by the job file, which stays locked
//! until it is written. What is dropped before it began takes all away again.

use std::{
    env,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::Pid,
};
use serde::Deserialize;

use super::{
    bundle::Command,
    cgroup::Cgroup,
    enter::ENTER,
    filter::Filter,
    job::Job,
    launched::{Launched, Unbegun},
    program::OciRuntime,
    run_directory::RunDirectory,
    supervisors,
};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::MountSpec,
    interrupt,
    program::CONMON,
    sys::process::Process,
};

/// How a container is supervised, and where its traces go.
#[derive(Debug)]
pub struct Supervision<'a> {
    /// Where the run has its files.
    pub run: RunDirectory,
    /// Whether the process has a terminal.
    pub terminal: bool,
    /// Whether it has a standard input.
    pub stdin: bool,
    /// Whether that stays open when whoever is attached goes.
    pub keep_stdin: bool,
    /// The directory of what is kept of the container: the file with its exit code gets its ID for a name.
    pub home: &'a Path,
    /// Its output.
    pub log: PathBuf,
    /// This program's arguments after the container has ended.
    pub after: Vec<String>,
}

/// A supervisor that has been called, and waits for the job. Dropped before it has one, it ends, and nothing of the run
/// stays.
#[derive(Debug)]
pub struct Supervisor {
    // In the order in which they are dropped: without a job to wait for it ends, and then its traces go.
    job: File,
    conmon: Conmon,
    told: File,
    run: Unbegun,
}

/// conmon's first process, which ends when the second, the supervisor, has its number noted.
#[derive(Debug)]
struct Conmon(Child);

/// What is to run.
#[derive(Debug)]
pub struct Launch {
    /// By which runtime.
    pub runtime: OciRuntime,
    /// The root file system.
    pub mount: MountSpec,
    /// The process.
    pub command: Command,
    /// Where is noted which mount points the root file system had not.
    pub mount_points: PathBuf,
}

/// How often it is looked whether the runtime that conmon waits for is still there.
const LOOK_UP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How long conmon may take to begin or to end without a job, which are milliseconds, before it is ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// As often conmon may have nothing to tell when it is gone; on a busy host it takes a while.
const SILENCE: u32 = 5;

/// What the supervisor tells: a process ID, or a negative number and why.
#[derive(Deserialize)]
struct Word {
    #[serde(alias = "pid")]
    data: i32,
    #[serde(default)]
    message: String,
}

impl Supervision<'_> {
    /// Calls the supervisor. What it is to run it is told by [`Supervisor::launch`].
    ///
    /// # Errors
    /// `MissingProgram`; the system's. Nothing stays then.
    pub fn begin(self) -> Result<Supervisor> {
        self.run.make()?;
        let run = Unbegun::new(self.run.clone());
        crash::point(crash::Point::RunIntent);
        let job = Job::promise(&self.run.job())?;
        let (told, tell) = sync_pipe()?;
        let mut conmon = self.conmon(&tell)?;
        let conmon = conmon.stderr(Stdio::piped()).spawn().act(|| "run conmon")?;
        crash::point(crash::Point::RunCalled);
        Ok(Supervisor { job, conmon: Conmon(conmon), told, run })
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
        let flags = [("--terminal", self.terminal), ("--stdin", self.stdin), ("--leave-stdin-open", self.keep_stdin)];
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

impl Supervisor {
    /// Tells it what to run, and returns when that waits to begin.
    ///
    /// # Errors
    /// `NoCommand` for a program that the image has not, `NotExecutable` for one that may not be run; `MissingProgram`;
    /// `Interrupted`; the runtime's. Nothing stays then.
    pub fn launch(mut self, launch: Launch) -> Result<Launched> {
        let run = self.run.directory();
        let program = launch.runtime.program().find()?;
        let filter = Filter::of(launch.runtime, &program);
        let job = Job {
            id: run.id().to_owned(),
            runs: run.path().parent().unwrap_or(Path::new("/")).to_owned(),
            mount: launch.mount,
            command: launch.command,
            runtime: program,
            filter: filter.as_ref().and_then(Filter::kept),
            mount_points: launch.mount_points,
        };
        job.keep(self.job)?;
        let said = self.conmon.said()?;
        if let Err(error) = supervisors::take_in(run) {
            tracing::warn!(
                "{error}; whatever ends the service or login that this command is part of ends the container's supervisor, too"
            );
        }
        let line = hear(run, self.told)?;
        match serde_json::from_str(&line) {
            Ok(Word { data: 1.., .. }) => {
                run.forget_runtime()?;
                if let Some(filter) = filter {
                    filter.keep_or_tell(run);
                }
                Ok(Launched::new(self.run, launch.runtime))
            }
            Ok(Word { message, .. }) => Err(failure(&message)),
            // Ctrl-C on a terminal ends conmon, too.
            Err(_) => interrupt::check().and_then(|()| Err(failure(&said))),
        }
    }
}

impl Conmon {
    /// What it says before it ends.
    fn said(&mut self) -> Result<String> {
        let act = || "wait for conmon";
        let mut said = Vec::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            while read_more(&mut stderr, &mut said).act(act)? != Some(0) {
                interrupt::check()?;
            }
        }
        self.0.wait().act(act)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Waits for its end, and ends it if it takes so long that it hangs.
    fn end(&mut self) -> Result<()> {
        let ends = || match Process::open(Pid::from_child(&self.0))? {
            Some(process) if !process.has_ended_after(PATIENCE)? => process.signal(libc::SIGKILL),
            _ => Ok(()),
        };
        let ended = ends();
        let waited = self.0.wait().act(|| "wait for conmon").map(drop);
        ended.and(waited)
    }
}

impl Drop for Conmon {
    fn drop(&mut self) {
        // It takes milliseconds, and before it is over nobody could tell which process the supervisor is.
        if let Err(error) = self.end() {
            tracing::warn!("{error}");
        }
    }
}

/// What conmon tells, once it does. When the runtime was killed and left a process that has conmon's end of a pipe,
/// conmon waits for that for ever; it is ended then.
fn hear(run: &RunDirectory, mut told: File) -> Result<String> {
    let (mut line, mut silent) = (Vec::new(), 0);
    loop {
        match read_more(&mut told, &mut line).act(|| "hear what conmon tells")? {
            Some(length) if length == 0 || line.contains(&b'\n') => {
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            None if run.runtime_has_ended()? => silent += 1,
            Some(_) | None => silent = 0,
        }
        interrupt::check()?;
        match silent {
            0..SILENCE => {}
            SILENCE => Cgroup::new(run.id()).remove()?,
            _ => return Ok(String::new()),
        }
    }
}

/// Reads what comes next and tells how much that is, 0 at the end; nothing if none came in [`LOOK_UP`], or a signal did.
fn read_more(from: &mut (impl Read + AsFd), to: &mut Vec<u8>) -> io::Result<Option<usize>> {
    match poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&LOOK_UP)) {
        Ok(0) | Err(Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut buffer = [0; 4096];
    let length = from.read(&mut buffer)?;
    to.extend_from_slice(&buffer[..length]);
    Ok(Some(length))
}

/// The end that is told is inherited by every program that this process starts, the other is not.
fn sync_pipe() -> Result<(File, OwnedFd)> {
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

/// What a runtime says, out of what it logs in lines of `time=... level=error msg="..."`: the last error is why it ended.
fn spoken(logged: &str) -> String {
    let mut errors = logged.lines().filter_map(|line| Some(line.split_once("level=error")?.1.split_once("msg=")?.1));
    let Some(message) = errors.next_back() else { return logged.to_owned() };
    serde_json::from_str(message).unwrap_or_else(|_| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::spoken;

    #[test]
    fn the_last_error_of_a_log_is_told() {
        let logged = "time=\"1\" level=error msg=\"a \\\"b\\\"\"\ntime=\"2\" level=error msg=why\ntime=\"3\" level=warning msg=late";
        assert_eq!(spoken(logged), "why");
        assert_eq!(spoken(logged.lines().next().unwrap()), "a \"b\"");
        assert_eq!(spoken("conmon: no such option"), "conmon: no such option");
    }
}
