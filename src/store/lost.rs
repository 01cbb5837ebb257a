//! A pool that no database knows: `lamina.db` was removed, or another one lies in its place.
//!
//! Invariant: such a pool is told, and neither taken over nor taken away: only the database can say what its volumes
//! are, and it may come back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::layout::DATABASE;
use crate::{
    driver::pool,
    error::{Act as _, Error, Kind, Result},
    fs::mounts_below,
};

/// Fails if there is anything of a pool below `root`, for which no database has a row.
///
/// # Errors
/// `NotOurs` with what is there and what can be done.
pub(super) fn refuse_if_lost(root: &Path) -> Result<()> {
    let (pool, blobs) = (root.join("pool"), root.join("blobs"));
    let (files, archives) = (names(&pool)?, names(&blobs)?.len());
    if files.is_empty() && archives == 0 {
        return Ok(());
    }
    let database = root.join(DATABASE);
    let state = match fs::metadata(&database) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is missing",
        found => match found.act(|| format!("look for {}", database.display()))?.len() {
            0 => "is empty",
            _ => "has no pool",
        },
    };
    let (up, down) = traces(root, &pool)?;
    let what = format!(
        "there is a pool in {} that the database does not know: {} {state}, and {} and {archives} archives of layers are there{up}. \
         Which images and containers they are only the database tells: put {DATABASE} back, with its {DATABASE}-wal, or without if it has none: the -wal of another would change it. \
         Nothing was changed. To give all of it up: {down}remove {} and {}",
        root.display(),
        database.display(),
        if files.is_empty() { "no files of it".to_owned() } else { files.join(", ") },
        pool.display(),
        blobs.display(),
    );
    Err(Error::new(Kind::NotOurs, what))
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let act = || format!("look into {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.act(act)?,
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()
        .act(act)?;
    names.sort_unstable();
    Ok(names)
}

/// What the kernel has of the pool still, and the commands that end that.
fn traces(root: &Path, pool: &Path) -> Result<(String, String)> {
    // The kernel knows one path only.
    let root = root.canonicalize().act(|| format!("find {}", root.display()))?;
    let mounts: Vec<PathBuf> = mounts_below(&root)?.into_iter().map(|mount| mount.target).collect();
    let held = pool::held(pool)?;
    let mut commands: Vec<String> = mounts.iter().map(|target| format!("umount {}", target.display())).collect();
    commands.extend(held.mapped.iter().map(|name| format!("dmsetup remove {name}")));
    commands.extend(held.loops.iter().map(|device| format!("losetup -d {}", device.display())));
    if commands.is_empty() {
        return Ok((String::new(), String::new()));
    }
    Ok((", and it is up".to_owned(), format!("'{}', then ", commands.join("; "))))
}
