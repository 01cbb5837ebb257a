//! Directories that are root's alone.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path};

use crate::error::{Act as _, Result};

/// Makes a directory, with those above it, that nobody else looks into; one that is there is left as it is.
///
/// # Errors
/// The system's.
pub fn make_private(directory: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.act(|| format!("make {}", directory.display()))
}
