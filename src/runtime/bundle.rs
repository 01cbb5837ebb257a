//! What an OCI runtime is told: `config.json` (OCI runtime-spec).

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use oci_spec::{
    OciSpecError,
    runtime::{
        Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceType, MountBuilder, Process, ProcessBuilder,
        RootBuilder, Spec, SpecBuilder, UserBuilder, get_default_mounts, get_default_namespaces,
    },
};
use serde::{Deserialize, Serialize};

use super::{cgroup, limits::Limits, seccomp, user::Identity};
use crate::error::{Error, Kind, Result};

/// Which network a command sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// That of the host.
    #[default]
    Host,
    /// Only a loopback device.
    None,
}

/// What a mount shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind,
    /// Memory.
    Tmpfs,
}

impl MountKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// Something that a command sees besides its root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, an absolute path inside.
    pub target: String,
    /// What.
    pub kind: MountKind,
    /// What is bound there.
    pub source: PathBuf,
    /// Mount options.
    pub options: Vec<String>,
}

impl Mount {
    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// A command and what surrounds it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Where it starts; absolute.
    pub cwd: String,
    /// `user[:group]`, as the image knows them.
    pub user: String,
    /// Its network.
    pub network: Network,
    /// What it sees besides.
    pub mounts: Vec<Mount>,
    /// The host's name inside; empty for `lamina`.
    pub hostname: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// Its cgroup and what that allows; none for a command that runs without one.
    pub limits: Option<Limits>,
}

/// What Docker grants by default (moby, oci/caps/defaults.go), but for `CAP_MKNOD`, which only a command with a cgroup
/// gets: nothing else would keep it from making a node of the host's disk and writing to it.
const CAPABILITIES: [Capability; 13] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// What of /proc and /sys tells of the host, or changes it, and is not seen inside (moby, oci/defaults.go).
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What of /proc is seen and not written (moby, oci/defaults.go).
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The path that programs are looked for in when an image does not say (moby, oci/defaults.go).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The annotation with a compiled filter of system calls in base64, which crun takes instead of the profile (crun(1)).
pub(super) const FILTER: &str = "run.oci.seccomp_bpf_data";

pub(super) fn spec(command: &Command, identity: &Identity, rootfs: &Path) -> Result<Spec> {
    build(command, identity, rootfs)
        .map_err(|error| Error::with_source(Kind::Invalid, "describe the container to the OCI runtime", error))
}

fn build(command: &Command, identity: &Identity, rootfs: &Path) -> std::result::Result<Spec, OciSpecError> {
    let mut namespaces = get_default_namespaces();
    namespaces.retain(|namespace| command.network == Network::None || namespace.typ() != LinuxNamespaceType::Network);
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(MASKED.map(str::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
        .seccomp(seccomp::profile()?);
    if command.network == Network::None {
        linux = linux.sysctl(sysctls());
    }
    if let Some(limits) = &command.limits {
        linux = linux.cgroups_path(cgroup::path(&limits.cgroup)).resources(limits.resources()?);
    }
    SpecBuilder::default()
        .root(RootBuilder::default().path(rootfs).readonly(command.read_only).build()?)
        .hostname(if command.hostname.is_empty() { "lamina" } else { &command.hostname })
        .process(process(command, identity, command.limits.is_some())?)
        .linux(linux.build()?)
        .mounts(mounts(command)?)
        .build()
}

/// In a network of its own everybody may listen at low ports and ping, as in Docker's; as far as the kernel has it.
fn sysctls() -> HashMap<String, String> {
    let mut sysctls = HashMap::new();
    for (name, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
        if Path::new("/proc/sys/net/ipv4").join(name).exists() {
            sysctls.insert(format!("net.ipv4.{name}"), value.to_owned());
        }
    }
    sysctls
}

fn mounts(command: &Command) -> std::result::Result<Vec<oci_spec::runtime::Mount>, OciSpecError> {
    let mut mounts = get_default_mounts();
    // What the crate has no options for.
    for proc in mounts.iter_mut().filter(|mount| mount.destination() == Path::new("/proc")) {
        proc.set_options(Some(["nosuid", "noexec", "nodev"].map(str::to_owned).to_vec()));
    }
    // cgroups of a command that is gone in a moment are nobody's concern, and not every host has a hierarchy to show.
    mounts.retain(|mount| command.limits.is_some() || mount.destination() != Path::new("/sys/fs/cgroup"));
    mounts.retain(|mount| command.mounts.iter().all(|own| Path::new(&own.target) != mount.destination()));
    for mount in &command.mounts {
        let built = MountBuilder::default()
            .destination(&mount.target)
            .typ(mount.kind.name())
            .source(&mount.source)
            .options(mount.options.clone())
            .build()?;
        mounts.push(built);
    }
    Ok(mounts)
}

/// The process alone, as it is also told for one more in a container that runs; `has_cgroup` if something keeps it from
/// the host's devices.
pub(super) fn process(
    command: &Command,
    identity: &Identity,
    has_cgroup: bool,
) -> std::result::Result<Process, OciSpecError> {
    let mut env = command.env.clone();
    let has = |env: &[String], name: &str| env.iter().any(|pair| pair.starts_with(name));
    if !has(&env, "PATH=") {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    if !has(&env, "HOME=") {
        env.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
    }
    // Docker's rule: without the primary group among them, a process could drop it and with it what a file refuses it.
    let more = identity.groups.iter().copied().filter(|group| *group != identity.gid);
    let groups: Vec<u32> = std::iter::once(identity.gid).chain(more).collect();
    let user = UserBuilder::default().uid(identity.uid).gid(identity.gid);
    ProcessBuilder::default()
        .args(command.args.clone())
        .env(env)
        .cwd(if command.cwd.is_empty() { "/" } else { &command.cwd })
        .terminal(command.terminal)
        .user(user.additional_gids(groups).build()?)
        .capabilities(capabilities(identity.uid == 0, has_cgroup)?)
        // The caller's: what the builder has by itself is a hard limit of 1024 open files.
        .rlimits(Vec::new())
        .no_new_privileges(false)
        .build()
}

/// Root gets them; another user gets what the bounds leave when it runs a setuid program.
fn capabilities(
    root: bool,
    has_cgroup: bool,
) -> std::result::Result<oci_spec::runtime::LinuxCapabilities, OciSpecError> {
    let more = has_cgroup.then_some(Capability::Mknod);
    let all: HashSet<Capability> = CAPABILITIES.into_iter().chain(more).collect();
    let own = if root { all.clone() } else { HashSet::new() };
    let builder = LinuxCapabilitiesBuilder::default().bounding(all).effective(own.clone()).permitted(own);
    builder.inheritable(HashSet::new()).ambient(HashSet::new()).build()
}
