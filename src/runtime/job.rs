//! What a supervisor hands through to [`enter`](super::enter): a file that may be written after the supervisor was called.
//!
//! Invariant: it is locked from before it can be seen until its content is there, or whoever was to write it has ended.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::bundle::Command;
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::MountSpec,
    interrupt,
};

/// See the module's comment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// The container's ID, and the directory of all runs.
    pub(super) id: String,
    pub(super) runs: PathBuf,
    /// The root file system.
    pub(super) mount: MountSpec,
    /// The process.
    pub(super) command: Command,
    /// The runtime.
    pub(super) runtime: PathBuf,
    /// What that runtime compiled of the profile of system calls before, in base64.
    pub(super) filter: Option<String>,
    /// Where is noted which mount points the root file system had not.
    pub(super) mount_points: PathBuf,
}

impl Job {
    /// Makes the file at `path`, for whose content [`Job::awaited`] waits as long as what is returned is open.
    pub(super) fn promise(path: &Path) -> Result<File> {
        let act = || format!("make {}", path.display());
        let file = File::options().write(true).create_new(true).open(path).act(act)?;
        flock(&file, FlockOperation::LockExclusive).act(act)?;
        Ok(file)
    }

    /// Keeps a promise.
    pub(super) fn keep(&self, mut file: File) -> Result<()> {
        let act = || "write what the container is to run";
        let text = serde_json::to_vec(self).map_err(|error| Error::with_source(Kind::Io, act(), error))?;
        file.write_all(&text).act(act)
    }

    /// The job at `path` once it is there.
    pub(super) fn awaited(path: &Path) -> Result<Self> {
        let act = || format!("wait for {}", path.display());
        let file = File::open(path).act(act)?;
        interrupt::wait_for_lock(&file, FlockOperation::LockShared).act(act)?;
        if file.metadata().act(act)?.len() == 0 {
            return Err(Error::new(Kind::Interrupted, "the command that was to start the container has ended"));
        }
        Self::read(path)
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let act = || format!("read {}", path.display());
        serde_json::from_slice(&fs::read(path).act(act)?)
            .map_err(|error| Error::with_source(Kind::Corrupt, act(), error))
    }
}
