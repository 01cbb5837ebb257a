//! The step between the supervisor and the OCI runtime, in a process of its own: a new mount namespace in which the
//! root file system is mounted, the bundle, and then the runtime in this process's place.
//!
//! Invariant: the mount is in no namespace but this process's, which the runtime's own end takes away, and its copy in
//! the container: so it goes with the container's last process, and neither the supervisor nor the host keeps it busy.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    fs::{FlockOperation, Mode, flock},
    process::umask,
};
use serde::{Deserialize, Serialize};

use super::{
    bundle::{Command, Mount, MountKind, spec},
    mount_points::MountPoints,
    read_ahead::read_ahead,
    run_directory::RunDirectory,
    user::{self, Identity},
};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::{MountSpec, Mounted, enter_private_namespace},
    interrupt,
};

/// The first argument of this program when a supervisor calls it in the runtime's place; the job's path is the next, and
/// then come the runtime's.
pub const ENTER: &str = "enter";

/// What is made for everybody in a container must not be as private as the caller's own files.
const PLAIN_UMASK: Mode = Mode::from_raw_mode(0o022);

/// Makes files, or starts a program that does, under the umask of a container.
pub(super) fn with_plain_umask<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(PLAIN_UMASK);
    let made = make();
    umask(before);
    made
}

/// What the runtime mounts by itself (`get_default_mounts`).
pub const OWN_MOUNTS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// What is to be done, as the supervisor hands it through.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// The container's ID, and the directory of all runs.
    pub(super) id: String,
    pub(super) runs: PathBuf,
    /// The root file system.
    pub(super) mount: MountSpec,
    /// The process.
    pub(super) command: Command,
    /// The runtime.
    pub(super) runtime: PathBuf,
    /// Where is noted which mount points the root file system had not.
    pub(super) mount_points: PathBuf,
}

impl Job {
    /// Makes the file at `path`, for whose content [`Job::awaited`] waits as long as what is returned is open.
    pub(super) fn promise(path: &Path) -> Result<File> {
        let act = || format!("make {}", path.display());
        let file = File::options().write(true).create_new(true).open(path).act(act)?;
        flock(&file, FlockOperation::LockExclusive).act(act)?;
        Ok(file)
    }

    /// Keeps a promise.
    pub(super) fn keep(&self, mut file: File) -> Result<()> {
        let act = || "write what the container is to run";
        let text = serde_json::to_vec(self).map_err(|error| Error::with_source(Kind::Io, act(), error))?;
        file.write_all(&text).act(act)
    }

    /// The job at `path` once it is there.
    fn awaited(path: &Path) -> Result<Self> {
        let act = || format!("wait for {}", path.display());
        let file = File::open(path).act(act)?;
        interrupt::wait_for_lock(&file, FlockOperation::LockShared).act(act)?;
        if file.metadata().act(act)?.len() == 0 {
            return Err(Error::new(Kind::Interrupted, "the command that was to start the container has ended"));
        }
        Self::read(path)
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let act = || format!("read {}", path.display());
        serde_json::from_slice(&fs::read(path).act(act)?)
            .map_err(|error| Error::with_source(Kind::Corrupt, act(), error))
    }
}

/// Does the job in the file `job`, then becomes the runtime, which gets `args`. Returns only if that fails.
pub fn enter(job: &Path, args: &[OsString]) -> Error {
    match prepare(job) {
        Err(error) => error,
        Ok(job) => {
            let run = RunDirectory::new(&job.runs, &job.id);
            let error = std::process::Command::new(&job.runtime).arg("--root").arg(run.state()).args(args).exec();
            Error::with_source(Kind::Io, format!("run {}", job.runtime.display()), error)
        }
    }
}

fn prepare(path: &Path) -> Result<Job> {
    // The runtime makes missing mount points, which the container's users see, and not as the caller's umask has them.
    umask(PLAIN_UMASK);
    let job = Job::awaited(path)?;
    let run = RunDirectory::new(&job.runs, &job.id);
    let note = run.runtime_file();
    fs::write(&note, std::process::id().to_string()).act(|| format!("write {}", note.display()))?;
    enter_private_namespace()?;
    let mounted = Mounted::detached(&job.mount)?;
    crash::point(crash::Point::RunMounted);
    let root = mounted.root();
    thread::scope(|scope| {
        // A hint: without a thread more the program is read when it runs.
        let _ = thread::Builder::new().spawn_scoped(scope, || read_ahead(root, &job.command));
        let identity = user::resolve(root, &job.command.user)?;
        let targets = OWN_MOUNTS.into_iter().chain(job.command.mounts.iter().map(|mount| mount.target.as_str()));
        add_missing(&job.mount_points, &MountPoints::note(root, targets)?.paths())?;
        save(&job.command, &identity, &run.root(), &run.config())
    })?;
    mounted.attach(&run.root())?;
    Ok(job)
}

fn save(command: &Command, identity: &Identity, root: &Path, config: &Path) -> Result<()> {
    let saved = spec(command, identity, root)?.save(config);
    saved.map_err(|error| Error::with_source(Kind::Io, format!("write {}", config.display()), error))
}

/// Writes the `config` with which a runtime runs `command` in the directory `root`.
///
/// # Errors
/// `NotFound` for a user that the directory does not know; the system's.
pub fn write_config(command: &Command, root: &Path, config: &Path) -> Result<()> {
    let directory = File::open(root).act(|| format!("open {}", root.display()))?;
    save(command, &user::resolve(directory.as_fd(), &command.user)?, root, config)
}

/// Makes the mount points that the tree at `root` has not, as a run of the container does, and notes them in `list`.
///
/// # Errors
/// The system's.
pub fn make_mount_points(root: BorrowedFd<'_>, mounts: &[Mount], list: &Path) -> Result<()> {
    let points = MountPoints::note(root, mounts.iter().map(|mount| mount.target.as_str()))?;
    add_missing(list, &points.paths())?;
    with_plain_umask(|| points.make(|target| is_directory(mounts, target)))
}

/// Makes the places of `mounts` below `root` where there are none, in what is no container's tree.
///
/// # Errors
/// The kernel's reason.
pub fn make_bare_points(root: BorrowedFd<'_>, mounts: &[Mount]) -> Result<()> {
    let points = MountPoints::note(root, mounts.iter().map(|mount| mount.target.as_str()))?;
    with_plain_umask(|| points.make(|target| is_directory(mounts, target)))
}

fn is_directory(mounts: &[Mount], target: &Path) -> bool {
    let source = mounts.iter().find(|mount| Path::new(&mount.target) == target);
    source.is_none_or(|mount| mount.kind == MountKind::Tmpfs || mount.source.is_dir())
}

/// Adds to the list of mount points that this container's runs have made, before they are made.
fn add_missing(list: &Path, paths: &[String]) -> Result<()> {
    let mut known = made_mount_points(list)?;
    let before = known.len();
    known.extend(paths.iter().filter(|path| !known.contains(path)).cloned().collect::<Vec<_>>());
    if known.len() == before {
        return Ok(());
    }
    let act = || format!("write {}", list.display());
    let text = serde_json::to_vec(&known).map_err(|error| Error::with_source(Kind::Io, act(), error))?;
    let new = list.with_extension("new");
    // Not synced, which would cost each first run: after a loss of power the list may be empty, and bare mount points are
    // told as changes then.
    fs::write(&new, text).act(act)?;
    fs::rename(&new, list).act(act)
}

/// The mount points that a container's runs have made in its root file system, each with what is above it and was
/// missing too.
///
/// # Errors
/// `Corrupt` for a list that is none.
pub fn made_mount_points(list: &Path) -> Result<Vec<String>> {
    let act = || format!("read {}", list.display());
    match fs::read(list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Ok(text) if text.is_empty() => Ok(Vec::new()),
        text => {
            serde_json::from_slice(&text.act(act)?).map_err(|error| Error::with_source(Kind::Corrupt, act(), error))
        }
    }
}
