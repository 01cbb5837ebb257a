//! Another program that keeps images and containers, as the distribution packages it, with one of its storage drivers.

use std::path::Path;

use super::{Row, Stage};
use crate::{
    bench::ground::Directory,
    driver::{DriverKind, pool},
    error::Result,
    fs::BlockFs,
    program::{MKFS_BTRFS, MKFS_EXT4, Program},
    units::Bytes,
};

/// See the module's comment.
#[derive(Debug)]
pub(in crate::bench) struct Peer {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// What it calls its storage driver.
    pub(super) storage: &'static str,
    /// What that needs of the kernel: the same as this driver of ours.
    pub(super) kernel: DriverKind,
    /// Of its disk.
    pub(super) fs: BlockFs,
    pub(super) programs: &'static [Program],
    /// Starts it with that storage driver on a disk.
    pub(super) start: fn(&'static str, Directory) -> Result<Box<dyn Stage>>,
}

impl Row for Peer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn is_peer(&self) -> bool {
        true
    }

    fn usable(&self) -> Result<()> {
        let mkfs = if self.fs == BlockFs::Btrfs { MKFS_BTRFS } else { MKFS_EXT4 };
        self.programs.iter().chain([&mkfs]).try_for_each(|program| program.find().map(drop))?;
        pool::supported(self.kernel)
    }

    fn stage(&self, below: &Path, size: Bytes) -> Result<Box<dyn Stage>> {
        let mut disk = Directory::new(below, &self.name.replace('/', "-"))?;
        disk.add_disk(self.fs, size)?;
        (self.start)(self.storage, disk)
    }
}
