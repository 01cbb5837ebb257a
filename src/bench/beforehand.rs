//! What is refused before anything is measured: some hours later it would have been in vain.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{ACROSS, How, Options, rows::Row, workload::Workload};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::free_space,
    units::Bytes,
};

/// Refuses a place where nothing can be made, once instead of for each row; tells its real path, which is what the kernel
/// names mounts and backing files by, and daemons with another working directory find.
pub(super) fn require_place(directory: &Path) -> Result<PathBuf> {
    let act = || format!("measure in {}: choose another --dir", directory.display());
    if !directory.metadata().act(act)?.is_dir() {
        let what = format!("measure in {}: it is no directory; choose another --dir", directory.display());
        return Err(Error::new(Kind::Invalid, what));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(directory, access).act(act)?;
    directory.canonicalize().act(act)
}

/// Refuses a tar that cannot be read: what needs it may be the last that is measured.
pub(super) fn require_tar(tar: Option<&Path>) -> Result<()> {
    let Some(tar) = tar else { return Ok(()) };
    let act = || format!("read {}", tar.display());
    if File::open(tar).and_then(|file| file.metadata()).act(act)?.is_dir() {
        return Err(Error::new(Kind::Invalid, format!("{}: it is a directory", act())));
    }
    Ok(())
}

/// Refuses peers that would do none of what is measured.
pub(super) fn require_work_for_peers(options: &Options) -> Result<()> {
    let is_theirs = |workload: &&dyn Workload| matches!(workload.how(), How::Across(across) if across.asks_peers());
    let Some(peer) = options.rows.iter().find(|row| row.is_peer()) else { return Ok(()) };
    if options.workloads.iter().any(|workload| is_theirs(&&**workload)) {
        return Ok(());
    }
    let names: Vec<_> =
        ACROSS.into_iter().filter(|workload| is_theirs(workload)).map(|workload| workload.name()).collect();
    let what = format!("{} does none of these workloads; add one of {} with --workload", peer.name(), names.join(", "));
    Err(Error::new(Kind::Invalid, what))
}

/// Refuses what the disk cannot hold.
pub(super) fn require_room(options: &Options) -> Result<()> {
    let room = |workload: &&'static dyn Workload| match workload.how() {
        How::Across(across) => {
            let of_row = |row: &dyn Row| {
                let copied = if row.copies_files() { across.copied(options.scale) } else { Bytes(0) };
                across.room(options.scale) + copied
            };
            options.rows_of(across).into_iter().map(of_row).fold(Bytes(0), |sum, room| sum + room)
        }
        How::Held(held) => Bytes(options.file_size.0.saturating_mul(held.files)),
    };
    let wanted = options.workloads.iter().map(room).max().unwrap_or_default() + crate::driver::BACKING_RESERVE;
    let free = free_space(&options.directory)?;
    if free < wanted {
        let what = format!(
            "measure in {}: that takes up to {wanted} and {free} are free; choose another --dir, fewer rows with --driver, \
             or less with --quick or --file-size",
            options.directory.display()
        );
        return Err(Error::new(Kind::Full, what));
    }
    Ok(())
}
