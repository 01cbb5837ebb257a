//! What a volume has and its parent has not, read from the volume's own tree.
//!
//! A sealed parent's blocks are all as old as the last transaction that changed an inode in it, or older; what a child
//! wrote itself is younger. The kernel's search skips every node that is older, so the time this takes follows the
//! volume's own changes. Quota groups would tell it too, at a cost for each commit of everybody.
//!
//! Data is exact: each extent that the volume made and still refers to counts once, whole, as it does on disk.
//! Metadata is the fewest nodes that can hold the volume's own items, because the search shows items and not the nodes
//! around them: it is exact for a fresh snapshot (its root node) and never more than what is there.

use std::{collections::HashSet, io, ops::ControlFlow, os::fd::AsFd};

use crate::{
    sys::btrfs::{self, Item, Range},
    units::Bytes,
};

/// `BTRFS_EXTENT_DATA_KEY`.
const EXTENT_DATA: u32 = 108;
/// `BTRFS_FILE_EXTENT_INLINE`: the data lies in the item.
const INLINE: u8 = 0;
/// `struct btrfs_header` in front of a node, `struct btrfs_item` for each item of a leaf.
const NODE_HEADER: u64 = 101;
const ITEM_HEADER: u64 = 25;
/// `struct btrfs_key_ptr`: what a node above the leaves has for each node below it.
const KEY_POINTER: u64 = 33;

/// The bytes that the subvolume `id` wrote after transaction `since` and still has; all of its bytes for 0.
pub(super) fn exclusive(filesystem: impl AsFd, id: u64, since: u64, node: u32) -> io::Result<Bytes> {
    let mut data = 0;
    let mut leaves = 0;
    let mut extents = HashSet::new();
    let range = Range { tree: id, objects: (0, u64::MAX), since: since + 1 };
    btrfs::search(filesystem, range, |item| {
        leaves += ITEM_HEADER + item.data.len() as u64;
        if let Some(extent) = own_extent(item, since).filter(|extent| extents.insert(extent.start)) {
            data += extent.length;
        }
        ControlFlow::Continue(())
    })?;
    Ok(Bytes(data + nodes(leaves, u64::from(node)) * u64::from(node)))
}

/// The fewest nodes of a tree whose leaves hold `bytes`; a tree has at least one.
fn nodes(bytes: u64, node: u64) -> u64 {
    let room = node - NODE_HEADER;
    let mut level = bytes.div_ceil(room).max(1);
    let mut all = level;
    while level > 1 {
        level = level.div_ceil(room / KEY_POINTER);
        all += level;
    }
    all
}

#[derive(Debug, PartialEq, Eq)]
struct Extent {
    start: u64,
    length: u64,
}

/// The extent on disk that a `struct btrfs_file_extent_item` refers to, if it was written after `since`. Inline data
/// is counted with its leaf, and a hole has no extent.
fn own_extent(item: &Item<'_>, since: u64) -> Option<Extent> {
    if item.kind != EXTENT_DATA || *item.data.get(20)? == INLINE {
        return None;
    }
    let (generation, start, length) = (item.long(0)?, item.long(21)?, item.long(29)?);
    (generation > since && start != 0).then_some(Extent { start, length })
}

#[cfg(test)]
mod tests {
    use super::{EXTENT_DATA, Extent, Item, nodes, own_extent};

    #[test]
    fn a_tree_has_its_leaves_and_what_leads_to_them() {
        let node = 16384;
        assert_eq!(nodes(0, node), 1);
        assert_eq!(nodes(16283, node), 1);
        assert_eq!(nodes(16284, node), 3);
        assert_eq!(nodes(16283 * 493, node), 494);
        assert_eq!(nodes(16283 * 494, node), 497);
    }

    #[test]
    fn only_young_extents_on_disk_count() {
        let mut data = [0u8; 53];
        data[0] = 9;
        data[20] = 1;
        data[21] = 4;
        data[30] = 1;
        let extent =
            |kind, data: &[u8], since| own_extent(&Item { object: 257, kind, offset: 0, transaction: 9, data }, since);
        assert_eq!(extent(EXTENT_DATA, &data, 8), Some(Extent { start: 4, length: 256 }));
        assert_eq!(extent(EXTENT_DATA, &data, 9), None);
        assert_eq!(extent(1, &data, 8), None);
        assert_eq!(extent(EXTENT_DATA, &data[..30], 8), None);
        data[20] = 0;
        assert_eq!(extent(EXTENT_DATA, &data, 8), None, "inline");
        (data[20], data[21]) = (1, 0);
        assert_eq!(extent(EXTENT_DATA, &data, 8), None, "hole");
    }
}
