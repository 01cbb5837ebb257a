//! The chunks of one device that may be its alone, found without reading what it shares.
//!
//! Devices share nodes: a node that another device's tree has too leads to shared chunks only. So all inner nodes of
//! the others are read, each once, but of their leaves only the numbers; they are fewer than a hundredth of all nodes.

use std::collections::BTreeSet;

use super::{
    Node, Source, btree,
    compare::{entries, open},
};
use crate::error::Result;

/// Virtual chunks, in ascending order. Some may be shared still, where another tree has a leaf of its own for them.
pub(super) fn unshared(source: &Source, own: u64, others: &[u64]) -> Result<Vec<u64>> {
    let mut theirs = BTreeSet::new();
    for root in others {
        if !theirs.contains(root) {
            note(source, *root, btree::depth(source, *root)?, &mut theirs)?;
        }
    }
    let mut ours = vec![own];
    for height in (1..=btree::depth(source, own)?).rev() {
        ours.retain(|block| !theirs.contains(block));
        if height > 1 {
            ours = open(source, &ours)?;
        }
    }
    Ok(entries(source, &ours)?.into_iter().map(|mapping| mapping.virtual_chunk).collect())
}

fn note(source: &Source, block: u64, height: usize, seen: &mut BTreeSet<u64>) -> Result<()> {
    if !seen.insert(block) || height == 1 {
        return Ok(());
    }
    let node = Node::read(source, block)?;
    (0..node.len()).try_for_each(|index| note(source, node.number(index), height - 1, seen))
}
