//! How much a volume's files that are not its parent's come to, read from the volume's own tree while it may be written.
//!
//! The kernel's search skips what is older than the parent; each inode item tells the transaction that changed it. What
//! cannot be judged by inode items alone, a directory under another name, a file whose content alone may differ, is left to
//! a comparison: the answer is that of [`changes`](super::changes), or none.

use std::{io, ops::ControlFlow, os::fd::AsFd};

use crate::{
    sys::btrfs::{self, Item, Range},
    units::Bytes,
};

/// `BTRFS_INODE_ITEM_KEY`, `BTRFS_INODE_REF_KEY`, `BTRFS_INODE_EXTREF_KEY`.
const INODE_ITEM: u32 = 1;
const INODE_REF: u32 = 12;
const INODE_EXTREF: u32 = 13;
/// `BTRFS_FIRST_FREE_OBJECTID`: the root directory, which has one name for ever.
const ROOT: u64 = 256;

/// With more to look up than this, a comparison is as fast.
const MOST: usize = 4096;

/// A subvolume's number, and the transaction that last changed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    pub(super) id: u64,
    pub(super) changed: u64,
}

/// What a `struct btrfs_inode_item` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    created: u64,
    changed: u64,
    size: u64,
    links: u32,
    /// Mode, owner, group.
    access: [u32; 3],
    modified: [u8; 12],
}

impl Inode {
    fn parse(item: &Item<'_>) -> Option<Self> {
        Some(Self {
            created: item.long(0)?,
            changed: item.long(8)?,
            size: item.long(16)?,
            links: item.int(40)?,
            access: [item.int(52)?, item.int(44)?, item.int(48)?],
            modified: *item.data.get(136..)?.first_chunk()?,
        })
    }

    fn is(&self, kind: u32) -> bool {
        self.access[0] & libc::S_IFMT == kind
    }

    /// What a comparison takes for a change of a file, whatever it holds.
    fn differs(&self, other: &Self) -> bool {
        (self.size, self.access, self.modified) != (other.size, other.access, other.modified)
    }
}

/// Apparent bytes of the regular files that `child` has and `parent` has not, or not so.
pub(super) fn written(filesystem: impl AsFd, parent: Tree, child: u64) -> io::Result<Option<Bytes>> {
    let (mut size, mut files, mut directories) = (Bytes(0), Vec::new(), Vec::new());
    let range = Range { tree: child, objects: (ROOT, u64::MAX), since: parent.changed + 1 };
    btrfs::search(&filesystem, range, |item| {
        let inode = if item.kind == INODE_ITEM { Inode::parse(item) } else { None };
        // One without a name is open still, and gone then.
        let Some(inode) = inode.filter(|inode| inode.changed > parent.changed && inode.links > 0) else {
            return ControlFlow::Continue(());
        };
        match inode {
            _ if inode.is(libc::S_IFREG) && inode.created > parent.changed => size += Bytes(inode.size),
            _ if inode.is(libc::S_IFREG) => files.push((item.object, inode)),
            _ if inode.is(libc::S_IFDIR) && inode.created <= parent.changed && item.object != ROOT => {
                directories.push(item.object);
            }
            _ => {}
        }
        if files.len() + directories.len() > MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if files.len() + directories.len() > MOST {
        return Ok(None);
    }
    for (number, inode) in files {
        match inode_of(&filesystem, parent.id, number)? {
            Some(before) if !inode.differs(&before) => return Ok(None),
            _ => size += Bytes(inode.size),
        }
    }
    for number in directories {
        if names_of(&filesystem, parent.id, number)? != names_of(&filesystem, child, number)? {
            return Ok(None);
        }
    }
    Ok(Some(size))
}

fn inode_of(filesystem: impl AsFd, tree: u64, number: u64) -> io::Result<Option<Inode>> {
    let mut found = None;
    btrfs::search(filesystem, Range { tree, objects: (number, number), since: 0 }, |item| {
        if item.kind == INODE_ITEM {
            found = Inode::parse(item);
        }
        // It is the first of its items.
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Where an inode has which names, as the kernel has it.
fn names_of(filesystem: impl AsFd, tree: u64, number: u64) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut names = Vec::new();
    btrfs::search(filesystem, Range { tree, objects: (number, number), since: 0 }, |item| {
        if matches!(item.kind, INODE_REF | INODE_EXTREF) {
            names.push((item.offset, item.data.to_vec()));
        }
        if item.kind > INODE_EXTREF { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{INODE_ITEM, Inode, Item};

    #[test]
    fn an_inode_item_is_read_where_the_kernel_writes_it() {
        let mut data = [0u8; 160];
        data[0] = 7; // generation
        data[8] = 9; // transid
        data[17] = 1; // size
        data[40] = 2; // nlink
        data[44] = 3; // uid
        data[48] = 4; // gid
        data[52..56].copy_from_slice(&0o100_644u32.to_le_bytes());
        data[136] = 5; // mtime
        let item = |data| Item { object: 257, kind: INODE_ITEM, offset: 0, transaction: 9, data };
        let inode = Inode::parse(&item(&data)).unwrap();
        assert_eq!((inode.created, inode.changed, inode.size, inode.links), (7, 9, 256, 2));
        assert_eq!(inode.access, [0o100_644, 3, 4]);
        assert!(inode.is(libc::S_IFREG) && !inode.is(libc::S_IFDIR));
        let mut other = inode;
        other.changed = 10;
        assert!(!inode.differs(&other));
        other.modified[0] = 6;
        assert!(inode.differs(&other));
        assert_eq!(Inode::parse(&item(&data[..100])), None);
    }
}
