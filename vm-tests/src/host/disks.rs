//! The machine's disks: sparse files, fresh for each run, emptied after it.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::program::{find, output};
use super::workspace::Workspace;

/// File name and apparent size of each disk, in the order of `/dev/vda`, `/dev/vdb`, ...
const DISKS: &[(&str, u64)] = &[("scratch.raw", 40 << 30), ("pool-a.raw", 2 << 30), ("pool-b.raw", 2 << 30)];

/// The files. Dropping this gives their space back to the host.
#[derive(Debug)]
pub(super) struct Disks {
    paths: Vec<PathBuf>,
}

impl Disks {
    /// Makes all disks anew and formats the first. The host does that: in an emulated guest it takes twenty times as long.
    pub(super) fn create(workspace: &Workspace) -> Result<Self> {
        let mut paths = Vec::new();
        for (name, size) in DISKS {
            let path = workspace.path(name);
            let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
            file.set_len(*size).with_context(|| format!("size {} to {} GiB", path.display(), size >> 30))?;
            paths.push(path);
        }
        let disks = Self { paths };
        if let Some(scratch) = disks.paths.first() {
            // Lazily initialised: only what differs from zero is written.
            let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
            output(Command::new(find("mkfs.ext4")?).args(["-q", "-F", "-E", options]).arg(scratch))?;
        }
        Ok(disks)
    }

    /// The files, first disk first.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for path in &self.paths {
            // Best effort: the next run truncates it anyway.
            drop(File::create(path));
        }
    }
}
