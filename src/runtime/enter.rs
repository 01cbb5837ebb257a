//! The step between the supervisor and the OCI runtime, in a process of its own: a new mount namespace in which the
//! root file system is mounted, the bundle, and then the runtime in this process's place.
//!
//! Invariant: the mount is in no namespace but this process's, which the runtime's own end takes away, and its copy in
//! the container: so it goes with the container's last process, and neither the supervisor nor the host keeps it busy.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::Path,
    thread,
};

use oci_spec::runtime::Spec;

use super::{
    bundle::{Command, FILTER, spec},
    job::Job,
    made_points::add_missing,
    mount_points::MountPoints,
    read_ahead::read_ahead,
    run_directory::RunDirectory,
    umask, user,
};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::{Mounted, enter_private_namespace},
};

/// The first argument of this program when a supervisor calls it in the runtime's place; the job's path is the next, and
/// then come the runtime's.
pub const ENTER: &str = "enter";

/// What the runtime mounts by itself (`get_default_mounts`).
pub const OWN_MOUNTS: [&str; 3] = ["/proc", "/dev", "/sys"];

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
    umask::set_plain();
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
        let mut spec = spec(&job.command, &identity, &run.root())?;
        spec.set_annotations(job.filter.clone().map(|filter| [(FILTER.to_owned(), filter)].into()));
        save(&spec, &run.config())
    })?;
    mounted.attach(&run.root())?;
    Ok(job)
}

fn save(spec: &Spec, config: &Path) -> Result<()> {
    spec.save(config).map_err(|error| Error::with_source(Kind::Io, format!("write {}", config.display()), error))
}

/// Writes the `config` with which a runtime runs `command` in the directory `root`.
///
/// # Errors
/// `NotFound` for a user that the directory does not know; the system's.
pub fn write_config(command: &Command, root: &Path, config: &Path) -> Result<()> {
    let directory = File::open(root).act(|| format!("open {}", root.display()))?;
    save(&spec(command, &user::resolve(directory.as_fd(), &command.user)?, root)?, config)
}
