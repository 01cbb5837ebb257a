//! Docker, as the distribution packages it: a daemon of the row's own, with its storage on a disk like the others'.
//!
//! Asked is the daemon, over HTTP on its socket, from this process. Neither what it keeps nor how to reach it is shared with a
//! Docker that is running on this machine; it has no network, so that it cannot change the machine's.

mod api;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use api::Api;
use nix::mount::{MsFlags, mount};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Stage, containerd, leave, peer::Peer};
use crate::{
    bench::{daemon::Daemon, ground::Directory},
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, unmount},
    program::{CONTAINERD, DOCKERD, SETPRIV, UNSHARE},
    units::Bytes,
};

/// With overlayfs.
pub(in crate::bench) const DOCKER_OVERLAY2: Peer = Peer {
    name: "docker/overlay2",
    about: "Docker with its overlay2 driver, on ext4; timed are requests to its daemon",
    storage: "overlay2",
    kernel: DriverKind::Overlay,
    fs: BlockFs::Ext4,
    programs: &[DOCKERD, CONTAINERD, SETPRIV, UNSHARE],
    start,
};
/// With snapshots of btrfs.
pub(in crate::bench) const DOCKER_BTRFS: Peer = Peer {
    name: "docker/btrfs",
    about: "Docker with its btrfs driver; timed are requests to its daemon",
    storage: "btrfs",
    kernel: DriverKind::Btrfs,
    fs: BlockFs::Btrfs,
    ..DOCKER_OVERLAY2
};
/// With copies.
pub(in crate::bench) const DOCKER_VFS: Peer = Peer {
    name: "docker/vfs",
    about: "Docker with its vfs driver, on ext4; timed are requests to its daemon",
    storage: "vfs",
    kernel: DriverKind::Vfs,
    ..DOCKER_OVERLAY2
};

fn start(storage: &'static str, disk: Directory) -> Result<Box<dyn Stage>> {
    // The path of a socket must be short.
    let state = Directory::new(Path::new(crate::bench::RUN_DIRECTORY), "docker")?;
    let traces = Traces::before();
    let settings = Settings::hide()?;
    let containerd = containerd::serve(&disk, state.path())?;
    let daemon = serve(storage, &disk, state.path())?;
    let api = Api::new(&socket(state.path()))?;
    // Answered once it has begun.
    api.ask(Method::GET, &["version"], &[], None)
        .map_err(|error| Error::with_source(Kind::Unsupported, "Docker does not run here", error))?;
    Ok(Box::new(DockerStage {
        storage,
        api,
        _daemon: daemon,
        _containerd: containerd,
        _settings: settings,
        _traces: traces,
        state,
        disk,
    }))
}

fn socket(state: &Path) -> PathBuf {
    state.join("docker.sock")
}

fn root(disk: &Directory) -> PathBuf {
    disk.path().join("pool/docker")
}

/// Starts its daemon with what it keeps on `disk`.
fn serve(storage: &str, disk: &Directory, state: &Path) -> Result<Daemon> {
    let config = state.join("daemon.json");
    fs::write(&config, "{}").act(|| format!("write {}", config.display()))?;
    let socket = socket(state);
    let arguments = [
        format!("--config-file={}", config.display()),
        format!("--data-root={}", root(disk).display()),
        format!("--exec-root={}", state.join("docker").display()),
        format!("--pidfile={}", state.join("docker.pid").display()),
        format!("--host=unix://{}", socket.display()),
        format!("--containerd={}", containerd::socket(state).display()),
        format!("--storage-driver={storage}"),
        "--group=root".to_owned(),
        "--bridge=none".to_owned(),
        "--iptables=false".to_owned(),
        "--ip6tables=false".to_owned(),
        "--ip-forward=false".to_owned(),
        "--ip-masq=false".to_owned(),
        "--userland-proxy=false".to_owned(),
    ];
    Daemon::start(DOCKERD, &arguments, &disk.path().join("docker.log"), &socket)
}

/// Where Docker keeps its settings and writes a key, whatever it is told.
const SETTINGS: &str = "/etc/docker";

/// An empty directory over that of the machine's, which only this process and its daemons see. Those of several rows lie on each
/// other, and each takes one away.
#[derive(Debug)]
struct Settings(());

impl Settings {
    fn hide() -> Result<Self> {
        let (none, flags) = (None::<&str>, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        mount(none, SETTINGS, Some("tmpfs"), flags, none).act(|| format!("hide {SETTINGS}"))?;
        Ok(Self(()))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if let Err(error) = unmount(Path::new(SETTINGS)) {
            tracing::warn!("{error}");
        }
    }
}

/// The directories that Docker makes outside of those that it is told, from the inside out.
const OUTSIDE: [&str; 2] = ["/run/docker/plugins", "/run/docker"];

/// Those of them that were not there; they go, if nothing is in them.
#[derive(Debug)]
struct Traces(Vec<&'static Path>);

impl Traces {
    fn before() -> Self {
        Self(OUTSIDE.into_iter().map(Path::new).filter(|path| !path.exists()).collect())
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        for path in &self.0 {
            match fs::remove_dir(path) {
                // Another Docker, which began meanwhile, uses it.
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!("remove {}: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}

/// What it asks goes before the daemons, and they before the directories that they use.
#[derive(Debug)]
struct DockerStage {
    storage: &'static str,
    api: Api,
    _daemon: Daemon,
    _containerd: Daemon,
    _settings: Settings,
    _traces: Traces,
    state: Directory,
    disk: Directory,
}

impl DockerStage {
    fn inspect(&self, name: &str) -> Result<Value> {
        self.api.ask(Method::GET, &["containers", name, "json"], &[], None)
    }

    fn target(&self, name: &str) -> PathBuf {
        self.state.path().join(format!("container-{name}"))
    }

    /// Mounts the directories that the daemon tells, as it does itself when a container starts.
    fn mount_overlay(&self, name: &str, told: &Value) -> Result<PathBuf> {
        let target = self.target(name);
        let act = || format!("mount container {name} of Docker");
        let directory = |what: &str| {
            let unknown = || Error::new(Kind::Corrupt, format!("{}: it tells no {what}", act()));
            told["GraphDriver"]["Data"][what].as_str().ok_or_else(unknown)
        };
        let (lower, upper, work) = (directory("LowerDir")?, directory("UpperDir")?, directory("WorkDir")?);
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        fs::create_dir(&target).act(act)?;
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(options.as_str())).act(act)?;
        Ok(target)
    }

    /// The directory that its other drivers keep a container in.
    fn place(&self, told: &Value) -> Result<PathBuf> {
        let root = root(&self.disk);
        let id = told["Id"].as_str().unwrap_or_default();
        let file = root.join("image").join(self.storage).join("layerdb/mounts").join(id).join("mount-id");
        let place = fs::read_to_string(&file).act(|| format!("read {}", file.display()))?;
        let directory = if self.storage == "btrfs" { "btrfs/subvolumes" } else { "vfs/dir" };
        Ok(root.join(directory).join(place.trim()))
    }
}

fn repository(name: &str) -> String {
    format!("bench/{name}")
}

impl Stage for DockerStage {
    fn import(&self, name: &str, tar: &mut (dyn Read + Send)) -> Result<()> {
        let query = [("fromSrc", "-"), ("repo", &repository(name)), ("tag", "latest")];
        self.api.send(&["images", "create"], &query, tar)
    }

    fn pull(&self, _: &str) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "Docker's daemon has no network here"))
    }

    fn write_out(&self) -> Result<()> {
        self.disk.write_out()
    }

    fn build(&self, _: &str, _: &str, _: &Path) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "builds of Docker are not measured"))
    }

    fn create(&self, name: &str, image: &str) -> Result<()> {
        let wanted = json!({"Image": repository(image), "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
        self.api.ask(Method::POST, &["containers", "create"], &[("name", name)], Some(&wanted)).map(drop)
    }

    fn has_mounts(&self) -> Result<()> {
        Err(Error::new(
            Kind::Unsupported,
            "Docker mounts a container when it starts it, and has no request for that alone",
        ))
    }

    fn mount(&self, name: &str) -> Result<PathBuf> {
        let told = self.inspect(name)?;
        if self.storage == "overlay2" { self.mount_overlay(name, &told) } else { self.place(&told) }
    }

    fn unmount(&self, name: &str) -> Result<()> {
        if self.storage == "overlay2" { leave(&self.target(name)) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.api.ask(Method::DELETE, &["containers", name], &[], None).map(drop)
    }

    fn changes(&self, name: &str) -> Result<usize> {
        let told = self.api.ask(Method::GET, &["containers", name, "changes"], &[], None)?;
        Ok(told.as_array().map_or(0, Vec::len))
    }

    fn commit(&self, name: &str, image: &str) -> Result<()> {
        let query = [("container", name), ("repo", &repository(image)), ("tag", "latest")];
        self.api.ask(Method::POST, &["commit"], &query, Some(&json!({}))).map(drop)
    }

    fn remove_image(&self, name: &str) -> Result<()> {
        self.api.ask(Method::DELETE, &["images", &repository(name)], &[], None).map(drop)
    }

    fn used(&self) -> Result<Bytes> {
        self.disk.used()
    }

    fn volume(&self) -> Result<PathBuf> {
        self.disk.volumes()
    }

    fn runner(&self, _: &str, _: &[&str]) -> Result<Command> {
        Err(Error::new(Kind::Unsupported, "runs of Docker are not measured"))
    }
}
