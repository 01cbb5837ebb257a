//! Space on the disk below a sparse pool that is kept back for deleting.
//!
//! btrfs writes its metadata to places where the file below may be a hole. On a full disk even a delete cannot be
//! written then, and an error in a commit makes the pool read-only. So some space is taken in advance, in a file beside
//! the pool's, and given up when somebody deletes on a full disk.

use std::{fs, path::PathBuf};

use super::life::Place;
use crate::{
    error::{Act as _, Result},
    fs::{free_space, if_there},
    units::Bytes,
};

/// A delete writes some hundred KiB; several may come before space is free again.
const SIZE: Bytes = Bytes::mib(32);

/// It is taken only where this much more is free.
const ROOMY: Bytes = Bytes::mib(256);

fn path(place: &Place) -> PathBuf {
    place.directory.join("ballast")
}

/// Takes the space if it is not taken and there is plenty.
pub(super) fn take(place: &Place) -> Result<()> {
    if place.is_device() || fs::metadata(path(place)).is_ok_and(|found| found.len() >= SIZE.0) {
        return Ok(());
    }
    if free_space(&place.directory)? < ROOMY {
        return Ok(());
    }
    let act = || format!("take {SIZE} for {}", path(place).display());
    let file = fs::File::create(path(place)).act(act)?;
    let length = libc::off_t::try_from(SIZE.0).unwrap_or(libc::off_t::MAX);
    nix::fcntl::posix_fallocate(file, 0, length).act(act)
}

/// Gives the space up if the disk is full.
pub(super) fn give_up_if_full(place: &Place) -> Result<()> {
    if place.is_device() || free_space(&place.directory)? >= SIZE { Ok(()) } else { remove(place) }
}

/// Gives the space up.
pub(super) fn remove(place: &Place) -> Result<()> {
    if_there(fs::remove_file(path(place))).act(|| format!("remove {}", path(place).display()))
}
