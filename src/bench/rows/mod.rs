//! Rows: the ways of keeping an image and its containers that are laid side by side.

mod containerd;
mod docker;
mod layered;
mod peer;
mod podman;
mod shared;

use std::{
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
};

pub(super) use layered::{BARE, BTRFS, OVERLAY_BTRFS, OVERLAY_EXT4, OVERLAY_XFS, THIN_EXT4, THIN_XFS, VFS};

pub(super) use self::{
    containerd::{CONTAINERD_BTRFS, CONTAINERD_NATIVE, CONTAINERD_OVERLAYFS},
    docker::{DOCKER_BTRFS, DOCKER_OVERLAY2, DOCKER_VFS},
    podman::{PODMAN_OVERLAY, PODMAN_VFS},
    shared::BTRFS_OVERLAY,
};
use super::workload::write_out;
use crate::{
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    fs::unmount,
    units::Bytes,
};

/// A way of keeping images and containers.
pub trait Row: fmt::Debug + Sync {
    /// Its name on the command line: a driver, and what lies below where that is not settled by the driver.
    fn name(&self) -> &'static str;

    /// What it is, in a few words.
    fn about(&self) -> &'static str;

    /// The driver, if it is one of Lamina's.
    fn driver(&self) -> Option<DriverKind> {
        None
    }

    /// Whether it is measured unless others are named.
    fn is_usual(&self) -> bool {
        !self.is_peer()
    }

    /// Whether it is another program, of which only some workloads are asked.
    fn is_peer(&self) -> bool {
        false
    }

    /// Whether a change of a file copies all of it.
    fn copies_files(&self) -> bool {
        true
    }

    /// Whether it can run here.
    ///
    /// # Errors
    /// `Unsupported` or `MissingProgram` with the reason.
    fn usable(&self) -> Result<()>;

    /// Makes a fresh one with a disk of `size`, in a directory below `below`; it goes when it is dropped.
    ///
    /// # Errors
    /// Those of making file systems and pools.
    fn stage(&self, below: &Path, size: Bytes) -> Result<Box<dyn Stage>>;
}

/// A row with a disk of its own, on which images and containers are made.
pub trait Stage: fmt::Debug {
    /// Makes the image `name` of one layer from a tar.
    ///
    /// # Errors
    /// The row's.
    fn import(&self, name: &str, tar: &mut (dyn Read + Send)) -> Result<()>;

    /// Makes the image `name` of one layer from the file `tar`.
    ///
    /// # Errors
    /// The row's; `Unsupported` where images are not made of that.
    fn import_file(&self, name: &str, tar: &Path) -> Result<()> {
        let mut file = std::fs::File::open(tar).act(|| format!("open {}", tar.display()))?;
        self.import(name, &mut file)
    }

    /// Pulls an image from a registry on loopback that speaks HTTP.
    ///
    /// # Errors
    /// The row's; `Unsupported` where that cannot be.
    fn pull(&self, _: &str) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "pulls are not measured here"))
    }

    /// Removes what was pulled.
    ///
    /// # Errors
    /// The row's.
    fn remove_pulled(&self, reference: &str) -> Result<()> {
        Err(Error::new(Kind::NotFound, format!("{reference} was not pulled")))
    }

    /// Has everything of its disk written.
    ///
    /// # Errors
    /// The system's.
    fn write_out(&self) -> Result<()>;

    /// Has all that was removed gone, and everything written: nothing goes on in the background of what comes next.
    ///
    /// # Errors
    /// The system's.
    fn settle(&self) -> Result<()> {
        self.write_out()
    }

    /// Builds the image `name` by a Dockerfile with the files in `context`.
    ///
    /// # Errors
    /// The row's; `Unsupported` where images are not built.
    fn build(&self, name: &str, dockerfile: &str, context: &Path) -> Result<()>;

    /// Makes the container `name` of an image.
    ///
    /// # Errors
    /// The row's.
    fn create(&self, name: &str, image: &str) -> Result<()>;

    /// Whether it mounts containers by themselves; if not, [`Stage::mount`] does what it would do when it starts one, and
    /// says nothing about it.
    ///
    /// # Errors
    /// `Unsupported` with the reason.
    fn has_mounts(&self) -> Result<()> {
        Ok(())
    }

    /// Mounts a container and tells where.
    ///
    /// # Errors
    /// The row's.
    fn mount(&self, name: &str) -> Result<PathBuf>;

    /// Unmounts it.
    ///
    /// # Errors
    /// The row's.
    fn unmount(&self, name: &str) -> Result<()>;

    /// Removes a container that is not mounted.
    ///
    /// # Errors
    /// The row's.
    fn remove(&self, name: &str) -> Result<()>;

    /// Whether making, comparing and committing containers mean anything here.
    ///
    /// # Errors
    /// `Unsupported` with the reason.
    fn has_layers(&self) -> Result<()> {
        Ok(())
    }

    /// Tells how many entries of a container differ from its image.
    ///
    /// # Errors
    /// The row's.
    fn changes(&self, name: &str) -> Result<usize>;

    /// Makes an image of a container that is not mounted.
    ///
    /// # Errors
    /// The row's.
    fn commit(&self, name: &str, image: &str) -> Result<()>;

    /// Removes an image.
    ///
    /// # Errors
    /// The row's.
    fn remove_image(&self, name: &str) -> Result<()>;

    /// Used bytes of its disk. What was written and not synced may be missing.
    ///
    /// # Errors
    /// The row's; `Unsupported` where its disk is not its own.
    fn used(&self) -> Result<Bytes>;

    /// A directory for data volumes, which are no part of a container.
    ///
    /// # Errors
    /// The system's.
    fn volume(&self) -> Result<PathBuf>;

    /// A command that runs `program` of an image in a container that goes with it.
    ///
    /// # Errors
    /// `Unsupported` or `MissingProgram` where it cannot run.
    fn runner(&self, image: &str, program: &[&str]) -> Result<std::process::Command>;
}

/// All rows, in the order of tables and charts.
pub const ROWS: [&dyn Row; 9] =
    [&THIN_EXT4, &THIN_XFS, &BTRFS, &OVERLAY_EXT4, &OVERLAY_XFS, &OVERLAY_BTRFS, &BTRFS_OVERLAY, &VFS, &BARE];

/// Other programs that do the same, measured when they are asked for.
pub const PEERS: [&dyn Row; 8] = [
    &DOCKER_OVERLAY2,
    &DOCKER_BTRFS,
    &DOCKER_VFS,
    &PODMAN_OVERLAY,
    &PODMAN_VFS,
    &CONTAINERD_OVERLAYFS,
    &CONTAINERD_BTRFS,
    &CONTAINERD_NATIVE,
];

/// The rows that `name` means: one by its own name, or all of a driver.
///
/// # Errors
/// `Invalid` with the names there are.
pub fn rows(name: &str) -> Result<Vec<&'static dyn Row>> {
    find(&ROWS, "row", name)
}

/// The rows that the peer `name` means.
///
/// # Errors
/// `Invalid` with the names there are.
pub fn peers(name: &str) -> Result<Vec<&'static dyn Row>> {
    find(&PEERS, "peer", name)
}

fn find(all: &[&'static dyn Row], kind: &str, name: &str) -> Result<Vec<&'static dyn Row>> {
    let found: Vec<_> = all
        .iter()
        .copied()
        .filter(|row| row.name() == name || row.name().split_once('/').is_some_and(|(driver, _)| driver == name))
        .collect();
    if found.is_empty() {
        let names: Vec<_> = all.iter().map(|row| row.name()).collect();
        return Err(Error::new(Kind::Invalid, format!("{kind} '{name}' is not one of {}", names.join(", "))));
    }
    Ok(found)
}

/// A mounted container is left as soon as `work` has ended. What making and mounting it left to be written is written
/// before, so that no sync in `work` pays for it.
pub(super) fn inside<T>(stage: &dyn Stage, name: &str, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let value = stage.mount(name).and_then(|path| write_out(&path).and_then(|()| work(&path)));
    match (value, stage.unmount(name)) {
        (Ok(value), unmounted) => unmounted.map(|()| value),
        (Err(error), unmounted) => Err(error.and_undo(unmounted)),
    }
}

/// Takes away what is mounted at `target`, and the directory that was made for it.
fn leave(target: &Path) -> Result<()> {
    unmount(target)?;
    fs::remove_dir(target).act(|| format!("remove {}", target.display()))
}

/// A container that is there while `work` takes.
pub(super) fn with_container<T>(
    stage: &dyn Stage,
    (name, image): (&str, &str),
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    stage.create(name, image)?;
    match (work(), stage.remove(name)) {
        (Ok(value), removed) => removed.map(|()| value),
        (Err(error), removed) => Err(error.and_undo(removed)),
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::ROWS;

    #[test]
    fn whole_files_are_copied_where_no_blocks_are_shared() {
        let copying = ROWS.into_iter().filter(|row| row.copies_files()).map(|row| row.name());
        assert_eq!(copying.collect::<Vec<_>>(), ["overlay/ext4", "vfs", "bare"]);
    }
}
