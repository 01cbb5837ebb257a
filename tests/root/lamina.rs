//! The `lamina` command on a root directory of its own, as a user runs it; everything it made is gone afterwards, also
//! after a panic.

use std::{
    env,
    ffi::OsStr,
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use lamina::{
    Kind,
    container::{Containers, Removal},
    driver::{DriverKind, pool},
    fs::{mounts_below, unmount},
    store::Store,
};
use libtest_mimic::{Completion, Failed};

use crate::{pool::Outcome, power::FlakyDisk};

/// One root directory, with a pool or without.
pub struct Host {
    pub driver: DriverKind,
    directory: tempfile::TempDir,
    /// The disk that all of it lies on, if its power can fail. Goes last.
    disk: Option<FlakyDisk>,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs `case` for a driver; ignored where this machine cannot have its pools.
pub fn with_host(driver: DriverKind, case: impl FnOnce(&Host) -> Outcome) -> Result<Completion, Failed> {
    let base = env::var_os("LAMINA_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    with_host_in(&base, driver, case)
}

/// The same with the root directory below `base`.
pub fn with_host_in(
    base: &Path,
    driver: DriverKind,
    case: impl FnOnce(&Host) -> Outcome,
) -> Result<Completion, Failed> {
    run_case(|| Host::new(base, driver, None), driver, case).map_err(|fault| fault.0.into())
}

/// The same on a disk whose power can fail.
pub fn with_flaky_host(driver: DriverKind, case: impl FnOnce(&Host) -> Outcome) -> Result<Completion, Failed> {
    // Without root it cannot be asked; the case says so.
    if rustix::process::geteuid().is_root()
        && let Some(missing) = FlakyDisk::missing()?
    {
        return Ok(Completion::ignored_with(missing));
    }
    let host = || {
        let disk = FlakyDisk::new(4 << 30)?;
        Host::new(&disk.path(), driver, Some(disk))
    };
    run_case(host, driver, case).map_err(|fault| fault.0.into())
}

fn run_case(
    host: impl FnOnce() -> Outcome<Host>,
    driver: DriverKind,
    case: impl FnOnce(&Host) -> Outcome,
) -> Outcome<Completion> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("needs root"));
    }
    match pool::supported(driver) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::MissingProgram) => {
            return Ok(Completion::ignored_with(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    let host = host()?;
    case(&host)?;
    host.finish()?;
    Ok(Completion::Completed)
}

impl Host {
    fn new(base: &Path, driver: DriverKind, disk: Option<FlakyDisk>) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("lamina-test-").tempdir_in(base)?;
        Ok(Self { driver, directory, disk })
    }

    /// What the test itself has written is safe from a loss of power.
    pub fn sync(&self) -> Outcome {
        Ok(rustix::fs::syncfs(File::open(self.directory.path())?)?)
    }

    /// The power fails, where the disk is one that knows this: what was not synced is lost, and so are mounts and devices.
    pub fn lose_power(&self) -> Outcome {
        let Some(disk) = &self.disk else { return Ok(()) };
        disk.drop_writes()?;
        // Lets a file system run that a killed command has frozen; it could not be unmounted.
        self.ok(&["pool", "up"])?;
        for mount in mounts_below(&self.root().join("mounts"))? {
            unmount(&mount.target)?;
        }
        // Whatever it writes is lost, too.
        self.ok(&["pool", "down"])?;
        disk.restart()
    }

    /// The root directory.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A place for files of the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `lamina --root ROOT ARGS`, to be run.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamina"));
        command.arg("--root").arg(self.root()).args(args).stdin(Stdio::null());
        command.env_remove("LAMINA_ROOT").env_remove("LAMINA_CRASH_AT");
        command
    }

    /// Runs it.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome<Said> {
        Ok(Said::from(self.command(args).output()?))
    }

    /// Runs it to be killed at a failpoint, if it gets there.
    pub fn run_to<S: AsRef<OsStr>>(&self, point: &str, args: &[S]) -> Outcome<Said> {
        Ok(Said::from(self.command(args).env("LAMINA_CRASH_AT", point).output()?))
    }

    /// Starts it.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: &[S], input: Stdio) -> Outcome<Child> {
        Ok(self.command(args).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs it, which must succeed; returns standard output without the last newline.
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S]) -> Outcome<String> {
        let said = self.run(args)?;
        match said.code {
            Some(0) => Ok(said.out.trim_end_matches('\n').to_owned()),
            _ => Err(format!("lamina {args:?}: {said:?}").into()),
        }
    }

    /// Runs it, which must fail with code 1 and an error that contains `words`.
    pub fn fails<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S], words: &str) -> Outcome {
        let said = self.run(args)?;
        if said.code == Some(1) && said.err.contains(words) && said.out.is_empty() {
            return Ok(());
        }
        Err(format!("lamina {args:?} should fail with '{words}': {said:?}").into())
    }

    /// An `inspect` of one thing that is not there: an empty list, as Docker's, and an error that contains `words`.
    pub fn finds_nothing<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S], words: &str) -> Outcome {
        let said = self.run(args)?;
        if said.code == Some(1) && said.err.contains(words) && said.out == "[]\n" {
            return Ok(());
        }
        Err(format!("lamina {args:?} should find nothing, with '{words}': {said:?}").into())
    }

    /// What a listing prints with `--json`.
    pub fn json<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S]) -> Outcome<serde_json::Value> {
        let mut all: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        all.push(OsStr::new("--json"));
        Ok(serde_json::from_str(&self.ok(&all)?)?)
    }

    /// A row of `system df`.
    pub fn space_of(&self, kind: &str) -> Outcome<serde_json::Value> {
        let rows = self.json(&["system", "df"])?;
        let found = rows.as_array().into_iter().flatten().find(|row| row["type"] == kind);
        found.cloned().ok_or_else(|| format!("no row {kind} in {rows}").into())
    }

    /// Makes a pool.
    pub fn pool(&self, size: &str) -> Outcome {
        self.ok(&self.pool_args(size)).map(drop)
    }

    /// The command that makes a pool; those of directories have no size.
    pub fn pool_args<'a>(&self, size: &'a str) -> Vec<&'a str> {
        let mut args = vec!["pool", "create", "--driver", self.driver.name()];
        if self.has_device() {
            args.extend(["--size", size]);
        }
        args
    }

    /// Whether the pool lies on a device of its own.
    pub fn has_device(&self) -> bool {
        self.driver.has_device()
    }

    /// Makes a one-layer image of files with these contents.
    pub fn image(&self, reference: &str, files: &[(&str, &[u8])]) -> Outcome<String> {
        let tar = self.file("rootfs.tar");
        write_tar(&tar, files)?;
        self.ok(&[OsStr::new("import"), tar.as_os_str(), OsStr::new(reference)])
    }

    /// Mounts a container.
    pub fn mount(&self, container: &str) -> Outcome<PathBuf> {
        self.ok(&["mount", container]).map(PathBuf::from)
    }

    /// Pool, file systems, database and mounts agree.
    pub fn check(&self) -> Outcome {
        self.ok(&["check"]).map(drop)
    }

    /// At the end of a case: all is consistent, and the pool goes without a trace.
    fn finish(self) -> Outcome {
        if !self.root().join("lamina.db").exists() {
            return Ok(());
        }
        if self.run(&["pool", "status"])?.code == Some(0) {
            self.check()?;
            for mount in mounts_below(&self.root().join("mounts"))? {
                unmount(&mount.target)?;
            }
            self.ok(&["pool", "destroy", "--yes"])?;
        }
        match mounts_below(self.directory.path())?.first() {
            None => Ok(()),
            Some(left) => Err(format!("{} is mounted still", left.target.display()).into()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !self.root().join("lamina.db").exists() {
            return;
        }
        // After a failure: whatever can be undone is, and what cannot is told.
        let undo = || -> lamina::Result<()> {
            if let Some(store) = Store::open(&self.root())? {
                let containers = Containers::new(&store);
                containers.list()?.iter().try_for_each(|container| {
                    match containers.status(container)?.state.is_live() {
                        true => containers.remove(container, Removal { kill: true, volumes: false, by_itself: false }),
                        false => Ok(()),
                    }
                })?;
                containers.sweep()?;
            }
            for mount in mounts_below(&self.root().join("mounts"))? {
                unmount(&mount.target)?;
            }
            match Store::destroy_pool(&self.root(), &|| Ok(()), &|| Ok(())) {
                Err(error) if error.kind() == Kind::NotFound => Ok(()),
                result => result,
            }
        };
        if let Err(error) = undo() {
            eprintln!("clean up {}: {error}", self.root().display());
        }
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A root file system tar with regular files of these contents.
pub fn write_tar(path: &Path, files: &[(&str, &[u8])]) -> Outcome {
    let mut tar = tar::Builder::new(std::fs::File::create(path)?);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, name, *content)?;
    }
    Ok(tar.finish()?)
}
