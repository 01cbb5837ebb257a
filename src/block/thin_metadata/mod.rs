//! A reader of the thin-pool's metadata on disk (drivers/md/dm-thin-metadata.c, persistent-data/dm-btree-internal.h).
//!
//! All is in blocks of 4096 bytes, little-endian. The superblock, or its copy that a metadata snapshot is, holds the
//! roots of two B+-trees: *details* (device -> how many chunks, when) and *mappings* (device -> root of a tree of
//! virtual chunk -> chunk and time). Trees share nodes: a snapshot starts with its origin's root, and a change copies
//! the nodes on its path. So two devices are compared in time that follows their difference, by skipping equal nodes.
//!
//! Invariant: nothing is used of a block whose checksum, number and bounds were not verified; a bad block is an error.

mod btree;
mod compare;
mod source;
mod unshared;

use std::collections::BTreeMap;

pub use compare::{Difference, Mapping};
pub use source::Source;

use super::thin_pool::METADATA_BLOCK;
use crate::error::{Error, Kind, Result};
use btree::{Node, le32, le64};

/// `THIN_SUPERBLOCK_MAGIC`.
const MAGIC: u64 = 27_022_010;
/// `SUPERBLOCK_CSUM_XOR`.
const SUPERBLOCK_SEED: u32 = 160_774;

/// One block.
pub(crate) type Block = [u8; 4096];
const _: () = assert!(METADATA_BLOCK.0 == 4096, "a block is what the kernel's metadata block is");

/// What the superblock tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Where the metadata snapshot lies, zero for none.
    pub held_root: u64,
    /// Length of a chunk in sectors.
    pub chunk_sectors: u32,
    /// How many metadata blocks the pool has.
    pub metadata_blocks: u64,
    /// How many of them are taken; zero in a metadata snapshot.
    pub metadata_taken: u64,
    /// How many chunks the pool has; zero in a metadata snapshot, which has no space maps.
    pub data_chunks: u64,
    mappings: u64,
    details: u64,
}

/// What the pool tells of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details {
    /// Chunks mapped, shared ones included.
    pub mapped: u64,
    /// The pool's snapshot counter when this was made or last snapshotted.
    pub snapshotted: u32,
}

/// Metadata open for reading.
#[derive(Debug)]
pub struct Metadata<'a> {
    source: &'a Source,
    superblock: Superblock,
}

/// The kernel's checksum: CRC-32C without the final inversion, and a constant per kind of block.
fn checksum(block: &Block, seed: u32) -> u32 {
    !crc32c::crc32c(&block[4..]) ^ seed
}

fn parse_superblock(block: &Block, at: u64) -> Result<Superblock> {
    let bad = |what: String| Error::new(Kind::Corrupt, format!("thin-pool superblock in metadata block {at}: {what}"));
    if le64(block, 32) != MAGIC {
        return Err(bad(format!("magic number is {}, not {MAGIC}", le64(block, 32))));
    }
    if le32(block, 0) != checksum(block, SUPERBLOCK_SEED) {
        return Err(bad("wrong checksum".to_owned()));
    }
    if le64(block, 8) != at {
        return Err(bad(format!("it says that it is block {}", le64(block, 8))));
    }
    Ok(Superblock {
        held_root: le64(block, 56),
        // `struct disk_sm_root` starts with the number of blocks and how many of them are allocated.
        data_chunks: le64(block, 64),
        metadata_taken: le64(block, 200),
        mappings: le64(block, 320),
        details: le64(block, 328),
        chunk_sectors: le32(block, 336),
        metadata_blocks: le64(block, 344),
    })
}

impl<'a> Metadata<'a> {
    /// Reads the superblock in block `at`: zero for the pool's own, else that of a metadata snapshot.
    ///
    /// # Errors
    /// `Corrupt` if there is none; when it cannot be read.
    pub fn open(source: &'a Source, at: u64) -> Result<Self> {
        Ok(Self { superblock: parse_superblock(&source.block(at)?, at)?, source })
    }

    /// What the superblock tells.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// All thin devices.
    ///
    /// # Errors
    /// When metadata cannot be read or is damaged.
    pub fn devices(&self) -> Result<BTreeMap<u64, Details>> {
        let mut devices = BTreeMap::new();
        btree::each_entry(self.source, self.superblock.details, 24, &mut |id, value| {
            devices.insert(id, Details { mapped: le64(value, 0), snapshotted: le32(value, 20) });
        })?;
        Ok(devices)
    }

    /// The root of a device's mappings; `None` if there is no such device.
    ///
    /// # Errors
    /// When metadata cannot be read or is damaged.
    pub fn device(&self, id: u64) -> Result<Option<u64>> {
        btree::lookup(self.source, self.superblock.mappings, id)
    }

    /// In which chunk of the data device the virtual chunk of a device lies.
    ///
    /// # Errors
    /// When metadata cannot be read or is damaged.
    pub fn chunk_of(&self, id: u64, virtual_chunk: u64) -> Result<Option<u64>> {
        let Some(root) = self.device(id)? else { return Ok(None) };
        Ok(btree::lookup(self.source, root, virtual_chunk)?.map(|value| value >> 24))
    }

    /// How the mappings of `child` differ from those of `parent`.
    ///
    /// # Errors
    /// `NotFound` without such a device; when metadata cannot be read or is damaged.
    pub fn compare(&self, parent: u64, child: u64) -> Result<Difference> {
        let root = |id: u64| {
            self.device(id)?.ok_or_else(|| Error::new(Kind::NotFound, format!("the pool has no thin device {id}")))
        };
        compare::compare(self.source, root(parent)?, root(child)?)
    }

    /// Virtual chunks of a device that no other is known to have, in ascending order; `None` without such a device.
    ///
    /// # Errors
    /// When metadata cannot be read or is damaged.
    pub fn unshared(&self, id: u64) -> Result<Option<Vec<u64>>> {
        let (mut own, mut others) = (None, Vec::new());
        btree::each_entry(self.source, self.superblock.mappings, 8, &mut |device, root| {
            if device == id { own = Some(le64(root, 0)) } else { others.push(le64(root, 0)) }
        })?;
        own.map(|own| unshared::unshared(self.source, own, &others)).transpose()
    }
}

#[cfg(test)]
mod tests;
