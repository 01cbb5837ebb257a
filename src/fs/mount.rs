//! Mounts as values: a file system is first mounted *detached*, seen by no path and no other process, and vanishes
//! when the value is dropped or the process dies. Only [`Mounted::attach`] gives it a place in the tree.
//!
//! Invariant: work inside the library (unpacking, comparing) uses detached mounts only, so a killed process leaves
//! none behind and no mount can leak into another namespace (the 'device is busy' of earlier drivers).

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    str::FromStr,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags},
    sched::CloneFlags,
};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};

use serde::{Deserialize, Serialize};

use super::{FileSystem, mount_table::MountEntry};
use crate::{
    error::{Act as _, Error, Kind, Result, kind_of},
    sys,
};

/// Whether a mount may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Nothing through this mount changes the volume, not even a journal replay.
    ReadOnly,
    /// Ordinary use.
    ReadWrite,
}

impl Access {
    /// What a mount of a container is told. It never needs to honour device nodes: a runtime gives a container its own
    /// /dev, and on the host an image's /dev/sda must not be a way to the real one.
    pub(super) fn attributes(self) -> MountAttrFlags {
        match self {
            Self::ReadOnly => MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_RDONLY,
            Self::ReadWrite => MountAttrFlags::MOUNT_ATTR_NODEV,
        }
    }
}

/// A file system that lies on a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockFs {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl BlockFs {
    /// The kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl fmt::Display for BlockFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BlockFs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Ext4, Self::Xfs, Self::Btrfs]
            .into_iter()
            .find(|fs| fs.name() == text)
            .ok_or_else(|| Error::new(Kind::Invalid, format!("file system '{text}' is not one of ext4, xfs")))
    }
}

/// Everything needed to mount a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSpec {
    /// A file system on a block device.
    Device {
        /// The device node.
        device: PathBuf,
        /// What is on it.
        fs: BlockFs,
        /// Options of the file system, each `name` or `name=value`.
        options: Vec<String>,
        /// Whether it may write.
        access: Access,
    },
    /// A directory that exists already, seen again.
    Bind {
        /// The directory.
        directory: PathBuf,
        /// Whether it may be written through this mount.
        access: Access,
    },
    /// Directories stacked by overlayfs. Names are relative to `base`, because the option string is limited to a page.
    Overlay {
        /// Where the names start.
        base: PathBuf,
        /// Read-only directories, the nearest first; at least one.
        lowers: Vec<String>,
        /// The writable directory and its work directory; `None` for a read-only stack.
        upper: Option<(String, String)>,
    },
}

/// A detached mount; it ends when this is dropped.
#[derive(Debug)]
pub struct Mounted {
    root: OwnedFd,
}

impl Mounted {
    /// Mounts `spec` where nobody sees it.
    ///
    /// # Errors
    /// The kernel's reason, with its own words from the mount log where it gave some.
    pub fn detached(spec: &MountSpec) -> Result<Self> {
        let root = match spec {
            MountSpec::Device { device, fs, options, access } => {
                let root = mount_device(device, *fs, options, *access)?;
                if *fs == BlockFs::Xfs {
                    give_up_at_once(device)?;
                }
                Ok(root)
            }
            MountSpec::Bind { directory, access } => mount_bind(directory, *access),
            MountSpec::Overlay { base, lowers, upper } => mount_overlay(base, lowers, upper.as_ref()),
        }?;
        Ok(Self { root })
    }

    /// What is mounted at `place`, seen once more where nobody sees it, without what is mounted below.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn again(place: &Path) -> Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let root = open_tree(CWD, place, flags).act(|| format!("take hold of the mount at {}", place.display()))?;
        Ok(Self { root })
    }

    /// The file or directory `path` of the tree at `root`, with what is mounted in it, seen once more where nobody sees it,
    /// for reading only. No link leads out of the tree, and what the path leads to later does not matter.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn part(root: BorrowedFd<'_>, path: &Path) -> Result<Self> {
        let act = || format!("take hold of {}", path.display());
        let inside = Path::new(".").join(path.strip_prefix("/").unwrap_or(path));
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = openat2(root, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT).act(act)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let root = open_tree(&found, c"", flags).act(act)?;
        restrict(&root, Access::ReadOnly.attributes() | MountAttrFlags::MOUNT_ATTR_NOSUID, true).act(act)?;
        Ok(Self { root })
    }

    /// The root file system of the mount namespace of a process, by its pidfd, seen once more where nobody sees it,
    /// without what is mounted below.
    ///
    /// # Errors
    /// `NotFound` if it has ended; the kernel's reason.
    pub fn of_process(process: BorrowedFd<'_>) -> Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let clone = || open_tree(CWD, "/", flags).act(|| "take hold of the root of a container");
        Ok(Self { root: in_namespace_of(process, clone)? })
    }

    /// A mount made elsewhere, by its root.
    pub(super) fn of_root(root: OwnedFd) -> Self {
        Self { root }
    }

    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the file system for [`FileSystem::write_out`].
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn file_system(&self) -> Result<FileSystem> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // The mount's own descriptor only names the root (`O_PATH`).
        let root = rustix::fs::openat(&self.root, c".", flags, Mode::empty());
        root.map(FileSystem::of).act(|| "open the root of a mount")
    }

    /// A path that leads to the root as long as this lives, for code that knows only paths.
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }

    /// Gives it a place: from now on it stays until [`unmount`].
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn attach(self, target: &Path) -> Result<()> {
        move_mount(&self.root, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .act(|| format!("attach mount at {}", target.display()))
    }
}

/// Unmounts what is mounted at `target`.
///
/// # Errors
/// `InUse` if somebody works in it.
pub fn unmount(target: &Path) -> Result<()> {
    nix::mount::umount2(target, MntFlags::UMOUNT_NOFOLLOW).act(|| format!("unmount {}", target.display()))
}

fn mount_device(device: &Path, fs: BlockFs, options: &[String], access: Access) -> Result<OwnedFd> {
    let act = || format!("mount {fs} on {}", device.display());
    let context = fsopen(fs.name(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| match errno {
        rustix::io::Errno::NODEV => Error::new(
            Kind::Unsupported,
            format!("{}: this kernel has no {fs} (CONFIG_{}_FS)", act(), fs.name().to_uppercase()),
        ),
        errno => Error::with_source(Kind::Io, act(), std::io::Error::from(errno)),
    })?;
    let configure = || -> rustix::io::Result<OwnedFd> {
        fsconfig_set_string(context.as_fd(), "source", device)?;
        for option in options {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
                None => fsconfig_set_flag(context.as_fd(), option.as_str())?,
            }
        }
        if access == Access::ReadOnly {
            fsconfig_set_flag(context.as_fd(), "ro")?;
        }
        fsconfig_create(context.as_fd())?;
        let attributes = access.attributes() | MountAttrFlags::MOUNT_ATTR_NOATIME;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    configure().map_err(|errno| {
        let error = std::io::Error::from(errno);
        let log = mount_log(context.as_fd());
        let act = if log.is_empty() { act() } else { format!("{} (the kernel says: {log})", act()) };
        Error::with_source(kind_of(&error), act, error)
    })
}

/// XFS tries a failed write of metadata again for ever, and with it everybody waits who wants the file system, unless it
/// is told not to (Documentation/admin-guide/xfs.rst, "Error handling"; the directory is there while it is mounted). On
/// a full pool it shall shut down instead: what lies below is untouched then, and its log is replayed later.
fn give_up_at_once(device: &Path) -> Result<()> {
    let device = device.canonicalize().act(|| format!("look at {}", device.display()))?;
    let name = device.file_name().unwrap_or_default();
    let errors = Path::new("/sys/fs/xfs").join(name).join("error/metadata");
    ["ENOSPC", "EIO", "default"].into_iter().try_for_each(|errno| {
        let path = errors.join(errno).join("max_retries");
        std::fs::write(&path, "0").act(|| format!("write {}", path.display()))
    })
}

/// What the kernel wrote about a failed mount: one message a read, `ENODATA` at the end (fs/fsopen.c).
fn mount_log(context: BorrowedFd<'_>) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0u8; 1024];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        // Each message starts with its level: "e ", "w " or "i ".
        let text = String::from_utf8_lossy(&buffer[..length]);
        lines.push(text.trim().split_once(' ').map_or("", |(_, message)| message).to_owned());
    }
    lines.join("; ")
}

fn mount_bind(directory: &Path, access: Access) -> Result<OwnedFd> {
    let act = || format!("bind {}", directory.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = open_tree(CWD, directory, flags).act(act)?;
    restrict(&root, access.attributes(), false).act(act)?;
    Ok(root)
}

/// Adds attributes to a cloned mount, and with `below` to those below it, and parts it from the one that it was cloned of.
pub(super) fn restrict(mount: impl AsFd, attributes: MountAttrFlags, below: bool) -> std::io::Result<()> {
    sys::mount::set_attributes_privately(mount, u64::from(attributes.bits()), below)
}

/// Keep an upper directory free of what has a meaning only on its own lower directories or in its own mount: inode
/// numbers, renames recorded as redirects, files whose data stayed below. Kernels differ in their defaults
/// (CONFIG_OVERLAY_FS_*). `volatile` is left out: an unmounted volume must be on disk.
const OVERLAY_OPTIONS: &str = "index=off,xino=off,metacopy=off,redirect_dir=nofollow";

/// overlayfs takes its directories from one option string of at most a page, and, before Linux 6.8, only through
/// mount(2), which needs a place. A thread with its own mount namespace and working directory serves both: names are
/// short because they are relative, and the place vanishes with the thread, while the cloned mount stays.
fn mount_overlay(base: &Path, lowers: &[String], upper: Option<&(String, String)>) -> Result<OwnedFd> {
    let mut options = format!("{OVERLAY_OPTIONS},lowerdir={}", lowers.join(":"));
    if let Some((upper, work)) = upper {
        options.push_str(&format!(",upperdir={upper},workdir={work}"));
    }
    // In the mount table this tells whose mount it is; overlayfs itself takes any text.
    let source = base.join(upper.map(|(upper, _)| upper).or(lowers.first()).map_or("", String::as_str));
    let act = || format!("mount overlay of {} layers in {}", lowers.len(), base.display());
    if options.len() >= 4096 {
        return Err(Error::new(
            Kind::Invalid,
            format!("{}: the directory names take {} bytes and the kernel takes at most 4095", act(), options.len()),
        ));
    }
    let mount = || -> Result<OwnedFd> {
        enter_private_namespace()?;
        nix::unistd::chdir(base).act(|| "enter the directory")?;
        let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        if upper.is_none() {
            flags |= MsFlags::MS_RDONLY;
        }
        nix::mount::mount(Some(&source), base, Some("overlay"), flags, Some(options.as_str()))
            .act(|| "mount overlay")?;
        open_tree(CWD, base, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
            .act(|| "take hold of the mount")
    };
    aside(mount).act(act)
}

/// In a thread of its own, which ends with the namespaces that it enters.
pub(super) fn aside<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(act).join())
        .unwrap_or_else(|_| Err(Error::new(Kind::Io, "the mounting thread panicked")))
}

/// From now on this thread's mounts are seen by nobody else, and its root and working directory are its own.
///
/// # Errors
/// The kernel's reason.
pub fn enter_private_namespace() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).act(|| "make a private mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).act(|| "make mounts private")
}

/// Takes `mounts`, told from the outermost on, out of this thread's mount namespace, which is its own.
///
/// # Errors
/// The kernel's reason.
pub fn leave_out(mounts: Vec<MountEntry>) -> Result<()> {
    for mount in mounts.into_iter().rev() {
        match nix::mount::umount2(&mount.target, MntFlags::MNT_DETACH) {
            // Unmounted by its owner just before the namespace was copied.
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(errno) => return Err(errno).act(|| format!("leave out mount {}", mount.target.display())),
        }
    }
    Ok(())
}

/// Does `act` at the root of the mount namespace of a process, by its pidfd. That is the namespace's own root, whatever
/// directory the process has made its root since (setns(2)), and no number is taken for another process's.
fn in_namespace_of<T: Send>(process: BorrowedFd<'_>, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    aside(|| {
        // A thread that shares its root with others cannot change it.
        nix::sched::unshare(CloneFlags::CLONE_FS).act(|| "leave the shared root")?;
        nix::sched::setns(process, CloneFlags::CLONE_NEWNS).act(|| "enter the container's mount namespace")?;
        act()
    })
}

/// The root directory of the mount namespace of a process, by its pidfd, with all that is mounted in it.
///
/// # Errors
/// `NotFound` if it has ended; the kernel's reason.
pub fn root_of_process(process: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    in_namespace_of(process, || rustix::fs::open("/", flags, Mode::empty()).act(|| "open the root of a container"))
}
