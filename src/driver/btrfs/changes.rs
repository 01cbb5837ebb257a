//! How a sealed volume differs from its parent: the kernel's send stream tells where to look, the trees themselves
//! tell what is there. Time follows the change, not the image.
//!
//! Why looking only there is exact. At a path whose directories above are the same ones in both trees (same inode, so
//! never moved), a name that came, went or names something else is spoken of by the stream under that very path; below
//! a directory that was made or moved, everything is compared. A changed file is spoken of by one of its names: the
//! others are looked up in the child's tree.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs::File,
    io,
    ops::ControlFlow,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    thread,
};

use super::receiver::{Receiver, Touched};
use crate::{
    driver::Changes,
    error::{Act as _, Result},
    fs::{Verdict, compare_at, is_dir, locate, send_stream::SendStream},
    sys::btrfs::{self, Item, Range, SubvolumeInfo},
};

/// `BTRFS_INODE_REF_KEY` and `BTRFS_INODE_EXTREF_KEY`: the names of an inode.
const INODE_REF: u32 = 12;
const INODE_EXTREF: u32 = 13;
/// `BTRFS_DIR_INDEX_KEY`: a name in a directory; `BTRFS_ROOT_ITEM_KEY`, where it leads if it is a subvolume's.
const DIR_INDEX: u32 = 96;
const ROOT_ITEM: u8 = 132;

/// One side of the comparison.
pub(super) type Volume = (File, SubvolumeInfo);

pub(super) fn changes(parent: &Volume, child: &Volume) -> Result<Changes> {
    let touched = receive(&child.0, parent.1.id)?;
    let mut candidates = touched.names;
    let mut subtrees = touched.arrived;
    let mut written = HashSet::new();
    for (path, data) in &touched.files {
        let Some(found) = locate(child.0.as_fd(), path)? else { continue };
        let Some(stat) = found.place().stat()? else { continue };
        if *data {
            written.insert(stat.st_ino);
        }
        if stat.st_nlink > 1 && !is_dir(&stat) {
            add(&mut candidates, &mut subtrees, names_of(child, stat.st_ino))?;
        }
    }
    add(&mut candidates, &mut subtrees, stubs(child, parent.1.changed))?;
    compare_at(parent.0.as_fd(), child.0.as_fd(), &candidates, &subtrees, &mut |pair| {
        // The child began as the parent, so the same number is the same file, unless the stream says it was written.
        let same = pair.parent.1.st_ino == pair.child.1.st_ino && !written.contains(&pair.child.1.st_ino);
        Ok(if same { Verdict::Same } else { Verdict::Unknown })
    })
}

/// Adds names that the kernel told; one that is too long for it to tell makes us look everywhere.
fn add(
    candidates: &mut BTreeSet<PathBuf>,
    subtrees: &mut BTreeSet<PathBuf>,
    found: io::Result<Vec<PathBuf>>,
) -> Result<()> {
    match found {
        Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
            subtrees.insert(PathBuf::new());
        }
        found => candidates.extend(found.act(|| "ask for the names of a file")?),
    }
    Ok(())
}

/// Runs the send in a thread and follows what it writes.
fn receive(child: &File, parent: u64) -> Result<Touched> {
    let (reader, writer) = io::pipe().act(|| "make a pipe")?;
    thread::scope(|scope| {
        let sender = scope.spawn(move || btrfs::send_changes(child, parent, &writer));
        let followed = follow(reader);
        // The reader is closed by now, so the kernel does not wait for us.
        let sent = sender.join().unwrap_or_else(|_| Err(io::Error::other("the sending thread panicked")));
        match (sent, followed) {
            // The one that failed first made the other fail.
            (Err(error), _) if error.raw_os_error() != Some(libc::EPIPE) => {
                Err(error).act(|| "ask the kernel for the changes (BTRFS_IOC_SEND)")
            }
            (_, followed) => followed,
        }
    })
}

fn follow(reader: impl io::Read) -> Result<Touched> {
    let mut stream = SendStream::new(io::BufReader::with_capacity(64 << 10, reader))?;
    let mut receiver = Receiver::new();
    while let Some(command) = stream.next_command()? {
        crate::interrupt::check()?;
        receiver.apply(command);
    }
    Ok(receiver.finish())
}

/// All names of the file `inode`.
fn names_of(volume: &Volume, inode: u64) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    let range = Range { tree: volume.1.id, objects: (inode, inode), since: 0 };
    btrfs::search(&volume.0, range, |item| {
        match item.kind {
            INODE_REF => references(item.data, Some(item.offset), &mut names),
            INODE_EXTREF => references(item.data, None, &mut names),
            // The file's extents follow, which can be many.
            kind if kind > INODE_EXTREF => return ControlFlow::Break(()),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    names.iter().map(|(directory, name)| full_path(volume, *directory, name)).collect()
}

/// `struct btrfs_inode_ref` for names in the directory of the key, else `struct btrfs_inode_extref` with it in front;
/// each with its name behind it, several in a row.
fn references(mut data: &[u8], directory: Option<u64>, names: &mut Vec<(u64, Vec<u8>)>) {
    let mut next = || -> Option<(u64, Vec<u8>)> {
        let directory = match directory {
            Some(directory) => directory,
            None => take(&mut data, 8).and_then(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)))?,
        };
        let header = take(&mut data, 10)?;
        let length = u16::from_le_bytes([header[8], header[9]]);
        Some((directory, take(&mut data, length.into())?.to_vec()))
    };
    while let Some(name) = next() {
        names.push(name);
    }
}

fn take<'a>(data: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(taken)
}

/// The empty directories that a snapshot has where its source had subvolumes: they are new, and a send passes over
/// them.
fn stubs(volume: &Volume, since: u64) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let range = Range { tree: volume.1.id, objects: (0, u64::MAX), since: since + 1 };
    btrfs::search(&volume.0, range, |item| {
        found.extend(stub(item));
        ControlFlow::Continue(())
    })?;
    found.iter().map(|(directory, name)| full_path(volume, *directory, name)).collect()
}

/// `struct btrfs_dir_item`: a key, a transaction, two lengths and a type, then the name.
fn stub(item: &Item<'_>) -> Option<(u64, Vec<u8>)> {
    if item.kind != DIR_INDEX || *item.data.get(8)? != ROOT_ITEM {
        return None;
    }
    let length = usize::from(item.short(27)?);
    Some((item.object, item.data.get(30..30 + length)?.to_vec()))
}

fn full_path(volume: &Volume, directory: u64, name: &[u8]) -> io::Result<PathBuf> {
    let above = btrfs::directory_path(&volume.0, volume.1.id, directory)?;
    Ok(Path::new(OsStr::from_bytes(&above)).join(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::references;

    #[test]
    fn several_names_lie_in_one_item() {
        let one = |name: &[u8]| [&[9; 8], &[u8::try_from(name.len()).unwrap(), 0][..], name].concat();
        let mut names = Vec::new();
        references(&[one(b"a"), one(b"bc")].concat(), Some(256), &mut names);
        references(&[&[7, 1, 0, 0, 0, 0, 0, 0][..], &one(b"d")].concat(), None, &mut names);
        references(&one(b"cut off")[..12], Some(256), &mut names);
        assert_eq!(names, [(256, b"a".to_vec()), (256, b"bc".to_vec()), (263, b"d".to_vec())]);
    }
}
