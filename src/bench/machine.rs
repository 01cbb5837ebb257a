//! On what the numbers were measured: without it they mean nothing.

use std::{fs, path::Path, thread};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::mount_table,
    program::{CC, CONTAINERD, DOCKERD, DPKG, FIO, GIT, PODMAN, Program},
    units::Bytes,
};

/// The machine and the place of the pools.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// When, RFC 3339.
    pub date: String,
    /// Version of Lamina.
    pub lamina: String,
    /// Whether this Lamina was built with debug assertions; its own part of the times means little then.
    pub debug_build: bool,
    /// Release of the kernel.
    pub kernel: String,
    /// What the processor calls itself.
    pub processor: String,
    /// How many of it there are.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Processes that ran or waited, on average over the last minute before (getloadavg(3)).
    pub load: f64,
    /// The file system that the pools' files lie on.
    pub filesystem: String,
    /// Its mount options.
    pub mount_options: String,
    /// Helper programs that are installed, as they tell their versions.
    pub programs: Vec<String>,
}

impl Machine {
    /// This machine, for pools in `directory`.
    ///
    /// # Errors
    /// When `directory` is not there or the kernel does not tell.
    pub fn here(directory: &Path) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").act(|| "read /proc/cpuinfo")?;
        let system = rustix::system::sysinfo();
        let (filesystem, mount_options) = filesystem(directory)?;
        Ok(Self {
            date: crate::store::now(),
            lamina: env!("CARGO_PKG_VERSION").to_owned(),
            debug_build: cfg!(debug_assertions),
            kernel: nix::sys::utsname::uname()
                .act(|| "ask for the kernel's release")?
                .release()
                .to_string_lossy()
                .into_owned(),
            processor: processor(&cpuinfo).to_owned(),
            processors: thread::available_parallelism().act(|| "count the processors")?.get(),
            memory: system.totalram * u64::from(system.mem_unit),
            load: load()?,
            filesystem,
            mount_options,
            programs: programs()?,
        })
    }
}

fn processor(cpuinfo: &str) -> &str {
    let value = |line: &'_ str| line.split_once(':').map_or(0, |(name, _)| name.len() + 1);
    cpuinfo.lines().find(|line| line.starts_with("model name")).map_or("unknown", |line| line[value(line)..].trim())
}

/// Memory that programs and the page cache can have.
pub(super) fn available_memory() -> Result<Bytes> {
    let act = || "read MemAvailable of /proc/meminfo";
    let text = fs::read_to_string("/proc/meminfo").act(act)?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    line.and_then(|kib| kib.parse().ok()).map(Bytes::kib).ok_or_else(|| Error::new(Kind::Io, act()))
}

fn load() -> Result<f64> {
    let act = || "read /proc/loadavg";
    let text = fs::read_to_string("/proc/loadavg").act(act)?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().map_err(|error| Error::with_source(Kind::Io, act(), error))
}

fn programs() -> Result<Vec<String>> {
    let all = Program::ALL.into_iter().chain([DOCKERD, PODMAN, CONTAINERD, FIO, DPKG, GIT, CC]);
    let told = |program: Program| Ok(program.version()?.map(|said| named(program.name, &said)));
    let versions: Vec<_> = all.map(told).collect::<Result<_>>()?;
    Ok(versions.into_iter().flatten().collect())
}

/// Some tell their version and not who they are.
fn named(program: &str, said: &str) -> String {
    let said = said.trim_end_matches('.');
    if said.starts_with(|first: char| first.is_ascii_digit()) { format!("{program} {said}") } else { said.to_owned() }
}

/// The type and the mount options of the file system that holds `directory`.
fn filesystem(directory: &Path) -> Result<(String, String)> {
    let path = directory.canonicalize().act(|| format!("find {}", directory.display()))?;
    let table = mount_table()?;
    // The longest mount point that leads there; of several at one place the last is the visible one.
    let found = table
        .iter()
        .filter(|mount| path.starts_with(&mount.target))
        .max_by_key(|mount| mount.target.components().count());
    let unknown = || "unknown".to_owned();
    let Some(found) = found else { return Ok((unknown(), unknown())) };
    // Their options are the last field of the last line for that place (proc_pid_mountinfo(5)).
    let lines = fs::read_to_string("/proc/self/mountinfo").act(|| "read /proc/self/mountinfo")?;
    let target = found.target.to_string_lossy();
    let mut fields = lines.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    let line = fields.find(|fields| fields.get(4) == Some(&&*target));
    let options = line.and_then(|fields| Some(format!("{},{}", fields.get(5)?, fields.last()?)));
    Ok((found.fstype.clone(), options.unwrap_or_else(unknown)))
}

#[cfg(test)]
mod tests {
    use super::{named, processor};

    #[test]
    fn a_version_tells_of_which_program() {
        assert_eq!(named("thin_check", "0.9.0"), "thin_check 0.9.0");
        assert_eq!(named("dpkg", "Debian 'dpkg' version 1.21.22 (amd64)."), "Debian 'dpkg' version 1.21.22 (amd64)");
    }

    #[test]
    fn the_processor_is_named_or_unknown() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Fast: 3 GHz\nmodel name\t: b\n"), "Fast: 3 GHz");
        assert_eq!(processor("processor : 0\n"), "unknown");
    }
}
