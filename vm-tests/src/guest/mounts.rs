//! The guest's file systems: the host's root stays as it is, everything that changes at run time is fresh.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::layout::{FRESH, SCRATCH, SCRATCH_DEVICE};
use crate::protocol::Setup;

/// Where the overlay's root stays visible while a tmpfs lies over parts of it.
const PLAIN_ROOT: &str = "/mnt";

/// Source and type, target, flags and options of each mount, in order. `/proc`, `/sys` and `/dev` came with init.
const MOUNTS: &[(&str, &str, MsFlags, &str)] = &[
    ("devpts", "/dev/pts", MsFlags::MS_NOSUID, "mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", MsFlags::MS_NOSUID, "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", MsFlags::MS_NOSUID, ""),
];

/// Makes the guest ready for its first program.
pub(super) fn prepare(setup: &Setup) -> Result<()> {
    nix::unistd::sethostname("lamina-vm").context("set the host name")?;
    // What the host keeps in /mnt is of no use here; a recursive bind is not wanted: /proc and /dev lie over it.
    attach(Some(Path::new("/")), Path::new(PLAIN_ROOT), None, MsFlags::MS_BIND, "")?;
    for (kind, target, flags, options) in MOUNTS {
        fresh(kind, target, *flags, options)?;
    }
    for target in FRESH {
        fresh("tmpfs", target, MsFlags::MS_NOSUID, if *target == "/run" { "mode=755" } else { "mode=1777" })?;
    }
    for kept in &setup.keep {
        let behind = Path::new(PLAIN_ROOT).join(kept.strip_prefix("/").unwrap_or(kept));
        bind(&behind, kept)?;
    }
    fs::create_dir_all("/run/lock").context("create /run/lock")?;
    bind(&setup.modules, Path::new("/lib/modules"))?;
    fs::write("/proc/sys/kernel/modprobe", setup.modprobe.as_os_str().as_encoded_bytes()).context("set modprobe")?;
    fs::create_dir_all(SCRATCH).with_context(|| format!("create {SCRATCH}"))?;
    // The host formatted it a moment ago without inode tables; filling them in would disturb measurements.
    let flags = MsFlags::MS_NOATIME;
    attach(Some(Path::new(SCRATCH_DEVICE)), Path::new(SCRATCH), Some("ext4"), flags, "noinit_itable,discard")
}

/// Mounts a file system that has no device.
fn fresh(kind: &str, target: &str, flags: MsFlags, options: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("create {target}"))?;
    attach(Some(Path::new(kind)), Path::new(target), Some(kind), flags, options)
}

/// Shows a directory a second time.
fn bind(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    attach(Some(from), to, None, MsFlags::MS_BIND, "")
}

/// One mount call whose error says what was mounted where.
fn attach(from: Option<&Path>, to: &Path, kind: Option<&str>, flags: MsFlags, options: &str) -> Result<()> {
    mount(from, to, kind, flags, Some(options)).with_context(|| {
        let from = from.unwrap_or(Path::new("none"));
        format!("mount {} ({}) on {}", from.display(), kind.unwrap_or("bind"), to.display())
    })
}
