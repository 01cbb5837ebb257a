//! What an OCI runtime is told: `config.json` (OCI runtime-spec).

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use oci_spec::{
    OciSpecError,
    runtime::{
        Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceType, MountBuilder, ProcessBuilder,
        RootBuilder, Spec, SpecBuilder, UserBuilder, get_default_maskedpaths, get_default_mounts,
        get_default_namespaces, get_default_readonly_paths,
    },
};

use super::user::Identity;
use crate::error::{Error, Kind, Result};

/// Which network a command sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// That of the host.
    #[default]
    Host,
    /// Only a loopback device.
    None,
}

/// Something that a command sees besides its root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where, an absolute path inside.
    pub target: String,
    /// `bind` or `tmpfs`.
    pub kind: &'static str,
    /// What is bound there.
    pub source: PathBuf,
    /// Mount options.
    pub options: Vec<String>,
}

/// A command and what surrounds it.
#[derive(Clone, Debug, Default)]
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
}

/// What Docker grants by default (moby, oci/caps/defaults.go), but for `CAP_MKNOD`: without cgroups nothing else would
/// keep a command from making a node of the host's disk and writing to it.
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

/// The path that programs are looked for in when an image does not say (moby, oci/defaults.go).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn spec(command: &Command, identity: &Identity, rootfs: &Path) -> Result<Spec> {
    build(command, identity, rootfs)
        .map_err(|error| Error::with_source(Kind::Invalid, "describe the container to the OCI runtime", error))
}

fn build(command: &Command, identity: &Identity, rootfs: &Path) -> std::result::Result<Spec, OciSpecError> {
    let mut env = command.env.clone();
    let has = |env: &[String], name: &str| env.iter().any(|pair| pair.starts_with(name));
    if !has(&env, "PATH=") {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    if !has(&env, "HOME=") {
        env.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
    }
    let user = UserBuilder::default().uid(identity.uid).gid(identity.gid);
    let process = ProcessBuilder::default()
        .args(command.args.clone())
        .env(env)
        .cwd(if command.cwd.is_empty() { "/" } else { &command.cwd })
        .user(user.additional_gids(identity.groups.clone()).build()?)
        .capabilities(capabilities(identity.uid == 0)?)
        .no_new_privileges(false)
        .build()?;
    let namespaces = get_default_namespaces()
        .into_iter()
        .filter(|namespace| command.network == Network::None || namespace.typ() != LinuxNamespaceType::Network)
        .collect::<Vec<_>>();
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(get_default_maskedpaths())
        .readonly_paths(get_default_readonly_paths())
        .build()?;
    let mut mounts = get_default_mounts();
    // cgroups of a command that is gone in a moment are nobody's concern, and not every host has a hierarchy to show.
    mounts.retain(|mount| mount.destination() != Path::new("/sys/fs/cgroup"));
    for mount in &command.mounts {
        let built = MountBuilder::default()
            .destination(&mount.target)
            .typ(mount.kind)
            .source(&mount.source)
            .options(mount.options.clone())
            .build()?;
        mounts.push(built);
    }
    SpecBuilder::default()
        .root(RootBuilder::default().path(rootfs).readonly(false).build()?)
        .hostname("lamina")
        .process(process)
        .linux(linux)
        .mounts(mounts)
        .build()
}

/// Root gets them; another user gets what the bounds leave when it runs a setuid program.
fn capabilities(root: bool) -> std::result::Result<oci_spec::runtime::LinuxCapabilities, OciSpecError> {
    let all: HashSet<Capability> = CAPABILITIES.into_iter().collect();
    let own = if root { all.clone() } else { HashSet::new() };
    let builder = LinuxCapabilitiesBuilder::default().bounding(all).effective(own.clone()).permitted(own);
    builder.inheritable(HashSet::new()).ambient(HashSet::new()).build()
}
