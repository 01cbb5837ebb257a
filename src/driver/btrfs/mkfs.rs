//! Runs `mkfs.btrfs`, found once, with what it says in the error.

use std::{io, path::Path, process::Command};

use super::superblock::dashed;
use crate::error::{Error, Kind, Result, kind_of};

const PROGRAM: &str = "mkfs.btrfs";

/// Makes an empty btrfs with `uuid` on the blank `device`.
///
/// # Errors
/// `MissingProgram` without the program; else what it said.
pub(super) fn mkfs(device: &Path, uuid: [u8; 16]) -> Result<()> {
    // One copy of the metadata: the pool is one file on a disk that has its own redundancy or none, and the second
    // copy would double what each snapshot and each small write costs. The kernel reads nothing on a device it is
    // told to mount, so no scan is needed afterwards.
    let output = command()
        .args(["--quiet", "--metadata", "single", "--data", "single", "--label", "lamina", "--uuid", &dashed(uuid)])
        .arg(device)
        .output()
        .map_err(missing)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    Err(Error::new(Kind::Io, format!("{PROGRAM} on {}: {}: {said}", device.display(), output.status)))
}

/// Whether the program is there.
///
/// # Errors
/// `MissingProgram`.
pub(super) fn present() -> Result<()> {
    command().arg("--version").output().map_err(missing).map(drop)
}

fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    // root's PATH may lack the directory where Debian has it.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    command
}

fn missing(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::new(
            Kind::MissingProgram,
            format!("{PROGRAM} is not installed; it comes with the package btrfs-progs"),
        ),
        _ => Error::with_source(kind_of(&error), format!("run {PROGRAM}"), error),
    }
}
