//! Mounts in every mount namespace that a process lives in: what keeps a file system busy that is mounted nowhere here.
//!
//! Invariant: only looked at, never entered. Not seen is what no process of this PID namespace shows: a namespace that
//! only a file or a descriptor keeps, and mounts that were detached from their place.

use std::{
    collections::HashSet,
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    process::Pid,
};

use super::mount_table::{MountEntry, parse_table};
use crate::{
    error::{Act as _, Result},
    sys::process::Process,
};

/// How long others are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A mount, and whose it is.
#[derive(Debug)]
pub struct Sighting {
    /// The mount, with its place as its namespace has it.
    pub mount: MountEntry,
    /// A process of its namespace, with its name; `None` if it is in this process's own.
    pub process: Option<(u32, String)>,
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.mount.target.display();
        match &self.process {
            None => write!(f, "mounted at {target}; unmount it first"),
            Some((id, name)) => write!(
                f,
                "mounted at {target} in the mount namespace of process {id} ({name}); end that process, or run \
                 'nsenter --target {id} --mount umount {target}'"
            ),
        }
    }
}

/// The mounts of all namespaces for which `wanted` holds, those of this process's own first.
///
/// # Errors
/// When /proc is not there; a process that ends meanwhile is passed over.
pub fn mounts_everywhere(wanted: impl Fn(&MountEntry) -> bool) -> Result<Vec<Sighting>> {
    let act = || "look for mounts of other processes";
    let mut known: HashSet<OsString> = HashSet::new();
    let mut found = Vec::new();
    let others = fs::read_dir("/proc").act(act)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut look = |process: Option<u32>| -> Option<()> {
        let place = Path::new("/proc").join(process.map_or_else(|| "self".to_owned(), |id: u32| id.to_string()));
        let namespace = fs::read_link(place.join("ns/mnt")).ok()?.into_os_string();
        if known.contains(&namespace) {
            return None;
        }
        let table = parse_table(&fs::read(place.join("mountinfo")).ok()?).ok()?;
        known.insert(namespace);
        let name = || fs::read_to_string(place.join("comm")).unwrap_or_default().trim().to_owned();
        for mount in table.into_iter().filter(|mount| wanted(mount)) {
            found.push(Sighting { mount, process: process.map(|id| (id, name())) });
        }
        Some(())
    };
    for process in std::iter::once(None).chain(others.map(Some)) {
        look(process);
    }
    Ok(found)
}

/// The same, without those in other namespaces that go in a moment: where mounts are private, whoever starts a container
/// has a copy of every mount until the container has its own root. A signal ends the waiting, and no more: this is also
/// asked where interrupted work is undone.
///
/// # Errors
/// As [`mounts_everywhere`]; the kernel's reason for not letting a process be watched.
pub fn lasting_mounts(wanted: impl Fn(&MountEntry) -> bool) -> Result<Vec<Sighting>> {
    let mut deadline = Instant::now() + PATIENCE;
    loop {
        let found = mounts_everywhere(&wanted)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let Some((id, _)) = found.iter().find_map(|sighting| sighting.process.as_ref()).filter(|_| !left.is_zero())
        else {
            return Ok(found);
        };
        let Some(watch) = Watch::open(*id)? else { continue };
        // What went until it was watched makes no event.
        if watch.shows(&wanted) && !watch.wait(left)? {
            deadline = Instant::now();
        }
    }
}

/// A process whose end and whose namespace's changes are waited for. An open mountinfo keeps the namespace.
struct Watch {
    process: Process,
    table: File,
}

impl Watch {
    /// `None` if it has ended.
    fn open(process: u32) -> Result<Option<Self>> {
        let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let Some(process) = Process::open(pid)? else { return Ok(None) };
        match File::open(format!("/proc/{pid}/mountinfo")) {
            // The second is one that has ended and that nobody has waited for: it has no namespace any more.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(None),
            opened => Ok(Some(Self { process, table: opened.act(|| format!("watch process {pid}"))? })),
        }
    }

    /// Whether its namespace has a wanted mount now.
    fn shows(&self, wanted: impl Fn(&MountEntry) -> bool) -> bool {
        let mut table = Vec::new();
        let read = (&self.table).read_to_end(&mut table).ok();
        read.and_then(|_| parse_table(&table).ok()).is_some_and(|table| table.iter().any(wanted))
    }

    /// Waits until the mounts of its namespace change, which mountinfo tells (`proc_pid_mountinfo(5)`), or it ends,
    /// or the time is over, or a signal comes; tells whether it was one of the first two.
    fn wait(&self, most: Duration) -> Result<bool> {
        self.process.ends_within_or(PollFd::new(&self.table, PollFlags::PRI), most)
    }
}

/// Who holds it, and what to do, to be put behind an error; `found` is what [`lasting_mounts`] or [`mounts_everywhere`] has found.
pub fn holders(found: &[Sighting]) -> String {
    match found {
        [] => "no process is seen that has it mounted: 'fuser -vm' and 'lsns -t mnt' tell more".to_owned(),
        [one] => one.to_string(),
        [first, others @ ..] => format!("{first}; and {} more mounts", others.len()),
    }
}
