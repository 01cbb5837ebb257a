//! Mounts in every mount namespace that a process lives in: what keeps a file system busy that is mounted nowhere here.
//!
//! Invariant: only looked at, never entered. Not seen is what no process of this PID namespace shows: a namespace that
//! only a file or a descriptor keeps, and mounts that were detached from their place.

use std::{collections::HashSet, ffi::OsString, fmt, fs, path::Path};

use super::mount_table::{MountEntry, parse_table};
use crate::error::{Act as _, Result};

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

/// Who holds it, and what to do, to be put behind an error; `found` is what [`mounts_everywhere`] has found.
pub fn holders(found: &[Sighting]) -> String {
    match found {
        [] => "no process is seen that has it mounted: 'fuser -vm' and 'lsns -t mnt' tell more".to_owned(),
        [one] => one.to_string(),
        [first, others @ ..] => format!("{first}; and {} more mounts", others.len()),
    }
}
