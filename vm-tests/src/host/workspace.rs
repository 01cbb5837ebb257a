//! The directory `target/vm`: everything this harness makes lies there, and its lock lets one machine run at a time.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::report;

/// The locked directory. Dropping it lets the next run go on.
#[derive(Debug)]
pub(crate) struct Workspace {
    dir: PathBuf,
    _lock: File,
}

impl Workspace {
    /// Creates the directory if need be and waits until no other run uses it.
    pub(crate) fn lock() -> Result<Self> {
        let dir = target_dir()?.join("vm");
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let path = dir.join("lock");
        let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                report::note(&format!("another run holds {}; waiting for it to end", path.display()));
                lock.lock().with_context(|| format!("lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        }
        Ok(Self { dir, _lock: lock })
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Cargo's target directory: `CARGO_TARGET_DIR`, else the one this binary lies in, else `target`.
pub(crate) fn target_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("CARGO_TARGET_DIR") {
        return std::path::absolute(dir).context("make CARGO_TARGET_DIR absolute");
    }
    let own = env::current_exe().context("find the own binary")?;
    let built = own.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    built.map_or_else(|| std::path::absolute("target").context("make 'target' absolute"), |dir| Ok(dir.to_owned()))
}

/// The directory that has a built `lamina`: beside this binary, else the release, else the debug one.
pub(crate) fn lamina_dir() -> Result<PathBuf> {
    let own = env::current_exe().context("find the own binary")?;
    let beside: PathBuf = own.parent().map(Into::into).unwrap_or_default();
    let target = target_dir()?;
    let candidates = [beside.clone(), target.join("release"), target.join("debug")];
    Ok(candidates.into_iter().find(|dir| dir.join("lamina").is_file()).unwrap_or(beside))
}
