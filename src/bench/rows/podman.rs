//! podman, as the distribution packages it, with its storage on a disk like the others'.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Stage, peer::Peer};
use crate::{
    bench::{
        command::{other, output, succeed},
        ground::Directory,
    },
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    fs::BlockFs,
    program::{PODMAN, PRLIMIT, Program},
    units::Bytes,
};

/// With overlayfs.
pub(in crate::bench) const PODMAN_OVERLAY: Peer = Peer {
    name: "podman/overlay",
    about: "podman with its overlay driver, on ext4",
    storage: "overlay",
    kernel: DriverKind::Overlay,
    fs: BlockFs::Ext4,
    programs: &[PODMAN, PRLIMIT],
    start,
};
/// With copies.
pub(in crate::bench) const PODMAN_VFS: Peer = Peer {
    name: "podman/vfs",
    about: "podman with its vfs driver, on ext4",
    storage: "vfs",
    kernel: DriverKind::Vfs,
    ..PODMAN_OVERLAY
};

fn start(storage: &'static str, disk: Directory) -> Result<Box<dyn Stage>> {
    // It refuses a longer path there.
    let state = Directory::new(Path::new(crate::bench::RUN_DIRECTORY), "podman")?;
    let stage = PodmanStage { storage, state, disk };
    // Makes its database and directories, too.
    succeed(stage.command(&["info"])?)
        .map_err(|error| Error::with_source(Kind::Unsupported, "podman does not run here", error))?;
    Ok(Box::new(stage))
}

#[derive(Debug)]
struct PodmanStage {
    storage: &'static str,
    disk: Directory,
    state: Directory,
}

impl PodmanStage {
    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let (root, state) = (self.disk.path().join("pool/root"), self.state.path());
        // It wants to raise the limit otherwise, which not everybody may.
        let Program { name, .. } = PODMAN;
        let mut command = other(PRLIMIT, &["--nofile=1024:1024", name])?;
        command.arg("--root").arg(root).arg("--runroot").arg(state);
        command.arg("--storage-driver").arg(self.storage).arg("--cgroup-manager=cgroupfs");
        // What the machine's storage.conf says is about other drivers' options.
        command.env("STORAGE_OPTS", "").args(arguments);
        Ok(command)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        output(self.command(arguments)?)
    }
}

fn reference(name: &str) -> String {
    format!("localhost/bench/{name}:latest")
}

impl Stage for PodmanStage {
    fn import(&self, name: &str, tar: &mut (dyn Read + Send)) -> Result<()> {
        let act = || format!("podman import of {name}");
        let mut command = self.command(&["import", "--quiet", "-", &reference(name)])?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().act(act)?;
        let sent = child.stdin.take().map_or(Ok(0), |mut to| io::copy(tar, &mut to));
        let output = child.wait_with_output().act(act)?;
        if output.status.success() {
            return sent.map(drop).act(act);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(Kind::Io, format!("{}: {}", act(), said.trim())))
    }

    fn pull(&self, reference: &str) -> Result<()> {
        self.run(&["pull", "--quiet", "--tls-verify=false", reference]).map(drop)
    }

    fn remove_pulled(&self, reference: &str) -> Result<()> {
        self.run(&["rmi", reference]).map(drop)
    }

    fn write_out(&self) -> Result<()> {
        self.disk.write_out()
    }

    fn build(&self, _: &str, _: &str, _: &Path) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "builds of podman are not measured"))
    }

    fn create(&self, name: &str, image: &str) -> Result<()> {
        self.run(&["create", "--network=none", "--name", name, &reference(image), "true"]).map(drop)
    }

    fn mount(&self, name: &str) -> Result<PathBuf> {
        self.run(&["mount", name]).map(|said| PathBuf::from(said.trim()))
    }

    fn unmount(&self, name: &str) -> Result<()> {
        self.run(&["unmount", name]).map(drop)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.run(&["rm", name]).map(drop)
    }

    fn changes(&self, name: &str) -> Result<usize> {
        self.run(&["diff", name]).map(|said| said.lines().count())
    }

    fn commit(&self, name: &str, image: &str) -> Result<()> {
        self.run(&["commit", "--quiet", name, &reference(image)]).map(drop)
    }

    fn remove_image(&self, name: &str) -> Result<()> {
        self.run(&["rmi", &reference(name)]).map(drop)
    }

    fn used(&self) -> Result<Bytes> {
        self.disk.used()
    }

    fn volume(&self) -> Result<PathBuf> {
        self.disk.volumes()
    }

    /// A run leaves a process behind that cleans up, and mounts its storage for that, some time after.
    fn runner(&self, _: &str, _: &[&str]) -> Result<Command> {
        Err(Error::new(Kind::Unsupported, "runs of podman are not measured"))
    }
}
