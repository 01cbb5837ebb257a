//! What is kept of a container besides its volume, in `ROOT/containers/ID`: its output, when it began and how it ended,
//! and the files that stand for the host's in it.
//!
//! Invariant: nothing here says that a container runs. `started` says that it was started once, at its time of change;
//! the file that has the container's ID for a name holds the exit code, and is there only when that run has ended.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{
    error::{Act as _, Result},
    fs::{if_there, make_private, remove_while_filled},
    id::ContainerId,
    interrupt,
    runtime::{Mount, MountKind, Network},
};

/// Files of the host that a container has its own of.
pub(super) const HOSTS_FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// The names that every machine knows itself by.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// See the module's comment.
#[derive(Clone, Debug)]
pub(super) struct Home {
    directory: PathBuf,
    id: ContainerId,
}

impl Home {
    pub(super) fn new(containers: &Path, id: &ContainerId) -> Self {
        Self { directory: containers.join(id.as_str()), id: id.clone() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    pub(super) fn mount_points(&self) -> PathBuf {
        self.directory.join("mount-points")
    }

    fn started_file(&self) -> PathBuf {
        self.directory.join("started")
    }

    fn exit_file(&self) -> PathBuf {
        self.directory.join(self.id.as_str())
    }

    fn oom_file(&self) -> PathBuf {
        self.directory.join("oom")
    }

    /// Makes it, if it is not there.
    pub(super) fn make(&self) -> Result<()> {
        make_private(&self.directory)
    }

    /// Gets it ready for a run, of which it knows nothing yet; that it was started once stays known.
    pub(super) fn prepare(&self, hostname: &str, network: Network) -> Result<()> {
        self.make()?;
        let of_host = |path: &str| match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            text => text.act(|| format!("read {path}")),
        };
        let hosts = match network {
            Network::Host => of_host("/etc/hosts")?,
            Network::None => LOCALHOST.as_bytes().to_vec(),
        };
        let texts = [format!("{hostname}\n").into_bytes(), hosts, of_host("/etc/resolv.conf")?];
        for (name, text) in HOSTS_FILES.iter().zip(texts) {
            let path = self.directory.join(name);
            let act = || format!("write {}", path.display());
            fs::write(&path, text).act(act)?;
            // Not what the umask makes of it: every user of the container reads these.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).act(act)?;
        }
        Ok(())
    }

    /// What stands for the host's files in the container.
    pub(super) fn binds(&self, read_only: bool) -> Vec<Mount> {
        // Below a file nothing is mounted, so there is nothing to keep private, which would cost each run a millisecond.
        let options: &[&str] = if read_only { &["bind", "ro"] } else { &["bind"] };
        let bind = |name: &&str| Mount {
            target: format!("/etc/{name}"),
            kind: MountKind::Bind,
            source: self.directory.join(name),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        HOSTS_FILES.iter().map(bind).collect()
    }

    /// Notes that a run begins: how the last one ended is history.
    pub(super) fn note_start(&self) -> Result<()> {
        for path in [self.exit_file(), self.oom_file()] {
            remove_file(&path)?;
        }
        let path = self.started_file();
        fs::write(&path, "").act(|| format!("write {}", path.display()))?;
        let now = fs::FileTimes::new().set_modified(std::time::SystemTime::now());
        let file = File::options().write(true).open(&path).and_then(|file| file.set_times(now));
        file.act(|| format!("set the time of {}", path.display()))
    }

    /// When it was started last.
    pub(super) fn started(&self) -> Result<Option<Timestamp>> {
        modified(&self.started_file())
    }

    /// How the last run ended, and when; nothing if it has not, or nobody was there to note it.
    pub(super) fn exit(&self) -> Result<Option<(i32, Timestamp)>> {
        let path = self.exit_file();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.act(|| format!("read {}", path.display()))?,
        };
        let Ok(code) = text.trim().parse() else { return Ok(None) };
        Ok(modified(&path)?.map(|time| (code, time)))
    }

    /// Notes in the supervisor's place how the run ended, just now.
    pub(super) fn note_exit(&self, code: i32) -> Result<()> {
        let path = self.exit_file();
        fs::write(&path, code.to_string()).act(|| format!("write {}", path.display()))
    }

    /// Whether the kernel ended a process of the last run for want of memory.
    pub(super) fn out_of_memory(&self) -> bool {
        self.oom_file().exists()
    }

    /// Notes so in the supervisor's place.
    pub(super) fn note_out_of_memory(&self) -> Result<()> {
        let path = self.oom_file();
        fs::write(&path, "").act(|| format!("write {}", path.display()))
    }

    /// Says that somebody wants to know how the run ends, as long as the value lives; [`Home::unattended`] waits for that.
    /// Nothing if there is no such directory any more.
    pub(super) fn attend(&self) -> Result<Option<File>> {
        self.locked(FlockOperation::LockShared)
    }

    /// Waits until nobody wants to know any more.
    pub(super) fn unattended(&self) -> Result<Option<File>> {
        self.locked(FlockOperation::LockExclusive)
    }

    /// Whether anybody wants to know.
    pub(super) fn is_attended(&self) -> Result<bool> {
        is_locked(&self.directory)
    }

    fn view_file(&self) -> PathBuf {
        self.directory.join("viewed")
    }

    /// Says that a command looks into the container's tree through a mount that may go meanwhile, as long as the value
    /// lives.
    pub(super) fn view(&self) -> Result<File> {
        noted(&self.view_file())
    }

    /// Whether one does.
    pub(super) fn is_viewed(&self) -> Result<bool> {
        is_locked(&self.view_file())
    }

    fn restart_file(&self) -> PathBuf {
        self.directory.join("restarted")
    }

    /// Says that the container is stopped to be started again, as long as the value lives.
    pub(super) fn restart(&self) -> Result<File> {
        noted(&self.restart_file())
    }

    /// Whether it is.
    pub(super) fn is_restarted(&self) -> Result<bool> {
        is_locked(&self.restart_file())
    }

    fn locked(&self, operation: FlockOperation) -> Result<Option<File>> {
        let act = || format!("lock {}", self.directory.display());
        let file = match File::open(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.act(act)?,
        };
        loop {
            match flock(&file, operation) {
                Err(Errno::INTR) => {}
                locked => return locked.act(act).map(|()| Some(file)),
            }
        }
    }

    /// Removes it. Idempotent.
    pub(super) fn remove(&self) -> Result<()> {
        // A supervisor that ends just now may write one more file into it.
        remove_while_filled(&self.directory).act(|| format!("remove {}", self.directory.display()))
    }
}

/// Locks the file at `path`, made if it is not there, as one of several who may.
fn noted(path: &Path) -> Result<File> {
    let act = || format!("lock {}", path.display());
    let file = File::options().create(true).append(true).open(path).act(act)?;
    // Whoever looks whether it is locked has it for a moment.
    interrupt::wait_for_lock(&file, FlockOperation::LockShared).act(act)?;
    Ok(file)
}

/// Whether somebody has locked what is at `path`.
fn is_locked(path: &Path) -> Result<bool> {
    let act = || format!("lock {}", path.display());
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        file => match flock(&file.act(act)?, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(true),
            locked => locked.act(act).map(|()| false),
        },
    }
}

fn remove_file(path: &Path) -> Result<()> {
    if_there(fs::remove_file(path)).act(|| format!("remove {}", path.display()))
}

fn modified(path: &Path) -> Result<Option<Timestamp>> {
    let act = || format!("look at {}", path.display());
    let time = match fs::metadata(path).and_then(|metadata| metadata.modified()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        time => time.act(act)?,
    };
    Ok(Timestamp::try_from(time).ok())
}
