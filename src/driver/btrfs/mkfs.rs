//! Runs `mkfs.btrfs`.

use std::path::Path;

use super::superblock::dashed;
use crate::{
    error::{Act as _, Result},
    program::MKFS_BTRFS,
};

/// Makes an empty btrfs with `uuid` on the blank `device`.
///
/// # Errors
/// `MissingProgram` without the program; else what it said.
pub(super) fn mkfs(device: &Path, uuid: [u8; 16]) -> Result<()> {
    // One copy of the metadata: the pool is one file on a disk that has its own redundancy or none, and the second
    // copy would double what each snapshot and each small write costs. The kernel reads nothing on a device it is
    // told to mount, so no scan is needed afterwards.
    let (device, uuid) = (device.to_string_lossy(), dashed(uuid));
    // With no-holes the kernel may store a file's new length before the bytes that it grew by, so a snapshot of a file
    // being written could show zeros; without, the length waits for them (`btrfs_inode_safe_disk_i_size_write`).
    let layout = ["--metadata", "single", "--data", "single", "--features", "^no-holes"];
    let options = [&["--quiet"], &layout[..], &["--label", "lamina", "--uuid", &uuid, &device]].concat();
    MKFS_BTRFS.succeed(&options).act(|| format!("make btrfs on {device}"))
}
