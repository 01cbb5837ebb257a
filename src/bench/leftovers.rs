//! What benchmarks left behind that were killed: they could not clean up, so the next one in the same place does.
//!
//! Invariant: nothing of a process that still runs is touched. Its directories are locked, and have its number in their names.

use std::{fs, path::Path};

use super::ground::Directory;
use crate::error::{Act as _, Result};

/// Takes away such directories below `below`, with the pools, disks and mounts in them; what it cannot is told on its way
/// by the log, and stays.
pub(super) fn remove(below: &Path) -> Result<()> {
    let act = || format!("list {}", below.display());
    for entry in fs::read_dir(below).act(act)? {
        let entry = entry.act(act)?;
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(process) else { continue };
        let runs = Path::new("/proc").join(process.to_string()).exists();
        if runs || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        match Directory::left_behind(entry.path()) {
            Ok(directory) => drop(directory),
            Err(error) => tracing::warn!("remove {}, left behind: {error}", entry.path().display()),
        }
    }
    Ok(())
}

/// The number of the process that made a directory of this name.
fn process(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("lamina-bench-")?.rsplit('-');
    parts.next()?.parse::<u32>().ok()?;
    parts.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::process;

    #[test]
    fn only_what_a_benchmark_has_made_has_its_number() {
        assert_eq!(process("lamina-bench-thin-ext4-4711-0"), Some(4711));
        assert_eq!(process("lamina-bench-btrfs-4711"), None);
        assert_eq!(process("lamina-other-btrfs-4711-0"), None);
        assert_eq!(process("lamina-bench-mine-too"), None);
    }
}
