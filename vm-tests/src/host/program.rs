//! Programs of the host: found once, and when missing, named with the Debian package that has them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Each program this harness may call, and its package.
const PACKAGES: &[(&str, &str)] = &[
    ("apt-cache", "apt"),
    ("apt-get", "apt"),
    ("busybox", "busybox-static"),
    ("dpkg-deb", "dpkg"),
    ("mkfs.ext4", "e2fsprogs"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("stty", "coreutils"),
    ("xz", "xz-utils"),
];

/// The search path: the user's, and the administrator's directories that a user's may lack.
pub(crate) fn search_path() -> String {
    let user = env::var("PATH").unwrap_or_default();
    format!("{user}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

/// The absolute path of a program.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let path = search_path();
    let mut candidates = path.split(':').filter(|dir| !dir.is_empty()).map(|dir| Path::new(dir).join(name));
    if let Some(found) = candidates.find(|candidate| candidate.is_file()) {
        return Ok(found);
    }
    let package = PACKAGES.iter().find(|(program, _)| *program == name).map_or(name, |(_, package)| package);
    bail!("find program '{name}': it is not installed; run 'apt-get install {package}'")
}

/// Runs a command to its end; its standard output, or an error with what it said.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let said = command.output().with_context(|| format!("start {command:?}"))?;
    if !said.status.success() {
        bail!("run {command:?}: {}: {}", said.status, String::from_utf8_lossy(&said.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
