//! Damage: what the kernel, the metadata and `thin_check` say against each other; and repair.

use std::path::Path;

use super::{
    lifecycle::{Backings, LARGEST_METADATA, close, is_up},
    pool::{Pool, health, tell},
};
use crate::{
    block::thin_metadata::{Metadata, Source},
    driver::{Health, pool::PoolSpec},
    error::{Error, Kind, Result},
    program::THIN_CHECK,
    units::Bytes,
};

/// Findings about a pool that is up.
pub(super) fn check(pool: &Pool) -> Result<Vec<String>> {
    let status = pool.status()?;
    let health = health(&status);
    if health == Health::Failed || health == Health::ReadOnly {
        // No metadata snapshot can be made then, and the status says why.
        return Ok(vec![tell(&status)]);
    }
    let mut findings = Vec::new();
    let (sound, said) = pool.with_metadata_device(|device| thin_check(device, &["-m"]))?;
    if !sound {
        findings.push(format!("thin_check of the pool's metadata: {}", said.replace('\n', "; ")));
    }
    Ok(findings)
}

fn thin_check(path: &Path, options: &[&str]) -> Result<(bool, String)> {
    let path = path.to_string_lossy();
    THIN_CHECK.run(&[options, &[&*path]].concat())
}

/// Takes the pool down, checks its metadata, and clears the mark that makes the kernel refuse to write it. Returns a
/// line per thing done.
///
/// # Errors
/// `InUse` if a volume is mounted; `Corrupt` with what `thin_check` found, when it found damage: nothing is changed then.
pub fn repair(spec: &PoolSpec) -> Result<Vec<String>> {
    if is_up(spec)? {
        close(spec)?;
    }
    let backing = Backings::of(spec).metadata;
    let metadata = backing.path.clone();
    let (sound, said) = thin_check(&metadata, &["-q"])?;
    if !sound {
        let (_, told) = thin_check(&metadata, &[])?;
        let what = if told.is_empty() { said } else { told };
        return Err(Error::new(
            Kind::Corrupt,
            format!("metadata {} is damaged: {}; save a copy and try 'thin_repair'", metadata.display(), what.trim()),
        ));
    }
    let (cleared, said) = thin_check(&metadata, &["-q", "--clear-needs-check-flag"])?;
    if !cleared {
        return Err(Error::new(Kind::Io, format!("clear the check mark of {}: {said}", metadata.display())));
    }
    let mut done = vec![format!("metadata {} is sound; the pool may be written again", metadata.display())];
    let source = Source::open(&metadata)?;
    let superblock = Metadata::open(&source, 0)?.superblock().clone();
    // Full metadata is what most often brings a pool here, and without room not even a delete can be written. The
    // kernel takes a longer device over when the pool comes up (maybe_resize_metadata_dev).
    let free = superblock.metadata_blocks.saturating_sub(superblock.metadata_taken);
    if free < superblock.metadata_blocks / 4 && !backing.is_device()? {
        let size = Bytes(backing.size()?.0.saturating_mul(2)).min(LARGEST_METADATA);
        backing.allocate(size)?;
        done.push(format!("metadata {} had {free} free blocks of 4 KiB; it has {size} now", metadata.display()));
    }
    Ok(done)
}
