//! A digest of all that a copy of files shows, times left out: touching a file is no change.
//!
//! Invariant: whoever tells it the same things in the same order gets the same digest; no two different trees have one.

use rustix::fs::{FileType, major, minor};
use sha2::{Digest as _, Sha256};

use super::source::{Entry, KeptDirectory, Match, Source};
use crate::{error::Result, id::Digest};

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Fingerprint {
    hasher: Sha256,
    keeps_owners: bool,
}

impl Fingerprint {
    /// Of a match of `source`.
    ///
    /// # Errors
    /// The system's, about the directories that the match keeps.
    pub(super) fn new(source: &Source<'_>, found: &Match) -> Result<Self> {
        let mut print = Self { hasher: Sha256::new(), keeps_owners: source.keeps_owners };
        print.field(&found.name);
        for KeptDirectory { below, stat, xattrs } in source.kept_directories(found)? {
            print.entry(&Entry { path: &below, below: &below, stat: &stat });
            print.xattrs(&xattrs);
        }
        Ok(print)
    }

    fn field(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// The next entry: what every kind of file has.
    pub(super) fn entry(&mut self, entry: &Entry<'_>) {
        use std::os::unix::ffi::OsStrExt as _;
        let stat = entry.stat;
        self.field(entry.below.as_os_str().as_bytes());
        self.field(&stat.st_mode.to_le_bytes());
        if self.keeps_owners {
            self.field(&stat.st_uid.to_le_bytes());
            self.field(&stat.st_gid.to_le_bytes());
        }
        if let FileType::BlockDevice | FileType::CharacterDevice = FileType::from_raw_mode(stat.st_mode) {
            self.field(&major(stat.st_rdev).to_le_bytes());
            self.field(&minor(stat.st_rdev).to_le_bytes());
        }
    }

    /// That entry is a regular file with this content.
    pub(super) fn file(&mut self, content: Digest) {
        self.field(content.hex().as_bytes());
    }

    /// That entry, a file or directory, has these attributes.
    pub(super) fn xattrs(&mut self, xattrs: &[(Vec<u8>, Vec<u8>)]) {
        self.field(&(xattrs.len() as u64).to_le_bytes());
        for (name, value) in xattrs {
            self.field(name);
            self.field(value);
        }
    }

    /// That entry is a symlink.
    pub(super) fn link(&mut self, target: &[u8]) {
        self.field(target);
    }

    pub(super) fn finish(self) -> Digest {
        Digest::finish(self.hasher)
    }
}
