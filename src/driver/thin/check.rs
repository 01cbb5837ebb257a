//! Damage: what the kernel, the metadata and `thin_check` say against each other; and repair.
//!
//! Invariant: damaged metadata is never written; repair makes a new file of it and keeps the old one.

use std::path::Path;

use super::{
    backing::Backing,
    growth::lengthen,
    lifecycle::{Backings, LARGEST_METADATA, close},
    pool::{Pool, health, tell},
};
use crate::{
    block::thin_metadata::{Metadata, Source},
    crash,
    driver::{Health, pool::PoolSpec},
    error::{Error, Kind, Result},
    program::{THIN_CHECK, THIN_REPAIR},
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

/// See [`crate::driver::pool::repair`].
pub(in crate::driver) fn repair(spec: &PoolSpec) -> Result<Vec<String>> {
    close(spec)?;
    let backing = Backings::of(spec).metadata;
    let metadata = &backing.path;
    let mut done = Vec::new();
    let (sound, said) = thin_check(metadata, &["-q"])?;
    if !sound {
        done.push(rebuild(&backing).map_err(|error| error.within(told_damage(metadata, said)))?);
    }
    let (cleared, said) = thin_check(metadata, &["-q", "--clear-needs-check-flag"])?;
    if !cleared {
        return Err(Error::new(Kind::Io, format!("clear the check mark of {}: {said}", metadata.display())));
    }
    done.push(format!("metadata {} is sound; the pool may be written again", metadata.display()));
    crash::point(crash::Point::RepairCleared);
    let source = Source::open(metadata)?;
    let superblock = Metadata::open(&source, 0)?.superblock().clone();
    // Full metadata is what most often brings a pool here, and without room not even a delete can be written. The
    // kernel takes a longer device over when the pool comes up (maybe_resize_metadata_dev).
    let free = superblock.metadata_blocks.saturating_sub(superblock.metadata_taken);
    if free < superblock.metadata_blocks / 4 && !backing.is_device()? {
        let size = Bytes(backing.size()?.0.saturating_mul(2)).min(LARGEST_METADATA);
        // A repair takes the last of the disk if it must: without it nothing can be deleted.
        lengthen(&backing, size, Bytes(0))?;
        done.push(format!("metadata {} had {free} free blocks of 4 KiB; it has {size} now", metadata.display()));
    }
    Ok(done)
}

/// What `thin_check` found; quiet, it says nothing.
fn told_damage(metadata: &Path, quiet: String) -> String {
    let told = thin_check(metadata, &[]).map_or(quiet, |(_, told)| told);
    format!("metadata {} is damaged ({})", metadata.display(), told.trim().replace('\n', "; "))
}

/// Makes new metadata of what can be read of the damaged one, which is kept. Nothing is changed if that fails.
fn rebuild(backing: &Backing) -> Result<String> {
    let metadata = &backing.path;
    if backing.is_device()? {
        let what = format!(
            "it is a device and must not be overwritten; save a copy, then 'thin_repair -i COPY -o {}'",
            metadata.display()
        );
        return Err(Error::new(Kind::Corrupt, what));
    }
    crash::point(crash::Point::RepairStart);
    let new = backing.draft();
    new.remove()?;
    let make = || {
        let size = new.prepare(backing.size()?)?;
        new.allocate(size)?;
        let path = new.path.to_string_lossy();
        THIN_REPAIR.succeed(&["-i", &*metadata.to_string_lossy(), "-o", &*path])?;
        match thin_check(&new.path, &["-q"])? {
            (true, _) => {
                crash::point(crash::Point::RepairRebuilt);
                backing.replace_by(&new.path)
            }
            (false, said) => {
                Err(Error::new(Kind::Corrupt, format!("what thin_repair made of it is damaged too: {said}")))
            }
        }
    };
    let kept = make().map_err(|error| error.and_undo(new.remove()))?;
    crash::point(crash::Point::RepairReplaced);
    Ok(format!(
        "metadata {} was damaged and is rebuilt; the damaged file is kept as {}",
        metadata.display(),
        kept.display()
    ))
}
