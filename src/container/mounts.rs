//! A container's place: mounted there, unmounted, and told from what somebody else has mounted in it.
//!
//! Invariant: what is mounted there and is not the container's volume is neither taken for it nor unmounted.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::{Container, Containers};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::{FileSystem, Mounted, if_there, mounts_below, unmount},
};

impl Containers<'_> {
    /// Where the container is mounted, if it is.
    ///
    /// # Errors
    /// `NotOurs` if something else is mounted in its place; when the mount table cannot be read.
    pub fn mounted_at(&self, container: &Container) -> Result<Option<PathBuf>> {
        let target = self.store.layout().mount_point(&container.id);
        let topmost = mounts_below(&target)?.into_iter().find(|mount| mount.target == target);
        let Some(mount) = topmost else { return Ok(None) };
        if self.store.recognises(&mount, self.snapshot(container)?.volume)? {
            return Ok(Some(target));
        }
        Err(Error::new(
            Kind::NotOurs,
            format!(
                "a {} is mounted at {}, where only container {} belongs; unmount it with 'umount {1}'",
                mount.fstype,
                target.display(),
                container.name
            ),
        ))
    }

    /// [`Containers::mounted_at`] for listings: something else in its place is no mount of the container.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn seen_at(&self, container: &Container) -> Result<Option<PathBuf>> {
        match self.mounted_at(container) {
            Err(error) if error.kind() == Kind::NotOurs => Ok(None),
            found => found,
        }
    }

    /// Mounts the container and tells where. Mounted already, it only tells.
    ///
    /// # Errors
    /// The driver's or the kernel's.
    pub fn mount(&self, container: &Container) -> Result<PathBuf> {
        let _lock = self.lock(container)?;
        if let Some(target) = self.mounted_at(container)? {
            return Ok(target);
        }
        if let Some(pid) = self.status(container)?.pid {
            let what = format!(
                "mount container {0}: it runs; look into it with 'lamina exec {0}', or at /proc/{pid}/root",
                container.name
            );
            return Err(Error::new(Kind::InUse, what));
        }
        self.refuse_second_mount(container).act(|| "mount")?;
        let target = self.store.layout().mount_point(&container.id);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&target)
            .act(|| format!("make mount point {}", target.display()))?;
        let attach = || {
            let spec = self.store.mounts(&container.key())?;
            crash::point(crash::Point::MountReady);
            let mounted = Mounted::detached(&spec)?;
            crash::point(crash::Point::MountDetached);
            // From here on the volume's device goes with the mount, whoever ends that and whenever this process dies.
            self.store.release(&container.key())?;
            mounted.attach(&target)
        };
        if let Err(error) = attach() {
            let undone = self.store.release(&container.key());
            return Err(error.within(format!("mount container {}", container.name)).and_undo(undone));
        }
        crash::point(crash::Point::MountAttached);
        Ok(target)
    }

    /// Unmounts the container. What was written in it is on the disk then, as after unmounting a disk: the file system of
    /// a btrfs subvolume or a bound directory stays mounted elsewhere, so that the kernel would write it out when it likes.
    ///
    /// # Errors
    /// `Invalid` if it is not mounted, `InUse` if somebody works in it. A write that failed is no error here: the kernel
    /// tells only that there was one, which its writer may know already.
    pub fn unmount(&self, container: &Container) -> Result<()> {
        let _lock = self.lock(container)?;
        let Some(target) = self.mounted_at(container)? else {
            return Err(Error::new(Kind::Invalid, format!("container {} is not mounted", container.name)));
        };
        let written = FileSystem::at(&target).and_then(|written| written.write_out());
        unmount(&target).map_err(|error| match error.kind() {
            Kind::InUse => error.within(format!(
                "a process works in container {}; find it with 'fuser -vm {}' and end it first",
                container.name,
                target.display()
            )),
            _ => error,
        })?;
        crash::point(crash::Point::Unmounted);
        self.store.release(&container.key())?;
        if let Err(error) = written {
            tracing::warn!("not all that was written in container {} is on the disk: {error}", container.name);
        }
        remove_mount_point(&target)
    }
}

pub(super) fn remove_mount_point(target: &Path) -> Result<()> {
    if_there(std::fs::remove_dir(target)).act(|| format!("remove mount point {}", target.display()))
}
