//! The difference of two devices' mappings, found without reading what they share.
//!
//! Both trees are opened level by level from equal height. A block that is a node of both at the same height is the
//! same subtree and is dropped from both; what remains grows with the difference alone.

use std::collections::BTreeSet;

use super::{Node, Source, btree};
use crate::error::{Error, Kind, Result};

/// Where a virtual chunk lies on the data device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// Number of the chunk in the thin device.
    pub virtual_chunk: u64,
    /// Number of the chunk in the data device.
    pub chunk: u64,
}

/// How a child's mappings differ from its parent's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Chunks that the child has and the parent has not at that place, in ascending order.
    pub own: Vec<Mapping>,
    /// Virtual chunks that the parent has and the child has given back, in ascending order.
    pub gone: Vec<u64>,
}

pub(super) fn compare(source: &Source, parent: u64, child: u64) -> Result<Difference> {
    if parent == child {
        return Ok(Difference::default());
    }
    let (mut parent_height, mut child_height) = (btree::depth(source, parent)?, btree::depth(source, child)?);
    let (mut parents, mut children) = (vec![parent], vec![child]);
    while parent_height > child_height {
        parents = open(source, &parents)?;
        parent_height -= 1;
    }
    while child_height > parent_height {
        children = open(source, &children)?;
        child_height -= 1;
    }
    loop {
        drop_common(&mut parents, &mut children);
        if parent_height == 1 {
            return Ok(merge(&entries(source, &parents)?, &entries(source, &children)?));
        }
        (parents, children) = (open(source, &parents)?, open(source, &children)?);
        parent_height -= 1;
    }
}

fn drop_common(left: &mut Vec<u64>, right: &mut Vec<u64>) {
    let in_left: BTreeSet<u64> = left.iter().copied().collect();
    let common: BTreeSet<u64> = right.iter().copied().filter(|block| in_left.contains(block)).collect();
    left.retain(|block| !common.contains(block));
    right.retain(|block| !common.contains(block));
}

/// The nodes one level below.
pub(super) fn open(source: &Source, blocks: &[u64]) -> Result<Vec<u64>> {
    let mut below = Vec::new();
    for block in blocks {
        let node = Node::read(source, *block)?;
        if node.is_leaf() {
            return Err(uneven(*block));
        }
        below.extend((0..node.len()).map(|index| node.number(index)));
    }
    Ok(below)
}

pub(super) fn entries(source: &Source, leaves: &[u64]) -> Result<Vec<Mapping>> {
    let mut entries = Vec::new();
    for block in leaves {
        let node = Node::read(source, *block)?;
        if !node.is_leaf() {
            return Err(uneven(*block));
        }
        // The low 24 bits are the time of the mapping (unpack_block_time).
        let mapping = |index| Mapping { virtual_chunk: node.key(index), chunk: node.number(index) >> 24 };
        entries.extend((0..node.len()).map(mapping));
    }
    Ok(entries)
}

fn uneven(block: u64) -> Error {
    Error::new(Kind::Corrupt, format!("node in block {block} of pool metadata lies at the wrong height"))
}

fn merge(parents: &[Mapping], children: &[Mapping]) -> Difference {
    let mut difference = Difference::default();
    let (mut old, mut new) = (parents.iter().peekable(), children.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (None, None) => return difference,
            (Some(parent), Some(child)) if parent.virtual_chunk == child.virtual_chunk => {
                if parent.chunk != child.chunk {
                    difference.own.push(**child);
                }
                old.next();
                new.next();
            }
            (Some(parent), Some(child)) if parent.virtual_chunk < child.virtual_chunk => {
                difference.gone.push(parent.virtual_chunk);
                old.next();
            }
            (Some(parent), None) => {
                difference.gone.push(parent.virtual_chunk);
                old.next();
            }
            (_, Some(child)) => {
                difference.own.push(**child);
                new.next();
            }
        }
    }
}
