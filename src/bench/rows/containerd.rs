//! containerd, as the distribution packages it: a daemon of the row's own, with its snapshots on a disk like the others'.
//!
//! What is timed is its command, `ctr`. A container is its entry and a snapshot; the diff is a tar, and a commit makes a
//! layer of the snapshot, not an image, which it leaves to others.

use std::{
    cell::RefCell,
    collections::HashSet,
    fs::{self, File},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Stage, leave, peer::Peer};
use crate::{
    bench::{
        command::{other, output, succeed},
        daemon::Daemon,
        ground::Directory,
        tree,
    },
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    fs::BlockFs,
    program::{CONTAINERD, CTR, MOUNT, SETPRIV, UNSHARE},
    units::Bytes,
};

/// With overlayfs.
pub(in crate::bench) const CONTAINERD_OVERLAYFS: Peer = Peer {
    name: "containerd/overlayfs",
    about: "containerd with its overlayfs snapshotter, on ext4; timed is the ctr command, a commit is a layer, and used is its content store, too",
    storage: "overlayfs",
    kernel: DriverKind::Overlay,
    fs: BlockFs::Ext4,
    programs: &[CONTAINERD, CTR, SETPRIV, UNSHARE],
    start,
};
/// With snapshots of btrfs.
pub(in crate::bench) const CONTAINERD_BTRFS: Peer = Peer {
    name: "containerd/btrfs",
    about: "containerd with its btrfs snapshotter; timed is the ctr command, a commit is a layer, and used is its content store, too",
    storage: "btrfs",
    kernel: DriverKind::Btrfs,
    fs: BlockFs::Btrfs,
    ..CONTAINERD_OVERLAYFS
};
/// With copies.
pub(in crate::bench) const CONTAINERD_NATIVE: Peer = Peer {
    name: "containerd/native",
    about: "containerd with its native snapshotter, which copies, on ext4; timed is the ctr command, a commit is a layer, and used is its content store, too",
    storage: "native",
    kernel: DriverKind::Vfs,
    ..CONTAINERD_OVERLAYFS
};

fn start(snapshotter: &'static str, disk: Directory) -> Result<Box<dyn Stage>> {
    // The path of a socket must be short.
    let state = Directory::new(Path::new(crate::bench::RUN_DIRECTORY), "containerd")?;
    let daemon = serve(&disk, state.path())?;
    let stage = ContainerdStage { snapshotter, committed: RefCell::default(), _daemon: daemon, state, disk };
    // It listens before it answers.
    succeed(stage.ctr(&["version"])?)
        .map_err(|error| Error::with_source(Kind::Unsupported, "containerd does not run here", error))?;
    Ok(Box::new(stage))
}

/// Where it listens that keeps its state in the directory `state`.
pub(super) fn socket(state: &Path) -> PathBuf {
    state.join("containerd.sock")
}

/// What it does for others than us, and outside of the directories that it is told.
const WITHOUT: [&str; 6] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];

/// Starts its daemon with what it keeps on `disk`.
pub(super) fn serve(disk: &Directory, state: &Path) -> Result<Daemon> {
    let (config, socket) = (state.join("containerd.toml"), socket(state));
    let text = format!(
        "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = {WITHOUT:?}\n[grpc]\naddress = '{}'\n",
        disk.path().join("pool/containerd").display(),
        state.join("containerd").display(),
        socket.display(),
    );
    fs::write(&config, text).act(|| format!("write {}", config.display()))?;
    let arguments = ["--config".to_owned(), config.display().to_string()];
    Daemon::start(CONTAINERD, &arguments, &disk.path().join("containerd.log"), &socket)
}

/// The daemon goes before the directories that it uses.
#[derive(Debug)]
struct ContainerdStage {
    snapshotter: &'static str,
    /// Layers that are no images.
    committed: RefCell<HashSet<String>>,
    _daemon: Daemon,
    state: Directory,
    disk: Directory,
}

impl ContainerdStage {
    fn ctr(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = other::<&str>(CTR, &[])?;
        command.arg("--address").arg(socket(self.state.path())).args(["--namespace", "bench"]).args(arguments);
        Ok(command)
    }

    fn snapshots(&self, arguments: &[&str]) -> Result<Command> {
        self.ctr(&[&["snapshots", "--snapshotter", self.snapshotter], arguments].concat())
    }

    fn target(&self, name: &str) -> PathBuf {
        self.state.path().join(format!("container-{name}"))
    }
}

fn reference(name: &str) -> String {
    format!("localhost/bench/{name}:latest")
}

/// An image as `docker save` makes it, of one layer: the layer's digest is in what comes before it.
fn pack(name: &str, layer: &mut File, archive: &Path) -> io::Result<()> {
    let mut hash = Sha256::new();
    let size = io::copy(layer, &mut hash)?;
    layer.seek(SeekFrom::Start(0))?;
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": oci_spec::image::Arch::default(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [reference(name)], "Layers": ["layer.tar"]}]);
    let mut tar = tar::Builder::new(File::create_new(archive)?);
    for (path, text) in [("manifest.json", manifest.to_string()), ("config.json", config.to_string())] {
        tree::add_file(&mut tar, Path::new(path), text.len() as u64, text.as_bytes())?;
    }
    tree::add_file(&mut tar, Path::new("layer.tar"), size, layer)?;
    tar.into_inner()?.flush()
}

impl Stage for ContainerdStage {
    /// It knows images only, which are made outside of its disk.
    fn import(&self, name: &str, tar: &mut (dyn Read + Send)) -> Result<()> {
        let act = || format!("make an image of {name}");
        let (layer, archive) = (self.disk.path().join("layer.tar"), self.disk.path().join("image.tar"));
        let mut file = File::options().read(true).write(true).create_new(true).open(&layer).act(act)?;
        io::copy(tar, &mut file).and_then(|_| file.seek(SeekFrom::Start(0))).act(act)?;
        pack(name, &mut file, &archive).act(act)?;
        fs::remove_file(&layer).act(act)?;
        let words = ["images", "import", "--snapshotter", self.snapshotter, &archive.to_string_lossy()];
        succeed(self.ctr(&words)?)?;
        fs::remove_file(&archive).act(act)
    }

    fn import_file(&self, _: &str, _: &Path) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "containerd imports images, and no root file systems"))
    }

    fn pull(&self, reference: &str) -> Result<()> {
        succeed(self.ctr(&["images", "pull", "--plain-http", "--snapshotter", self.snapshotter, reference])?)
    }

    fn remove_pulled(&self, reference: &str) -> Result<()> {
        succeed(self.ctr(&["images", "rm", "--sync", reference])?)
    }

    fn write_out(&self) -> Result<()> {
        self.disk.write_out()
    }

    fn build(&self, _: &str, _: &str, _: &Path) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "containerd builds no images"))
    }

    fn create(&self, name: &str, image: &str) -> Result<()> {
        let words = ["containers", "create", "--snapshotter", self.snapshotter, &reference(image), name, "/bin/true"];
        succeed(self.ctr(&words)?)
    }

    /// It tells what is to be mounted, as a command.
    fn mount(&self, name: &str) -> Result<PathBuf> {
        let target = self.target(name);
        fs::create_dir(&target).act(|| format!("make {}", target.display()))?;
        let told = output(self.snapshots(&["mounts", &target.to_string_lossy(), name])?)?;
        let words: Vec<&str> = told.split_whitespace().skip(1).collect();
        succeed(other(MOUNT, &words)?)?;
        Ok(target)
    }

    fn unmount(&self, name: &str) -> Result<()> {
        leave(&self.target(name))
    }

    fn remove(&self, name: &str) -> Result<()> {
        succeed(self.ctr(&["containers", "rm", name])?)
    }

    fn changes(&self, name: &str) -> Result<usize> {
        let act = || format!("read ctr's diff of {name}");
        let mut command = self.snapshots(&["diff", "--media-type", "application/vnd.oci.image.layer.v1.tar", name])?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().act(act)?;
        let told = child.stdout.take().map_or(Ok(0), |diff| {
            let mut tar = tar::Archive::new(diff);
            let entries = tar.entries()?.try_fold(0, |number, entry| entry.map(|_| number + 1))?;
            // What fills its last block.
            io::copy(&mut tar.into_inner(), &mut io::sink())?;
            Ok::<usize, io::Error>(entries)
        });
        let output = child.wait_with_output().act(act)?;
        if output.status.success() {
            return told.act(act);
        }
        Err(Error::new(Kind::Io, format!("{}: {}", act(), String::from_utf8_lossy(&output.stderr).trim())))
    }

    fn commit(&self, name: &str, image: &str) -> Result<()> {
        succeed(self.snapshots(&["commit", image, name])?)?;
        self.committed.borrow_mut().insert(image.to_owned());
        Ok(())
    }

    fn remove_image(&self, name: &str) -> Result<()> {
        if self.committed.borrow_mut().remove(name) {
            return succeed(self.snapshots(&["rm", name])?);
        }
        succeed(self.ctr(&["images", "rm", "--sync", &reference(name)])?)
    }

    fn used(&self) -> Result<Bytes> {
        self.disk.used()
    }

    fn volume(&self) -> Result<PathBuf> {
        self.disk.volumes()
    }

    fn runner(&self, _: &str, _: &[&str]) -> Result<Command> {
        Err(Error::new(Kind::Unsupported, "runs of containerd are not measured"))
    }
}
