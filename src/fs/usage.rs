//! What a tree takes on its file system.

use std::{collections::HashSet, os::fd::BorrowedFd, path::Path};

use rustix::fs::{FileType, fstat, major, minor, statvfs};

use super::{
    change::{ChangeKind, Changes},
    descent::{Way, walk},
    entry::{file_type, identity, is_dir, locate},
};
use crate::{
    error::{Act as _, Result},
    units::Bytes,
};

/// Apparent bytes of the regular files among what was added or changed, hard links once. What vanished is passed over.
///
/// # Errors
/// When the tree cannot be read.
pub fn apparent(root: BorrowedFd<'_>, changes: &Changes) -> Result<Bytes> {
    let mut seen = HashSet::new();
    let mut size = Bytes(0);
    for change in changes.iter().filter(|change| change.kind != ChangeKind::Deleted) {
        let Some(located) = locate(root, &change.path)? else { continue };
        let Some(stat) = located.place().stat()? else { continue };
        if file_type(&stat) == FileType::RegularFile && (stat.st_nlink == 1 || seen.insert(identity(&stat))) {
            size += Bytes(u64::try_from(stat.st_size).unwrap_or(0));
        }
    }
    Ok(size)
}

/// What is free for everybody on the file system that `path` lies on.
///
/// # Errors
/// When there is no such path, or its file system cannot be asked.
pub fn free_space(path: &Path) -> Result<Bytes> {
    let space = statvfs(path).act(|| format!("ask for the free space on the disk of {}", path.display()))?;
    Ok(Bytes(space.f_bavail * space.f_frsize))
}

/// What of a file system lies in memory still and will take space on the disk below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// At least this.
    pub least: Bytes,
    /// At most this.
    pub most: Bytes,
}

/// What lies in memory of the file system on a device of its own that `root` lies in: at least what ext4 tells of blocks
/// that have no place yet, at most what waits for all disks together.
///
/// # Errors
/// When the kernel does not tell.
pub fn unwritten(root: BorrowedFd<'_>) -> Result<Unwritten> {
    let device = fstat(root).act(|| "look at its root")?.st_dev;
    let device = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let name = std::fs::canonicalize(device).ok().and_then(|path| Some(path.file_name()?.to_owned()));
    let ext4 = name.map(|name| Path::new("/sys/fs/ext4").join(name).join("delayed_allocation_blocks"));
    let blocks = ext4.and_then(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let least = Bytes(blocks.unwrap_or(0).saturating_mul(4096));
    Ok(Unwritten { least, most: least.max(unwritten_of_all()?) })
}

/// What waits in memory for all disks together.
///
/// # Errors
/// When the kernel does not tell.
pub fn unwritten_of_all() -> Result<Bytes> {
    let path = "/proc/meminfo";
    let text = std::fs::read_to_string(path).act(|| format!("read {path}"))?;
    Ok(sum_of(&text))
}

fn sum_of(text: &str) -> Bytes {
    let lines = text.lines().filter(|line| line.starts_with("Dirty:") || line.starts_with("Writeback:"));
    let kibibytes = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
    kibibytes.map(Bytes::kib).sum()
}

/// The apparent bytes of the regular files below the directory `root`, each once however many names it has.
///
/// # Errors
/// When the tree cannot be read; `Interrupted`.
pub fn apparent_tree(root: BorrowedFd<'_>) -> Result<Bytes> {
    let (mut sum, mut linked) = (Bytes(0), HashSet::new());
    walk(root, &mut |found| {
        let counts = found.stat.st_nlink == 1 || linked.insert(identity(found.stat));
        if file_type(found.stat) == FileType::RegularFile && counts {
            sum += Bytes(u64::try_from(found.stat.st_size).unwrap_or(0));
        }
        Ok(Way::Down)
    })?;
    Ok(sum)
}

/// The blocks allocated to the directory `root` and everything below it, each file once however many names it has.
///
/// # Errors
/// When the tree cannot be read; `Interrupted`.
pub fn allocated(root: BorrowedFd<'_>) -> Result<Bytes> {
    // st_blocks counts 512 bytes whatever the block size (stat(2)).
    let blocks = |count: i64| Bytes(u64::try_from(count).unwrap_or(0) * 512);
    let mut sum = blocks(fstat(root).act(|| "look at a directory")?.st_blocks);
    let mut linked = HashSet::new();
    walk(root, &mut |found| {
        if found.stat.st_nlink == 1 || is_dir(found.stat) || linked.insert(identity(found.stat)) {
            sum += blocks(found.stat.st_blocks);
        }
        Ok(Way::Down)
    })?;
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::{allocated, sum_of};
    use crate::units::Bytes;
    use std::{
        fs::{self, File},
        os::fd::AsFd as _,
    };

    #[test]
    fn what_lies_in_memory_is_summed() {
        let text = "MemFree: 99 kB\nDirty:   120 kB\nWriteback:   8 kB\nWritebackTmp:  7 kB\n";
        assert_eq!(sum_of(text), Bytes::kib(128));
    }

    #[test]
    fn links_count_once_and_holes_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let dir = File::open(root.path()).unwrap();
        File::create(at("hole")).unwrap().set_len(1 << 30).unwrap();
        let empty = allocated(dir.as_fd()).unwrap().0;
        assert!(empty < 1 << 20, "{empty}");
        fs::write(at("data"), vec![1; 1 << 20]).unwrap();
        File::open(at("data")).unwrap().sync_all().unwrap();
        let one = allocated(dir.as_fd()).unwrap().0;
        assert!((1 << 20..2 << 20).contains(&(one - empty)), "{one} {empty}");
        fs::hard_link(at("data"), at("again")).unwrap();
        assert_eq!(allocated(dir.as_fd()).unwrap().0, one);
    }
}
