//! Where metadata is read from: a block device, past its page cache, which knows nothing of what the pool wrote; or a
//! file that no pool uses at the moment.
//!
//! Invariant: reads go to buffers aligned to 4096 bytes, as direct I/O wants them.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use super::Block;
use crate::error::{Act as _, Result};

/// An open metadata device or file.
#[derive(Debug)]
pub struct Source {
    file: File,
    path: PathBuf,
}

#[repr(C, align(4096))]
struct Aligned(Block);

impl Source {
    /// Opens the device or file at `path`.
    ///
    /// # Errors
    /// The system's reason.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true);
            if std::fs::metadata(path)?.file_type().is_block_device() {
                options.custom_flags(libc::O_DIRECT);
            }
            options.open(path)
        };
        let file = open().act(|| format!("open pool metadata {}", path.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The 4096 bytes of block `at`.
    ///
    /// # Errors
    /// The system's reason.
    pub fn block(&self, at: u64) -> Result<[u8; 4096]> {
        let mut buffer = Box::new(Aligned([0; 4096]));
        let offset = at.saturating_mul(4096);
        let act = || format!("read block {at} of pool metadata {}", self.path.display());
        self.file.read_exact_at(&mut buffer.0, offset).act(act)?;
        Ok(buffer.0)
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
