//! On what the numbers were measured: without it they mean nothing.

use std::{fs, path::Path, thread};

use serde::Serialize;

use crate::{
    error::{Act as _, Result},
    fs::mount_table,
};

/// The machine and the place of the pools.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// When, RFC 3339.
    pub date: String,
    /// Version of Lamina.
    pub lamina: &'static str,
    /// Whether this Lamina was built with debug assertions; its own part of the times means little then.
    pub debug_build: bool,
    /// Release of the kernel.
    pub kernel: String,
    /// What the processor calls itself.
    pub processor: String,
    /// How many of it there are.
    pub processors: usize,
    /// The file system that the pools' files lie on.
    pub filesystem: String,
}

impl Machine {
    /// This machine, for pools in `directory`.
    ///
    /// # Errors
    /// When `directory` is not there or the kernel does not tell.
    pub fn here(directory: &Path) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").act(|| "read /proc/cpuinfo")?;
        Ok(Self {
            date: crate::store::now(),
            lamina: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            kernel: nix::sys::utsname::uname()
                .act(|| "ask for the kernel's release")?
                .release()
                .to_string_lossy()
                .into_owned(),
            processor: processor(&cpuinfo).to_owned(),
            processors: thread::available_parallelism().act(|| "count the processors")?.get(),
            filesystem: filesystem(directory)?,
        })
    }
}

fn processor(cpuinfo: &str) -> &str {
    let value = |line: &'_ str| line.split_once(':').map_or(0, |(name, _)| name.len() + 1);
    cpuinfo.lines().find(|line| line.starts_with("model name")).map_or("unknown", |line| line[value(line)..].trim())
}

/// The type of the file system that holds `directory`.
fn filesystem(directory: &Path) -> Result<String> {
    let path = directory.canonicalize().act(|| format!("find {}", directory.display()))?;
    let table = mount_table()?;
    // The longest mount point that leads there; of several at one place the last is the visible one.
    let found = table
        .iter()
        .filter(|mount| path.starts_with(&mount.target))
        .max_by_key(|mount| mount.target.components().count());
    Ok(found.map_or_else(|| "unknown".to_owned(), |mount| mount.fstype.clone()))
}

#[cfg(test)]
mod tests {
    use super::processor;

    #[test]
    fn the_processor_is_named_or_unknown() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Fast: 3 GHz\nmodel name\t: b\n"), "Fast: 3 GHz");
        assert_eq!(processor("processor : 0\n"), "unknown");
    }
}
