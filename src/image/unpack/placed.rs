//! What this layer put into the tree, so that its whiteouts spare it wherever they stand in the archive.
//!
//! Invariant: bounded memory. Only what lies in a directory of an earlier layer is remembered (in a directory that this
//! layer made, there is nothing of earlier layers to remove), as 64-bit keys; once the limit is reached, a whiteout
//! that would need the forgotten ones is refused instead of guessed.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use crate::error::{Error, Kind, Result};

/// 1.8 million keys fill a hash table of 2 Mi slots: 19 MiB.
const LIMIT: usize = 1_800_000;

#[derive(Debug, Default)]
pub(super) struct Placed {
    keys: HashSet<u64>,
    hasher: RandomState,
    forgot: bool,
}

impl Placed {
    /// Notes that this layer made the directory with this inode number.
    pub(super) fn made(&mut self, directory: u64) {
        self.insert(self.hasher.hash_one(directory));
    }

    /// Whether this layer made the directory. A forgotten one counts as not made, which is always safe.
    pub(super) fn is_ours(&self, directory: u64) -> bool {
        self.keys.contains(&self.hasher.hash_one(directory))
    }

    /// Notes that this layer put `name` into `directory`, which an earlier layer made.
    pub(super) fn put(&mut self, directory: u64, name: &[u8]) {
        self.insert(self.hasher.hash_one((directory, name)));
    }

    /// Whether this layer put `name` into `directory`.
    pub(super) fn has(&self, directory: u64, name: &[u8]) -> bool {
        self.keys.contains(&self.hasher.hash_one((directory, name)))
    }

    /// Whether this layer put `name` into `directory`, as far as is known.
    pub(super) fn may_have(&self, directory: u64, name: &[u8]) -> bool {
        self.forgot || self.has(directory, name)
    }

    /// Asked before a whiteout takes effect.
    pub(super) fn complete(&self) -> Result<()> {
        if self.forgot {
            return Err(Error::new(
                Kind::Unsupported,
                format!("a whiteout after more than {LIMIT} entries in directories; sort whiteouts to the front"),
            ));
        }
        Ok(())
    }

    fn insert(&mut self, key: u64) {
        if self.keys.len() < LIMIT {
            self.keys.insert(key);
        } else {
            self.forgot = true;
        }
    }
}
