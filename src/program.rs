//! Helper programs of their own trade (mkfs, checkers): found once, run with what they say kept for the error.
//!
//! Invariant: a missing program is an error that names Debian's package; a failing one is an error with its own words.

use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::error::{Act as _, Error, Kind, Result};

/// A program and the Debian package that it comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it is called.
    pub name: &'static str,
    /// The package.
    pub package: &'static str,
    /// The option that makes it tell its version.
    version: &'static str,
}

/// Makes ext4.
pub const MKFS_EXT4: Program = Program { name: "mkfs.ext4", package: "e2fsprogs", version: "-V" };
/// Checks and mends ext4.
pub const E2FSCK: Program = Program { name: "e2fsck", package: "e2fsprogs", version: "-V" };
/// Makes ext4 smaller.
pub const RESIZE2FS: Program = Program { name: "resize2fs", package: "e2fsprogs", version: "-h" };
/// Makes XFS.
pub const MKFS_XFS: Program = Program { name: "mkfs.xfs", package: "xfsprogs", version: "-V" };
/// Makes btrfs.
pub const MKFS_BTRFS: Program = Program { name: "mkfs.btrfs", package: "btrfs-progs", version: "--version" };
/// Checks a thin-pool's metadata.
pub const THIN_CHECK: Program =
    Program { name: "thin_check", package: "thin-provisioning-tools", version: "--version" };
/// Rebuilds a thin-pool's damaged metadata.
pub const THIN_REPAIR: Program =
    Program { name: "thin_repair", package: "thin-provisioning-tools", version: "--version" };
/// Runs containers (OCI runtime-spec); the faster of the two.
pub const CRUN: Program = Program { name: "crun", package: "crun", version: "--version" };
/// Runs containers (OCI runtime-spec).
pub const RUNC: Program = Program { name: "runc", package: "runc", version: "--version" };
/// Holds the output and the end of a container that runs by itself.
pub const CONMON: Program = Program { name: "conmon", package: "conmon", version: "--version" };
/// Lets a process end with its parent.
pub const SETPRIV: Program = Program { name: "setpriv", package: "util-linux", version: "--version" };
/// Puts a process into namespaces that end with it.
pub const UNSHARE: Program = Program { name: "unshare", package: "util-linux", version: "--version" };
/// Unpacks archives, for the benchmark to compare with.
pub const TAR: Program = Program { name: "tar", package: "tar", version: "--version" };

/// Serves images over HTTP, for the benchmark to pull from.
pub const DOCKER_REGISTRY: Program =
    Program { name: "docker-registry", package: "docker-registry", version: "--version" };
/// Copies images, for the benchmark to compare with.
pub const SKOPEO: Program = Program { name: "skopeo", package: "skopeo", version: "--version" };
/// Unpacks images, for the benchmark to compare with.
pub const UMOCI: Program = Program { name: "umoci", package: "umoci", version: "--version" };
/// Pulls images into overlay directories, for the benchmark to compare with.
pub const PODMAN: Program = Program { name: "podman", package: "podman", version: "--version" };
/// Tells what memory a command took (GNU time).
pub const TIME: Program = Program { name: "time", package: "time", version: "--version" };
/// Limits what a program may have.
pub const PRLIMIT: Program = Program { name: "prlimit", package: "util-linux", version: "--version" };
/// A shell and its commands in one file without libraries, for images of the benchmark.
pub const BUSYBOX: Program = Program { name: "busybox", package: "busybox-static", version: "--help" };

/// Docker's daemon, for the benchmark to compare with.
pub const DOCKERD: Program = Program { name: "dockerd", package: "docker.io", version: "--version" };
/// containerd, for the benchmark to compare with.
pub const CONTAINERD: Program = Program { name: "containerd", package: "containerd", version: "--version" };
/// Asks containerd.
pub const CTR: Program = Program { name: "ctr", package: "containerd", version: "--version" };
/// Mounts what another program tells, for the benchmark.
pub const MOUNT: Program = Program { name: "mount", package: "mount", version: "--version" };
/// Reads and writes in bulk, for the benchmark.
pub const FIO: Program = Program { name: "fio", package: "fio", version: "--version" };
/// Unpacks packages, for the benchmark.
pub const DPKG: Program = Program { name: "dpkg", package: "dpkg", version: "--version" };
/// Packs packages, for the benchmark.
pub const DPKG_DEB: Program = Program { name: "dpkg-deb", package: "dpkg", version: "--version" };
/// Tells what is installed, for the benchmark.
pub const DPKG_QUERY: Program = Program { name: "dpkg-query", package: "dpkg", version: "--version" };
/// Switches between versions of a tree, for the benchmark.
pub const GIT: Program = Program { name: "git", package: "git", version: "--version" };
/// Compiles, for the benchmark.
pub const CC: Program = Program { name: "cc", package: "gcc", version: "--version" };

impl Program {
    /// Those that pools and containers need.
    pub const ALL: [Self; 11] =
        [MKFS_EXT4, E2FSCK, MKFS_XFS, MKFS_BTRFS, THIN_CHECK, THIN_REPAIR, CRUN, RUNC, CONMON, SETPRIV, UNSHARE];

    /// Where it lies: in PATH, or where system programs lie when PATH leaves those out.
    ///
    /// # Errors
    /// `MissingProgram` with the package.
    pub fn find(self) -> Result<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
        let mut places = env::split_paths(&path).chain(system).map(|directory| directory.join(self.name));
        places.find(|file| file.is_file()).ok_or_else(|| {
            let Self { name, package, .. } = self;
            let what = format!("{name} is not installed; install it with 'apt-get install {package}'");
            Error::new(Kind::MissingProgram, what)
        })
    }

    /// Runs it to its end, in English. Tells whether it succeeded, and what it said.
    ///
    /// # Errors
    /// `MissingProgram`, or the system's when it cannot be started.
    pub fn run<S: AsRef<OsStr>>(self, arguments: &[S]) -> Result<(bool, String)> {
        let mut command = Command::new(self.find()?);
        command.args(arguments).stdin(Stdio::null()).env("LC_ALL", "C");
        let output = command.output().act(|| format!("run {}", self.name))?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).trim().to_owned()))
    }

    /// Runs it and fails if it fails.
    ///
    /// # Errors
    /// As [`Program::run`]; `Io` with what it said.
    pub fn succeed<S: AsRef<OsStr>>(self, arguments: &[S]) -> Result<()> {
        let (succeeded, said) = self.run(arguments)?;
        if succeeded { Ok(()) } else { Err(Error::new(Kind::Io, format!("{} failed: {said}", self.name))) }
    }

    /// The first line of what it says about its version; `None` if it is not installed.
    ///
    /// # Errors
    /// The system's when it cannot be started.
    pub fn version(self) -> Result<Option<String>> {
        match self.run(&[self.version]) {
            Ok((_, said)) => Ok(Some(said.lines().next().unwrap_or("unknown").trim().to_owned())),
            Err(error) if error.kind() == Kind::MissingProgram => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Program, TAR};
    use crate::error::Kind;

    #[test]
    fn a_missing_program_names_its_package() {
        let missing = Program { name: "mkfs.does-not-exist", package: "some-package", version: "-V" };
        let error = missing.succeed::<&str>(&[]).unwrap_err();
        assert_eq!(error.kind(), Kind::MissingProgram);
        assert!(error.to_string().contains("apt-get install some-package"), "{error}");
        assert_eq!(missing.version().unwrap(), None);
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let error = TAR.succeed(&["--extract", "--file", "/does/not/exist"]).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist"), "{error}");
    }
}
