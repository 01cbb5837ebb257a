//! What benchmarks left behind that were killed: they could not clean up, so the next one in the same place does.
//!
//! Invariant: nothing of a process that still runs is touched. Its directories are locked; that which it is about to lock is
//! young, and all have its number in their names.

use std::{fs, path::Path, time::Duration};

use super::ground::Directory;
use crate::error::{Act as _, Result};

/// Far longer than it takes from making a directory to locking it. Later a process of that number is another one, if the lock
/// is free.
const YOUNG: Duration = Duration::from_secs(60);

/// Takes away such directories below `below`, with the pools, disks and mounts in them; what it cannot is told on its way
/// by the log, and stays.
pub(super) fn remove(below: &Path) -> Result<()> {
    let act = || format!("list {}", below.display());
    for entry in fs::read_dir(below).act(act)? {
        let entry = entry.act(act)?;
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(process) else { continue };
        let runs = Path::new("/proc").join(process.to_string()).exists();
        if (runs && is_young(&entry)) || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        match Directory::left_behind(entry.path()) {
            Ok(directory) => drop(directory),
            Err(error) => tracing::warn!("remove {}, left behind: {error}", entry.path().display()),
        }
    }
    Ok(())
}

/// Of what is gone meanwhile, or of the future, it is as safe to say so.
fn is_young(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|modified| modified.elapsed().ok()).is_none_or(|age| age < YOUNG)
}

/// The number of the process that made a directory of this name.
fn process(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("lamina-bench-")?.rsplit('-');
    parts.next()?.parse::<u32>().ok()?;
    parts.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, SystemTime},
    };

    use super::{YOUNG, process, remove};

    #[test]
    fn a_number_that_another_process_has_keeps_nothing_for_ever() {
        let below = tempfile::tempdir().unwrap();
        let made = |number: usize, age: Duration| {
            let path = below.path().join(format!("lamina-bench-test-{}-{number}", std::process::id()));
            fs::create_dir(&path).unwrap();
            fs::File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
            path
        };
        let (young, old, used) = (made(0, Duration::ZERO), made(1, 2 * YOUNG), made(2, 2 * YOUNG));
        let lock = fs::File::open(&used).unwrap();
        lock.lock().unwrap();
        remove(below.path()).unwrap();
        assert_eq!([young, old, used].map(|path| path.exists()), [true, false, true]);
    }

    #[test]
    fn only_what_a_benchmark_has_made_has_its_number() {
        assert_eq!(process("lamina-bench-thin-ext4-4711-0"), Some(4711));
        assert_eq!(process("lamina-bench-btrfs-4711"), None);
        assert_eq!(process("lamina-other-btrfs-4711-0"), None);
        assert_eq!(process("lamina-bench-mine-too"), None);
    }
}
