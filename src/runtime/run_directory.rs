//! What a running container has besides its volume: a directory on the host's /run, which is memory and ends with the
//! boot, as the processes do.
//!
//! Invariant: what lies here says nothing by itself. A process is the container's if its number is noted here *and* the
//! kernel says that it is in the container's cgroup, or that it supervises it; so a number that was used again, or a /run
//! that outlived a reboot, deceives nobody.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt as _, process::ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::ExitStatus,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    error::{Act as _, Result},
    id::Digest,
    sys,
};

/// The parent of all; short, since the name of a socket has room for 107 bytes (unix(7)).
const BASE: &str = "/run/lamina";

/// The directory of one container's run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    directory: PathBuf,
    id: String,
}

/// The directory of all runs of a root directory.
pub fn runs_of(root: &Path) -> PathBuf {
    let name = Digest::of(root.as_os_str().as_encoded_bytes()).hex();
    Path::new(BASE).join(&name[..8])
}

/// The containers that have a directory among the `runs`, by their IDs.
///
/// # Errors
/// The system's.
pub fn runs_in(runs: &Path) -> Result<Vec<String>> {
    let act = || format!("look into {}", runs.display());
    let entries = match fs::read_dir(runs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.act(act)?,
    };
    entries.map(|entry| Ok(entry.act(act)?.file_name().to_string_lossy().into_owned())).collect()
}

impl RunDirectory {
    /// Of the container `id` among the runs `runs`.
    pub fn new(runs: &Path, id: &str) -> Self {
        Self { directory: runs.join(id), id: id.to_owned() }
    }

    /// Makes it, empty.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` among them.
    pub(super) fn make(&self) -> Result<()> {
        let act = || format!("make {}", self.directory.display());
        let make = |path: &Path, recursive| DirBuilder::new().mode(0o700).recursive(recursive).create(path);
        loop {
            make(self.directory.parent().unwrap_or(Path::new(BASE)), true).act(act)?;
            match make(&self.directory, false) {
                // The last other container went, and the parent with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                made => break made.act(act)?,
            }
        }
        make(&self.root(), false).act(act)?;
        make(&self.state(), false).act(act)
    }

    /// Removes it; nothing there is success.
    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).act(|| format!("remove {}", self.directory.display()));
            }
            _ => {}
        }
        // The parent goes with the last one; others in it are no failure.
        self.directory.parent().map(fs::remove_dir);
        Ok(())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The container's ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the root file system is mounted, in the container's own mount namespace alone.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Where the runtime keeps what it knows.
    pub(super) fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Through which the runtime's process waits to be told to begin.
    pub(super) fn gate(&self) -> PathBuf {
        self.state().join(&self.id).join("exec.fifo")
    }

    fn still_file(&self) -> PathBuf {
        self.directory.join("still")
    }

    /// Notes that the container's processes are stopped for an instant by a command that holds its lock.
    ///
    /// # Errors
    /// The system's.
    pub fn note_still(&self) -> Result<()> {
        let path = self.still_file();
        fs::write(&path, "").act(|| format!("write {}", path.display()))
    }

    /// Whether that is noted.
    pub fn is_still(&self) -> bool {
        self.still_file().exists()
    }

    /// The note is taken away; nothing there is success.
    ///
    /// # Errors
    /// The system's.
    pub fn forget_still(&self) -> Result<()> {
        let path = self.still_file();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).act(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn config(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    pub(super) fn job(&self) -> PathBuf {
        self.directory.join("job.json")
    }

    pub(super) fn attach_socket(&self) -> PathBuf {
        self.directory.join("attach")
    }

    pub(super) fn control(&self) -> PathBuf {
        self.directory.join("ctl")
    }

    pub(super) fn init_file(&self) -> PathBuf {
        self.directory.join("init.pid")
    }

    pub(super) fn supervisor_file(&self) -> PathBuf {
        self.directory.join("conmon.pid")
    }

    pub(super) fn runtime_file(&self) -> PathBuf {
        self.directory.join("runtime.pid")
    }

    /// Whether the runtime that makes the container's first process was there and has ended.
    pub(super) fn runtime_has_ended(&self) -> Result<bool> {
        Ok(self.runtime_file().exists() && self.process(&self.runtime_file(), "cmdline")?.is_none())
    }

    /// The container's first process, if it lives.
    ///
    /// # Errors
    /// The system's.
    pub fn init(&self) -> Result<Option<Process>> {
        self.process(&self.init_file(), "cgroup")
    }

    /// Whether the container's first process was made in this run, whether it lives or not.
    pub fn was_made(&self) -> bool {
        self.init_file().exists()
    }

    /// The process that supervises it, if it lives.
    ///
    /// # Errors
    /// The system's.
    pub fn supervisor(&self) -> Result<Option<Process>> {
        self.process(&self.supervisor_file(), "cmdline")
    }

    /// Whether `init`, the container's first process, was made and never told to begin. A gate may outlive whoever opened
    /// it and died; then the process is no longer the runtime's own.
    pub fn waits_to_begin(&self, init: &Process) -> bool {
        self.gate().exists() && init.is_runtime()
    }

    /// The process whose number is in `file`, if `about` it the kernel tells this container's ID.
    fn process(&self, file: &Path, about: &str) -> Result<Option<Process>> {
        let number = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.act(|| format!("read {}", file.display()))?.trim().parse().ok(),
        };
        let Some(pid) = number.and_then(Pid::from_raw) else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            fd => fd.act(|| format!("watch process {}", pid.as_raw_nonzero()))?,
        };
        // Read with the descriptor held: the number cannot be another's before that process has ended.
        let told = fs::read(format!("/proc/{}/{about}", pid.as_raw_nonzero())).unwrap_or_default();
        let ours = told.windows(self.id.len()).any(|window| window == self.id.as_bytes());
        let process = Process { pid, fd };
        Ok((ours && process.lives()?).then_some(process))
    }
}

/// How long a parent may take to be told of its child's end.
const TOLD: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A process that cannot be mistaken for another.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Process {
    /// Its number, in this PID namespace.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether it is an OCI runtime's still, which has not become the container's program: runc and crun both give it
    /// their names (`runc:[2:INIT]`, `crun:[2:INIT]`).
    fn is_runtime(&self) -> bool {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.id())).unwrap_or_default();
        name.starts_with("runc") || name.starts_with("crun")
    }

    /// Readable once it has ended (`pidfd_open(2)`).
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Sends it a signal; one that has ended is no failure.
    ///
    /// # Errors
    /// The kernel's.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match sys::signal::send(&self.fd, signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent.act(|| format!("send signal {signal} to process {}", self.id())),
        }
    }

    /// The exit code of one that has ended, that of a signal being 128 more than its number; `None` if the kernel does not
    /// tell.
    ///
    /// # Errors
    /// The kernel's.
    pub fn exit_code(&self) -> Result<Option<i32>> {
        let act = || format!("ask how process {} ended", self.id());
        // The kernel tells once its parent has been told, which shows as a hang-up where it is told at all.
        match poll(&mut [PollFd::new(&self.fd, PollFlags::empty())], Some(&TOLD)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).act(act),
        }
        let status = sys::pidfd::exit_status(&self.fd).act(act)?.map(ExitStatus::from_raw);
        Ok(status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal))))
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lives(&self) -> Result<bool> {
        self.ends_within(&Timespec::default()).map(|ended| !ended)
    }

    /// Waits for its end, so long at most; tells whether it came. A signal to this process ends the waiting early.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ends_within(&self, time: &Timespec) -> Result<bool> {
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(time)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno).act(|| format!("wait for process {}", self.id())),
        }
    }
}
