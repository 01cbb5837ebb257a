//! Nodes of the kernel's B+-trees, and walks over them.
//!
//! Invariant: a [`Node`] was verified: checksum, own number, and that its entries lie inside the block.

use super::{Block, Source, checksum};
use crate::error::{Error, Kind, Result};

/// `BTREE_CSUM_XOR`.
const SEED: u32 = 121_107;
const LEAF: u32 = 2;
const HEADER: usize = 32;
/// No tree that fits a metadata device of 16 GiB is as deep; a deeper one has a cycle.
const MAX_DEPTH: usize = 32;

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A verified node.
pub(super) struct Node {
    block: Box<Block>,
    entries: usize,
    max_entries: usize,
    value_size: usize,
}

impl Node {
    pub(super) fn read(source: &Source, at: u64) -> Result<Self> {
        let block = Box::new(source.block(at)?);
        let bad = |what: &str| Error::new(Kind::Corrupt, format!("node in block {at} of pool metadata: {what}"));
        if le32(&*block, 0) != checksum(&block, SEED) {
            return Err(bad("wrong checksum"));
        }
        if le64(&*block, 8) != at {
            return Err(bad("it says that it is another block"));
        }
        let word = |at| usize::try_from(le32(&*block, at)).unwrap_or(usize::MAX);
        let (entries, max_entries, value_size) = (word(16), word(20), word(24));
        let size = (value_size.saturating_add(8)).saturating_mul(max_entries).saturating_add(HEADER);
        if entries > max_entries || size > block.len() {
            return Err(bad("its entries reach beyond it"));
        }
        let node = Self { block, entries, max_entries, value_size };
        if !node.is_leaf() && (node.value_size != 8 || node.entries == 0) {
            return Err(bad("it is an inner node without children"));
        }
        Ok(node)
    }

    pub(super) fn is_leaf(&self) -> bool {
        le32(&*self.block, 4) & LEAF != 0
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    pub(super) fn key(&self, index: usize) -> u64 {
        le64(&*self.block, HEADER + index * 8)
    }

    pub(super) fn value(&self, index: usize) -> &[u8] {
        let at = HEADER + self.max_entries * 8 + index * self.value_size;
        &self.block[at..at + self.value_size]
    }

    /// The value of a node whose values are 64-bit numbers: any inner node, and leaves of mappings.
    pub(super) fn number(&self, index: usize) -> u64 {
        le64(self.value(index), 0)
    }

    /// The last entry whose key is not above `key`.
    fn find(&self, key: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.key(middle) <= key { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1)
    }
}

fn too_deep(root: u64) -> Error {
    Error::new(Kind::Corrupt, format!("tree with its root in block {root} of pool metadata is deeper than {MAX_DEPTH}"))
}

/// The 64-bit value of `key`.
pub(super) fn lookup(source: &Source, root: u64, key: u64) -> Result<Option<u64>> {
    let mut at = root;
    for _ in 0..MAX_DEPTH {
        let node = Node::read(source, at)?;
        let Some(index) = node.find(key) else { return Ok(None) };
        if node.is_leaf() {
            return Ok((node.key(index) == key).then(|| node.number(index)));
        }
        at = node.number(index);
    }
    Err(too_deep(root))
}

/// How many nodes lie on the way from the root to a leaf.
pub(super) fn depth(source: &Source, root: u64) -> Result<usize> {
    let mut at = root;
    for depth in 1..=MAX_DEPTH {
        let node = Node::read(source, at)?;
        if node.is_leaf() {
            return Ok(depth);
        }
        at = node.number(0);
    }
    Err(too_deep(root))
}

/// Shows each entry of the tree, in ascending order; `size` is that of its values.
pub(super) fn each_entry(source: &Source, root: u64, size: usize, see: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
    fn walk(source: &Source, (at, level): (u64, usize), size: usize, see: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let node = Node::read(source, at)?;
        if level == 0 {
            return Err(too_deep(at));
        }
        if !node.is_leaf() {
            return (0..node.len()).try_for_each(|index| walk(source, (node.number(index), level - 1), size, see));
        }
        if node.value_size != size && node.len() > 0 {
            let found = node.value_size;
            let what = format!("leaf in block {at} of pool metadata has values of {found} bytes, not {size}");
            return Err(Error::new(Kind::Corrupt, what));
        }
        (0..node.len()).for_each(|index| see(node.key(index), node.value(index)));
        Ok(())
    }
    walk(source, (root, MAX_DEPTH), size, see)
}
