//! Caches, written out and emptied, and what is measured with empty ones.

use std::{
    fs::{self, File},
    path::Path,
};

use super::seconds;
use crate::{
    bench::scale::Scale,
    error::{Act as _, Error, Kind, Result},
    sys::ext4,
};

/// How often a sample is taken again for which nothing was read.
const TRIES: usize = 3;

/// How many seconds `work` of this thread takes with empty caches; `None` if each time it found all it needed in memory, or,
/// where caches stay warm anyway, as often as that is.
pub(in crate::bench) fn cold(root: &Path, scale: &Scale, work: &dyn Fn() -> Result<()>) -> Result<Option<f64>> {
    for _ in 0..TRIES {
        drop_caches(scale, root)?;
        let before = bytes_read()?;
        let time = seconds(work)?;
        if !scale.is_cold || bytes_read()? > before {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

/// Bytes that this thread had to be read from disks.
fn bytes_read() -> Result<u64> {
    let path = "/proc/thread-self/io";
    let text = fs::read_to_string(path).act(|| format!("read {path}"))?;
    let told = text.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
    told.ok_or_else(|| Error::new(Kind::Unsupported, format!("{path} tells no read_bytes")))
}

/// Writes out the file system that `root` lies in.
pub(in crate::bench) fn write_out(root: &Path) -> Result<()> {
    let act = || format!("write out {}", root.display());
    rustix::fs::syncfs(File::open(root).act(act)?).act(act)
}

/// Empties the caches of pages, inodes and names, with nothing of the file system of `root` left to be written. Other
/// file systems are not waited for: pools and disks are read and written past the cache of the one below.
pub(super) fn drop_caches(scale: &Scale, root: &Path) -> Result<()> {
    if scale.is_cold { empty_caches(root) } else { write_out(root) }
}

/// A block that ext4's journal has yet to write to its place stays in memory whatever is dropped, also once it is on the
/// disk: so the journal has to be emptied first.
pub(super) fn empty_caches(root: &Path) -> Result<()> {
    write_out(root)?;
    let directory = File::open(root).act(|| format!("open {}", root.display()))?;
    match ext4::checkpoint(&directory) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::ENODEV)) => {
            return Err(error).act(|| format!("empty the journal of {}", root.display()));
        }
        // Where there is none to be emptied so, it shows in what is read.
        _ => {}
    }
    fs::write("/proc/sys/vm/drop_caches", "3").act(|| "drop caches by /proc/sys/vm/drop_caches")
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use super::{TRIES, cold};
    use crate::bench::scale::{QUICK, TINY};

    #[test]
    fn what_reads_nothing_is_never_told_as_cold() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let calls = Cell::new(0);
        let count = || {
            calls.set(calls.get() + 1);
            Ok(())
        };
        assert_eq!(cold(directory.path(), &QUICK, &count).unwrap(), None);
        assert_eq!(calls.replace(0), TRIES);
        assert!(cold(directory.path(), &TINY, &count).unwrap().is_some());
        assert_eq!(calls.get(), 1);
        let file = directory.path().join("file");
        fs::write(&file, [1; 100_000]).unwrap();
        let read = || {
            assert_eq!(fs::read(&file).unwrap().len(), 100_000);
            Ok(())
        };
        assert!(cold(directory.path(), &QUICK, &read).unwrap().is_some());
    }
}
