//! Directories that are root's alone.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path};

use crate::error::{Act as _, Result};

/// Makes a directory, with those above it, that nobody else looks into; one that is there is left as it is.
///
/// # Errors
/// The system's.
pub fn make_private(directory: &Path) -> Result<()> {
    make(directory, true)
}

/// Makes one such directory that is not there yet.
///
/// # Errors
/// The system's, `EEXIST` among them.
pub fn make_new_private(directory: &Path) -> Result<()> {
    make(directory, false)
}

fn make(directory: &Path, recursive: bool) -> Result<()> {
    let made = DirBuilder::new().recursive(recursive).mode(0o700).create(directory);
    made.act(|| format!("make {}", directory.display()))
}
