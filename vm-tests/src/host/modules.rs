//! In which order to load kernel modules, from `modules.dep`.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};

/// What init loads, in this order: first what reaching the root file system takes, then what tests use. The kernel
/// would fetch most of the latter by itself; loading it at boot keeps that time out of the cases. Only xfs is left to
/// the first mount that wants it: in an emulated guest it alone takes three seconds, and few cases use it.
pub(super) const WANTED: &[&str] = &[
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_console",
    "virtio_blk",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
    "loop",
    "dm_mod",
    "dm_bio_prison",
    "dm_persistent_data",
    "dm_thin_pool",
    "dm_flakey",
    "dm_log_writes",
    "btrfs",
];

/// Modules that one kernel has as files and another built in.
#[derive(Debug)]
pub(super) struct Modules {
    /// File of each module, and the files it depends on.
    files: HashMap<String, (String, Vec<String>)>,
    built_in: HashSet<String>,
}

impl Modules {
    /// Reads `modules.dep` (`FILE: NEEDED...`) and `modules.builtin` (one file per line).
    pub(super) fn parse(dep: &str, builtin: &str) -> Self {
        let files = dep.lines().filter_map(|line| line.split_once(':')).map(|(file, needed)| {
            let needed = needed.split_whitespace().map(str::to_owned).collect();
            (name(file), (file.to_owned(), needed))
        });
        Self { files: files.collect(), built_in: builtin.lines().map(name).collect() }
    }

    /// Files to load for all of `wanted`, each once and after what it needs. A module that is built in needs nothing.
    pub(super) fn load_order(&self, wanted: &[&str]) -> Result<Vec<String>> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        for module in wanted {
            if !self.files.contains_key(*module) && self.built_in.contains(*module) {
                continue;
            }
            self.visit(module, &mut order, &mut seen)?;
        }
        Ok(order)
    }

    /// Depth first; `modules.dep` has no cycles, and `seen` would stop one.
    fn visit(&self, module: &str, order: &mut Vec<String>, seen: &mut HashSet<String>) -> Result<()> {
        if !seen.insert(module.to_owned()) {
            return Ok(());
        }
        let (file, needed) =
            self.files.get(module).with_context(|| format!("find module {module}: this kernel does not have it"))?;
        for dependency in needed {
            self.visit(&name(dependency), order, seen)?;
        }
        order.push(file.clone());
        Ok(())
    }
}

/// A module's name as the kernel knows it: file name without suffix, `-` as `_`.
fn name(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests;
