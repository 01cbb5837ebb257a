//! What a running container has besides its volume: a directory on the host's /run, which is memory and ends with the
//! boot, as the processes do.
//!
//! Invariant: what lies here says nothing by itself. A process is the container's if its number is noted here *and* the
//! kernel says that it is in the container's cgroup, or that it supervises or makes it; so a number that was used again, or a /run
//! that outlived a reboot, deceives nobody.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

use crate::{
    error::{Act as _, Result},
    fs::{if_there, make_new_private, make_private, remove_while_filled},
    id::Digest,
    sys::process::Process,
};

/// The parent of all; short, since the name of a socket has room for 107 bytes (unix(7)).
const BASE: &str = "/run/lamina";

/// The directory of one container's run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    directory: PathBuf,
    id: String,
}

/// Where a filter of system calls that may serve all runs is kept.
pub(super) fn filter_named(name: &str) -> PathBuf {
    Path::new(BASE).join(format!("filter-{name}"))
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

    /// Makes it, empty. The container is locked, and has no run.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn make(&self) -> Result<()> {
        loop {
            make_private(self.directory.parent().unwrap_or(Path::new(BASE)))?;
            match make_new_private(&self.directory) {
                // The last other container went, and the parent with it.
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                // Of an `exec` that meant the last run: runc makes the directory that it looks for.
                Err(error) if error.errno() == Some(libc::EEXIST) => self.remove()?,
                made => break made?,
            }
        }
        make_private(&self.root())?;
        make_private(&self.state())
    }

    /// Removes it; nothing there is success.
    pub(super) fn remove(&self) -> Result<()> {
        // Whoever looks into the container has files here.
        remove_while_filled(&self.directory).act(|| format!("remove {}", self.directory.display()))?;
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

    /// What crun compiled of the profile of system calls (`open_seccomp_output`).
    pub(super) fn filter(&self) -> PathBuf {
        self.state().join(&self.id).join("seccomp.bpf")
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
    ///
    /// # Errors
    /// The system's.
    pub fn is_still(&self) -> Result<bool> {
        is_there(&self.still_file())
    }

    /// The note is taken away; nothing there is success.
    ///
    /// # Errors
    /// The system's.
    pub fn forget_still(&self) -> Result<()> {
        let path = self.still_file();
        if_there(fs::remove_file(&path)).act(|| format!("remove {}", path.display()))
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

    /// The runtime that makes the container's first process, if it lives.
    pub(super) fn runtime(&self) -> Result<Option<Process>> {
        self.process(&self.runtime_file(), "cmdline")
    }

    /// It has made that process; its number may be another's from now on.
    pub(super) fn forget_runtime(&self) -> Result<()> {
        let path = self.runtime_file();
        if_there(fs::remove_file(&path)).act(|| format!("remove {}", path.display()))
    }

    /// Whether that was there and has ended.
    pub(super) fn runtime_has_ended(&self) -> Result<bool> {
        Ok(is_there(&self.runtime_file())? && self.runtime()?.is_none())
    }

    /// The container's first process, if it lives.
    ///
    /// # Errors
    /// The system's.
    pub fn init(&self) -> Result<Option<Process>> {
        self.process(&self.init_file(), "cgroup")
    }

    /// Whether the container's first process was made in this run, whether it lives or not.
    ///
    /// # Errors
    /// The system's.
    pub fn was_made(&self) -> Result<bool> {
        is_there(&self.init_file())
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
    ///
    /// # Errors
    /// The system's.
    pub fn waits_to_begin(&self, init: &Process) -> Result<bool> {
        Ok(is_there(&self.gate())? && is_runtime(init)?)
    }

    /// The process whose number is in `file`, if `about` it the kernel tells this container's ID.
    fn process(&self, file: &Path, about: &str) -> Result<Option<Process>> {
        let number = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.act(|| format!("read {}", file.display()))?.trim().parse().ok(),
        };
        let Some(pid) = number.and_then(Pid::from_raw) else { return Ok(None) };
        let Some(process) = Process::open(pid)? else { return Ok(None) };
        // Read with the descriptor held: the number cannot be another's before that process has ended.
        let told = told(process.id(), about)?;
        let ours = told.windows(self.id.len()).any(|window| window == self.id.as_bytes());
        Ok((ours && process.lives()?).then_some(process))
    }
}

fn is_there(path: &Path) -> Result<bool> {
    path.try_exists().act(|| format!("look for {}", path.display()))
}

/// What the kernel tells of a process; nothing of one that has ended. That it cannot be read is no such end: a container
/// would be taken for one that does not run.
fn told(process: i32, about: &str) -> Result<Vec<u8>> {
    let path = format!("/proc/{process}/{about}");
    match fs::read(&path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(Vec::new()),
        told => told.act(|| format!("read {path}")),
    }
}

/// Whether it is an OCI runtime's still, which has not become the container's program: runc and crun both give it their
/// names (`runc:[2:INIT]`, `crun:[2:INIT]`).
fn is_runtime(process: &Process) -> Result<bool> {
    let name = told(process.id(), "comm")?;
    Ok(name.starts_with(b"runc") || name.starts_with(b"crun"))
}
