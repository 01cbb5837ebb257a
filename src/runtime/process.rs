//! One command run to its end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::Pid;

use oci_spec::runtime::Spec;

use super::{
    bundle::{Command, spec},
    cgroup,
    enter::OWN_MOUNTS,
    exec::logged,
    mount_points::MountPoints,
    program::OciRuntime,
    umask, user,
    workplace::Workplace,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{Mounted, enter_private_namespace, is_dir, leave_out, mounts_below},
    interrupt,
    program::{SETPRIV, UNSHARE},
    sys::process::{Process, exit_code},
};

/// How long a signal may go unseen.
const LOOK_UP: Duration = Duration::from_millis(200);

/// The runtime's log, beside the bundle.
const LOG: &str = "log";

/// How a command ended.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code; that of a signal is 128 more than the signal's number.
    pub code: i32,
    /// Why it was not started: there is no such program, or it may not be run. The code is the shell's for that, then.
    pub refusal: Option<Error>,
}

/// The exit code for a program that the runtime refused to run, the shell's; none for another failure.
pub fn refusal_code(kind: Kind) -> Option<u8> {
    match kind {
        Kind::NoCommand => Some(127),
        Kind::NotExecutable => Some(126),
        _ => None,
    }
}

/// Runs `command` in the tree of `mounted`, which is given up, with its output on standard error. `also` is mounted
/// where the paths say, for the command's mounts to bind. Mounts below `hidden` are left out of the command's namespace,
/// which would keep them busy. `look` is called again and again, tells when next, and ends the command with
/// its error.
///
/// # Errors
/// `NotFound` for a user that the image does not know, `Interrupted`, the runtime's own, those of `look`. A command that
/// fails is none.
pub fn run(
    runtime: OciRuntime,
    (mounted, also): (Mounted, Vec<(Mounted, PathBuf)>),
    command: &Command,
    place: &Workplace,
    hidden: &Path,
    look: &dyn Fn() -> Result<Duration>,
) -> Result<Exit> {
    let identity = user::resolve(mounted.root(), &command.user)?;
    let targets = OWN_MOUNTS.into_iter().chain(command.mounts.iter().map(|mount| mount.target.as_str()));
    let points = MountPoints::note(mounted.root(), targets)?;
    let rootfs = place.path().join("rootfs");
    fs::create_dir(&rootfs).act(|| format!("make {}", rootfs.display()))?;
    let spec = in_cgroup(spec(command, &identity, &rootfs)?, &place.cgroup());
    let config = place.path().join("config.json");
    spec.save(&config).map_err(|error| Error::with_source(Kind::Io, format!("write {}", config.display()), error))?;
    let (tell, told) = mpsc::channel();
    let work = move || {
        enter_namespace_without(hidden)?;
        mounted.attach(&rootfs)?;
        for (mounted, path) in also {
            make_point(&mounted, &path).act(|| format!("make {}", path.display()))?;
            mounted.attach(&path)?;
        }
        let mut running = Running(start(runtime, place.path())?);
        let pid = Pid::from_child(&running.0);
        // Nobody listens only if the other side gave up, and then this must end too.
        if let Some(process) = Process::open(pid)?
            && tell.send(process).is_err()
        {
            return Err(interrupt::interrupted());
        }
        running.0.wait().act(|| "wait for the OCI runtime")
    };
    // The mount namespace is a thread's own, and it is the death of that thread that the kernel tells its child. Signals
    // to this process come to the other, which ends the command.
    let status = thread::scope(|scope| {
        let worker = scope.spawn(work);
        let watched = told.recv().map_or(Ok(()), |process| watch(&process, look));
        let ended =
            worker.join().unwrap_or_else(|_| Err(Error::new(Kind::Io, "the thread that ran the container panicked")));
        watched.and(ended)
    })?;
    points.remove()?;
    // The runtime's own failure has a code that the command could have, too; but only the runtime writes its log.
    match logged(&place.path().join(LOG)).filter(|_| !status.success()) {
        None => Ok(Exit { code: exit_code(status).unwrap_or(1), refusal: None }),
        Some(failure) => match refusal_code(failure.kind()) {
            Some(code) => Ok(Exit { code: code.into(), refusal: Some(failure) }),
            None => Err(failure),
        },
    }
}

/// The runtime would choose a cgroup by itself, that nobody knows when it was killed.
fn in_cgroup(mut spec: Spec, name: &str) -> Spec {
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(cgroup::path(name)));
    }
    spec
}

/// A file can be mounted on a file only.
fn make_point(mounted: &Mounted, path: &Path) -> io::Result<()> {
    if is_dir(&rustix::fs::fstat(mounted.root())?) {
        return fs::create_dir_all(path);
    }
    fs::File::create_new(path).map(drop)
}

fn enter_namespace_without(hidden: &Path) -> Result<()> {
    let copied = mounts_below(hidden)?;
    enter_private_namespace()?;
    leave_out(copied)
}

/// A runtime that is running; killed when the value is dropped before its end.
#[derive(Debug)]
struct Running(Child);

fn start(runtime: OciRuntime, bundle: &Path) -> Result<Child> {
    let program = runtime.program();
    let mut command = std::process::Command::new(SETPRIV.find()?);
    command.args(["--pdeathsig", "KILL"]).arg(UNSHARE.find()?);
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(program.find()?).arg("--root").arg(bundle.join("state")).args(runtime.without_cgroups());
    command.arg("--log").arg(bundle.join(LOG)).args(["--log-format", "json"]);
    let id = format!("lamina-{}", bundle.file_name().unwrap_or_default().to_string_lossy());
    command.arg("run").arg("--bundle").arg(bundle).arg(id);
    // Standard output is for results.
    let output = std::io::stderr();
    let output = || rustix::io::dup(&output).act(|| "share standard error");
    command.stdin(Stdio::null()).stdout(Stdio::from(output()?)).stderr(Stdio::from(output()?));
    umask::with_plain(|| command.spawn()).act(|| format!("run {}", program.name))
}

/// Waits for the end of a process; a signal to this one ends it, and so does an error of `look`.
fn watch(process: &Process, look: &dyn Fn() -> Result<Duration>) -> Result<()> {
    loop {
        let next = match interrupt::check().and_then(|()| look()) {
            Ok(next) => next.min(LOOK_UP),
            Err(why) => return Err(why.and_undo(process.signal(libc::SIGKILL).act(|| "end the OCI runtime"))),
        };
        // A signal that comes just before the call does not end it.
        if process.ends_within(next).act(|| "wait for the OCI runtime")? {
            return interrupt::check();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its end takes the PID namespace along; one that has ended already is no error.
        if matches!(self.0.try_wait(), Ok(None)) && self.0.kill().and_then(|()| self.0.wait()).is_err() {
            tracing::warn!("the OCI runtime with process ID {} could not be ended", self.0.id());
        }
    }
}
