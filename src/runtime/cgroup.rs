//! A container's cgroup, `/lamina/NAME` in each hierarchy that is mounted: its processes, frozen, thawed, removed.
//!
//! Invariant: the kernel is asked, not a runtime, so that this works also where the runtime was killed half way or is
//! not installed any more. Both versions of cgroups (Documentation/admin-guide/cgroup-v1, cgroup-v2.rst).

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::statfs,
    process::{Pid, Signal, kill_process},
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{MountEntry, if_there, mount_table},
};

/// The parent of all.
const PARENT: &str = "lamina";

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// How long to wait for the kernel: for processes to stop where they are, and for dead ones to leave.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(200);

/// The path within the hierarchies.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new("/").join(PARENT).join(name)
}

/// The directory of `name` in a hierarchy that is mounted.
pub(super) fn directory(hierarchy: &MountEntry, name: &str) -> PathBuf {
    hierarchy.target.join(PARENT).join(name)
}

/// Whether `path` is the mount point of a hierarchy of version 2.
pub(super) fn is_v2(path: &str) -> bool {
    statfs(path).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| magic == CGROUP2_MAGIC))
}

/// Whether there is version 2 alone.
pub(super) fn is_unified() -> bool {
    is_v2("/sys/fs/cgroup")
}

/// Whether the kernel counts what cgroups have in swap. With version 2 the root has no such file; its children have.
pub(super) fn counts_swap() -> bool {
    let Ok(table) = mount_table() else { return false };
    let mut hierarchies = table.into_iter().filter(|mount| mount.fstype.starts_with("cgroup"));
    hierarchies.any(|mount| {
        let below = || groups_below(&mount.target).unwrap_or_default();
        mount.target.join("memory.memsw.limit_in_bytes").exists()
            || is_unified() && below().iter().any(|group| group.join("memory.swap.max").exists())
    })
}

/// One container's.
#[derive(Clone, Copy, Debug)]
pub struct Cgroup<'n>(&'n str);

/// What stops processes where they are.
enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

impl<'n> Cgroup<'n> {
    /// The one called `name`.
    pub fn new(name: &'n str) -> Self {
        Self(name)
    }

    /// Its directories that exist, one for each hierarchy.
    fn directories(self) -> Result<Vec<PathBuf>> {
        let mut table = mount_table()?;
        table.retain(|mount| mount.fstype.starts_with("cgroup"));
        let own = table.iter().map(|hierarchy| directory(hierarchy, self.0));
        Ok(own.filter(|directory| directory.exists()).collect())
    }

    /// Whether any hierarchy has it.
    ///
    /// # Errors
    /// When the hierarchies cannot be read.
    pub fn exists(self) -> Result<bool> {
        self.directories().map(|directories| !directories.is_empty())
    }

    /// The processes in it, those of groups below it included.
    ///
    /// # Errors
    /// When the hierarchies cannot be read.
    pub fn processes(self) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        for directory in self.directories()? {
            collect(&directory, &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Whether the kernel has killed one of its processes because memory ran out.
    ///
    /// # Errors
    /// When the hierarchies cannot be read.
    pub fn ran_out_of_memory(self) -> Result<bool> {
        for directory in self.directories()? {
            // The first is that of version 1, where it tells so from Linux 4.13 on.
            for name in ["memory.oom_control", "memory.events"] {
                match fs::read_to_string(directory.join(name)) {
                    Ok(text) if has_killed(&text) => return Ok(true),
                    Err(error) if !is_gone(error.raw_os_error()) => {
                        return Err(error).act(|| format!("read {}/{name}", directory.display()));
                    }
                    _ => {}
                }
            }
        }
        Ok(false)
    }

    fn freezer(self) -> Result<Freezer> {
        for directory in self.directories()? {
            let (first, second) = (directory.join("freezer.state"), directory.join("cgroup.freeze"));
            if first.exists() {
                return Ok(Freezer::V1(first));
            }
            if second.exists() && is_unified() {
                return Ok(Freezer::V2(second));
            }
        }
        Err(Error::new(Kind::Unsupported, "the host has no cgroup freezer mounted, or the container is not in one"))
    }

    /// Whether its processes are stopped where they are.
    ///
    /// # Errors
    /// When the hierarchies cannot be read.
    pub fn is_frozen(self) -> Result<bool> {
        match self.freezer() {
            Ok(freezer) => match freezer.holds(true) {
                Err(error) if is_gone(error.errno()) => Ok(false),
                holds => holds,
            },
            Err(error) if error.kind() == Kind::Unsupported => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stops its processes where they are, all of them when this returns; or lets them go on.
    ///
    /// # Errors
    /// `Unsupported` without a freezer; `Io` if the kernel cannot stop one of them, which then goes on.
    pub fn freeze(self, frozen: bool) -> Result<()> {
        match self.freezer()?.freeze(frozen) {
            Err(error) if !frozen && is_gone(error.errno()) => Ok(()),
            done => done,
        }
    }

    /// Kills what is in it and removes it. Idempotent.
    ///
    /// # Errors
    /// `InUse` for a process that does not end: one that waits for a device, say.
    pub fn remove(self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let directories = self.directories()?;
            let mut left = Ok(());
            for directory in &directories {
                left = left.and(remove_tree(directory));
            }
            let Err(error) = left else { return Ok(()) };
            let processes = self.processes()?;
            if begun.elapsed() > PATIENCE {
                let what = format!("processes {processes:?} of the container do not end: {error}");
                return Err(Error::new(Kind::InUse, what));
            }
            if !processes.is_empty() {
                // A frozen process takes no signal in version 1.
                if self.is_frozen()? {
                    self.freeze(false)?;
                }
                processes.into_iter().filter_map(Pid::from_raw).try_for_each(kill)?;
            }
            thread::sleep(PAUSE);
        }
    }
}

fn kill(process: Pid) -> Result<()> {
    match kill_process(process, Signal::KILL) {
        // Ended meanwhile.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        killed => killed.act(|| format!("kill process {}", process.as_raw_nonzero())),
    }
}

/// Whether the kernel says by this that its last process has just ended and it was removed.
fn is_gone(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::ENOENT | libc::ENODEV))
}

impl Freezer {
    fn freeze(&self, frozen: bool) -> Result<()> {
        let begun = Instant::now();
        self.ask(frozen)?;
        while !self.holds(frozen)? {
            if begun.elapsed() > PATIENCE {
                let error = Error::new(Kind::Io, "a process in the container cannot be stopped where it is");
                return Err(error.and_undo(self.ask(false)));
            }
            thread::sleep(PAUSE);
            // Version 1 gives up on a process that was about to fork, and has to be asked again.
            self.ask(frozen)?;
        }
        Ok(())
    }

    fn ask(&self, frozen: bool) -> Result<()> {
        let (path, word) = match self {
            Self::V1(path) => (path, if frozen { "FROZEN" } else { "THAWED" }),
            Self::V2(path) => (path, if frozen { "1" } else { "0" }),
        };
        fs::write(path, word).act(|| format!("write {}", path.display()))
    }

    fn holds(&self, frozen: bool) -> Result<bool> {
        let read = |path: &Path| fs::read_to_string(path).act(|| format!("read {}", path.display()));
        Ok(match self {
            Self::V1(path) => read(path)?.trim() == if frozen { "FROZEN" } else { "THAWED" },
            Self::V2(path) => {
                let events = read(&path.with_file_name("cgroup.events"))?;
                events.lines().any(|line| line == if frozen { "frozen 1" } else { "frozen 0" })
            }
        })
    }
}

fn has_killed(events: &str) -> bool {
    events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
}

fn collect(directory: &Path, found: &mut Vec<i32>) -> Result<()> {
    let list = match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if is_gone(error.raw_os_error()) => return Ok(()),
        list => list.act(|| format!("read the processes of {}", directory.display()))?,
    };
    found.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
    groups_below(directory)?.iter().try_for_each(|group| collect(group, found))
}

fn groups_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let act = || format!("look into {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.act(act)?,
    };
    let mut groups = Vec::new();
    for entry in entries {
        let entry = entry.act(act)?;
        if entry.file_type().act(act)?.is_dir() {
            groups.push(entry.path());
        }
    }
    Ok(groups)
}

fn remove_tree(directory: &Path) -> Result<()> {
    let remove = || if_there(fs::remove_dir(directory));
    match remove() {
        // Of groups below it, or of processes.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            groups_below(directory)?.iter().try_for_each(|group| remove_tree(group))?;
            remove()
        }
        removed => removed,
    }
    .act(|| format!("remove {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::has_killed;

    #[test]
    fn both_versions_tell_of_killed_processes() {
        assert!(has_killed("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"));
        assert!(has_killed("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"));
        assert!(!has_killed("oom_kill_disable 1\nunder_oom 1\noom_kill 0\n"));
    }
}
