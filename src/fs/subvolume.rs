//! Subvolumes of a btrfs: the directories that can be snapshots of each other.
//!
//! Invariant: what is inside a subvolume is never walked; the kernel's tree of roots tells which subvolumes it holds.

use std::{
    ffi::CString,
    fs::File,
    io,
    ops::ControlFlow,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::sys::btrfs::{self, Range, SubvolumeInfo};

/// `BTRFS_ROOT_REF_KEY`: (holder, this, held) → directory, sequence, length of the name, name.
const ROOT_REF: u32 = 156;
/// `BTRFS_ORPHAN_OBJECTID`.
const ORPHANS: u64 = 0u64.wrapping_sub(5);

/// A subvolume that lies in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nested {
    /// Its number.
    pub id: u64,
    /// The inode of the directory that it lies in.
    pub directory: u64,
    /// Its name there.
    pub name: Vec<u8>,
}

/// Opens the subvolume `name` of `directory`.
///
/// # Errors
/// `EINVAL` if it is a directory like any other.
pub fn open(directory: impl AsFd, name: &Path) -> io::Result<(File, SubvolumeInfo)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // No symbolic link may lead elsewhere: a name may come from within a container.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let root = File::from(rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve)?);
    // Refused for what is not the root of a subvolume, while the next call tells of the subvolume around it.
    btrfs::is_read_only(&root)?;
    let info = btrfs::subvolume_info(&root)?;
    Ok((root, info))
}

/// The subvolumes that lie directly in the subvolume with number `holder`.
///
/// # Errors
/// The kernel's errno; `InvalidData` for an item of another form than the kernel documents.
pub fn nested(filesystem: impl AsFd, holder: u64) -> io::Result<Vec<Nested>> {
    let mut found = Vec::new();
    let mut malformed = false;
    let range = Range { tree: Range::ROOT_TREE, objects: (holder, holder), since: 0 };
    btrfs::search(filesystem, range, |item| {
        if item.kind == ROOT_REF {
            match root_ref(item.data) {
                Some((directory, name)) => found.push(Nested { id: item.offset, directory, name }),
                None => malformed = true,
            }
        }
        ControlFlow::Continue(())
    })?;
    if malformed { Err(io::ErrorKind::InvalidData.into()) } else { Ok(found) }
}

/// `struct btrfs_root_ref` and the name behind it.
fn root_ref(data: &[u8]) -> Option<(u64, Vec<u8>)> {
    let directory = u64::from_le_bytes(*data.first_chunk()?);
    let length = u16::from_le_bytes(*data.get(16..)?.first_chunk()?);
    Some((directory, data.get(18..18 + usize::from(length))?.to_vec()))
}

/// Deletes the subvolume `name` of `directory` with all that it holds, subvolumes included. Its space comes back in
/// the background: see [`any_deleted`].
///
/// # Errors
/// The kernel's errno: `ENOENT` if it is not there.
pub fn delete(directory: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let (root, info) = open(directory, name)?;
    let mut all = vec![(info.id, PathBuf::from("."))];
    let mut at = 0;
    while let Some((holder, path)) = all.get(at).cloned() {
        let held = nested(directory, holder)?;
        if !held.is_empty() {
            // In a read-only subvolume nothing can be deleted (btrfs_permission, fs/btrfs/inode.c).
            let (root, _) = open(&root, &path)?;
            if btrfs::is_read_only(&root)? {
                btrfs::set_read_only(&root, false)?;
            }
        }
        for Nested { id, directory: inode, name } in held {
            let mut below = btrfs::directory_path(directory, holder, inode)?;
            below.extend(name);
            all.push((id, path.join(std::ffi::OsStr::from_bytes(&below))));
        }
        at += 1;
    }
    for (id, _) in all[1..].iter().rev() {
        btrfs::destroy_subvolume_by_id(directory, *id)?;
    }
    let name = CString::new(name.as_os_str().as_bytes()).map_err(io::Error::other)?;
    btrfs::destroy_subvolume(directory, &name)
}

/// Whether there are deleted subvolumes whose space the kernel has yet to give back.
///
/// # Errors
/// The kernel's errno.
pub fn any_deleted(filesystem: impl AsFd) -> io::Result<bool> {
    let mut any = false;
    // The kernel notes each deleted subvolume under (orphans, orphan item, number) until it is cleaned.
    let range = Range { tree: Range::ROOT_TREE, objects: (ORPHANS, ORPHANS), since: 0 };
    btrfs::search(filesystem, range, |_| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::root_ref;

    #[test]
    fn a_root_reference_is_parsed_or_refused() {
        let mut data = vec![0u8; 18];
        data[0] = 7;
        data[16] = 2;
        data.extend(b"ab");
        assert_eq!(root_ref(&data), Some((7, b"ab".to_vec())));
        data[16] = 3;
        assert_eq!(root_ref(&data), None);
        assert_eq!(root_ref(&data[..17]), None);
    }
}
