//! Helper programs of their own trade (mkfs, checkers): found once, run with their output kept for the error.
//!
//! Invariant: a missing program is an error that names Debian's package; a failing one is an error with what it said.

use std::{
    env,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::error::{Act as _, Error, Kind, Result};

/// Debian's packages of the programs that we run.
const PACKAGES: [(&str, &str); 7] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("thin_check", "thin-provisioning-tools"),
    ("thin_repair", "thin-provisioning-tools"),
    ("thin_dump", "thin-provisioning-tools"),
];

/// The package that brings `program`.
pub fn package(program: &str) -> &str {
    PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package)
}

/// A command that will run `program`, found in PATH or where system programs lie when PATH leaves those out.
///
/// # Errors
/// `MissingProgram` with the package.
pub fn command(program: &str) -> Result<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let found =
        env::split_paths(&path).chain(system).map(|directory| directory.join(program)).find(|file| file.is_file());
    let Some(found) = found else {
        let package = package(program);
        return Err(Error::new(
            Kind::MissingProgram,
            format!("{program} is not installed; install it with 'apt-get install {package}'"),
        ));
    };
    let mut command = Command::new(found);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Runs the command to its end.
///
/// # Errors
/// `Io` with what it said if it fails.
pub fn run(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().act(|| format!("run {name}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    Err(Error::new(Kind::Io, format!("{name} failed ({}): {}", output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use super::{command, run};
    use crate::error::Kind;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = command("mkfs.does-not-exist").unwrap_err();
        assert_eq!(error.kind(), Kind::MissingProgram);
        assert!(error.to_string().contains("apt-get install"), "{error}");
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let error = run(command("ls").unwrap().arg("/does/not/exist")).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist"), "{error}");
    }
}
