//! A pool's life: made, brought up, taken down, destroyed.
//!
//! Invariant: a pool's own file gets its final name only when the file system on it is whole, so what lies under that
//! name is a pool and what lies beside it is a half-made one that nobody needs.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use nix::mount::MsFlags;

use super::{
    super::{making::Making, pool::PoolSpec},
    ballast, chunks, mkfs,
    superblock::{dashed, parse_uuid, verify},
};
use crate::{
    block::{self, LoopFile},
    crash,
    driver::Access,
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, MountEntry, MountSpec, Mounted, holders, home, if_there, lasting_mounts, mount_table, unmount},
    program::MKFS_BTRFS,
    sys::{self, btrfs},
    units::Bytes,
};

/// Below it a btrfs has too little room for its chunks to be of use (mkfs refuses below 109 MiB by itself).
const SMALLEST: Bytes = Bytes::mib(128);

/// Where a pool's parts are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) uuid: [u8; 16],
    pub(super) directory: PathBuf,
    /// Backing file or block device.
    pub(super) data: PathBuf,
    /// Whether the user gave `data`.
    given: bool,
}

impl Place {
    pub(super) fn of(spec: &PoolSpec) -> Result<Self> {
        // The mount table has the kernel's path, so links must be resolved before comparing.
        let directory = match spec.directory.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::path::absolute(&spec.directory).act(|| "make the path absolute")
            }
            result => result.act(|| format!("look at {}", spec.directory.display())),
        }?;
        let data = spec.data.clone().unwrap_or_else(|| directory.join("data"));
        Ok(Self { uuid: parse_uuid(&spec.uuid)?, data, given: spec.data.is_some(), directory })
    }

    pub(super) fn mount_point(&self) -> PathBuf {
        self.directory.join("mnt")
    }

    pub(super) fn is_device(&self) -> bool {
        fs::metadata(&self.data).is_ok_and(|metadata| metadata.file_type().is_block_device())
    }

    /// What is mounted at the mount point, the topmost last: private bind mounts of the place itself, and the pool.
    ///
    /// # Errors
    /// `NotOurs` for anything else: it is neither used nor unmounted.
    fn mounts(&self) -> Result<Vec<MountEntry>> {
        let target = self.mount_point();
        let table = mount_table()?;
        let place = home(&table, &self.directory).map(|(device, root)| (device, root.join("mnt")));
        let ours = |mount: &MountEntry| is_root(mount) || place == Some((mount.device, mount.root.clone()));
        let (ours, foreign): (Vec<_>, Vec<_>) =
            table.into_iter().filter(|mount| mount.target == target).partition(|mount| ours(mount));
        match foreign.first() {
            None => Ok(ours),
            Some(foreign) => Err(Error::new(
                Kind::NotOurs,
                format!(
                    "a {} is mounted at {}, where only the pool belongs; unmount it with 'umount {1}'",
                    foreign.fstype,
                    target.display()
                ),
            )),
        }
    }

    /// The mount of the pool in this namespace.
    pub(super) fn mounted(&self) -> Result<Option<MountEntry>> {
        Ok(self.mounts()?.into_iter().rfind(is_root))
    }
}

/// The root of a btrfs. The private bind mount of the place itself, on a disk that is btrfs too, shows a directory.
fn is_root(mount: &MountEntry) -> bool {
    mount.fstype == "btrfs" && mount.root == Path::new("/")
}

pub(in crate::driver) fn supported() -> Result<()> {
    MKFS_BTRFS.find()?;
    match rustix::mount::fsopen("btrfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::NODEV) => {
            Err(Error::new(Kind::Unsupported, "this kernel has no btrfs (CONFIG_BTRFS_FS; 'modprobe btrfs')"))
        }
        Err(errno) => Err(errno).act(|| "ask the kernel for btrfs"),
    }
}

pub(in crate::driver) fn create(spec: &PoolSpec) -> Result<()> {
    let place = Place::of(spec)?;
    fs::create_dir_all(&place.directory).act(|| format!("make {}", place.directory.display()))?;
    let place = Place::of(spec)?;
    let made = if place.given { create_on_given(&place, spec.size) } else { create_own(&place, spec.size) };
    let made = made.act(|| format!("make btrfs pool {}", dashed(place.uuid)))?;
    // Opening also finishes a pool whose making was cut off after the file system was whole.
    crash::point(crash::Point::PoolMade);
    let opened = super::Btrfs::open(spec).map(drop);
    if made { opened.map_err(|error| error.and_undo(destroy(spec))) } else { opened }
}

/// Tells whether there was none before.
fn create_own(place: &Place, size: Bytes) -> Result<bool> {
    if place.data.exists() {
        return verify(&place.data, place.uuid).map(|()| false);
    }
    ensure_size(size)?;
    let draft = place.directory.join("data.new");
    discard_draft(&draft)?;
    let make = || {
        new_sparse(&draft, size)?;
        format_file(&draft, place.uuid)?;
        crash::point(crash::Point::PoolHalf);
        fs::rename(&draft, &place.data).act(|| format!("give {} its name", place.data.display()))?;
        File::open(&place.directory).and_then(|dir| dir.sync_all()).act(|| "write the directory")
    };
    make().map(|()| true).map_err(|error: Error| error.and_undo(discard_draft(&draft)))
}

/// Removes what a killed process left, with the loop device that may still hold it.
fn discard_draft(draft: &Path) -> Result<()> {
    if draft.exists() {
        LoopFile::find(draft)?.map_or(Ok(()), LoopFile::detach)?;
        fs::remove_file(draft).act(|| format!("remove {}", draft.display()))?;
    }
    Ok(())
}

/// Tells whether there was none before.
fn create_on_given(place: &Place, size: Bytes) -> Result<bool> {
    let new = !place.data.exists();
    if new {
        ensure_size(size)?;
        new_sparse(&place.data, size)?;
    } else if verify(&place.data, place.uuid).is_ok() {
        return Ok(false);
    }
    let length = block::ensure_blank(&place.data)?;
    let empty = length == Bytes(0) && !place.is_device();
    ensure_size(if empty { size } else { length })?;
    let making = Making::of(&place.directory);
    // Of a half-made file system nothing else tells whose it is.
    making.write(&[&*place.data])?;
    let make = || {
        if place.is_device() {
            return mkfs::mkfs(&place.data, place.uuid);
        }
        if empty {
            set_length(&place.data, size)?;
        }
        format_file(&place.data, place.uuid)
    };
    let undo = || match new {
        true => fs::remove_file(&place.data).act(|| format!("remove {}", place.data.display())),
        false => block::make_blank(&place.data),
    };
    let made = make().map_err(|error| error.and_undo(undo()));
    match (made, making.remove()) {
        (Ok(()), removed) => removed.map(|()| true),
        (Err(error), removed) => Err(error.and_undo(removed)),
    }
}

fn ensure_size(size: Bytes) -> Result<()> {
    if size >= SMALLEST {
        return Ok(());
    }
    Err(Error::new(
        Kind::Invalid,
        format!(
            "a btrfs of {size} is too small: its first chunks alone take most of {SMALLEST}; give {SMALLEST} or more"
        ),
    ))
}

fn new_sparse(path: &Path, size: Bytes) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.act(|| format!("make {}", path.display()))?;
    // Copy-on-write below copy-on-write would fragment the file; other file systems than btrfs know no such flag.
    if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
        match rustix::fs::ioctl_setflags(&file, flags | rustix::fs::IFlags::NOCOW) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno).act(|| format!("set flags of {}", path.display())),
        }
    }
    set_length(path, size)
}

pub(super) fn set_length(path: &Path, size: Bytes) -> Result<()> {
    let act = || format!("make {} {size} long", path.display());
    let file = OpenOptions::new().write(true).open(path).act(act)?;
    file.set_len(size.0).act(act)?;
    file.sync_all().act(act)
}

fn format_file(path: &Path, uuid: [u8; 16]) -> Result<()> {
    let attached = LoopFile::attach(path)?;
    let made = mkfs::mkfs(attached.device(), uuid);
    match (made, attached.detach()) {
        (Ok(()), detached) => detached,
        (Err(error), detached) => Err(error.and_undo(detached)),
    }
}

/// Mounts the pool here if it is not, and returns its root directory.
pub(super) fn bring_up(place: &Place) -> Result<File> {
    let act = || format!("bring up btrfs pool {}", dashed(place.uuid));
    if place.mounted()?.is_none() {
        verify(&place.data, place.uuid).act(act)?;
        if place.is_device() {
            mount(place, &place.data).act(act)?;
        } else {
            mount_file(place).act(act)?;
        }
    }
    let down = || Error::new(Kind::NotFound, "it was taken down meanwhile");
    find(place).and_then(|root| root.ok_or_else(down)).act(act)
}

/// The root directory of the pool if it is mounted here.
pub(super) fn find(place: &Place) -> Result<Option<File>> {
    if place.mounted()?.is_none() {
        return Ok(None);
    }
    let target = place.mount_point();
    let root = File::open(&target).act(|| format!("open {}", target.display()))?;
    let found = match btrfs::fs_info(&root) {
        // Another command unmounted it after the first look.
        Err(_) if place.mounted()?.is_none() => return Ok(None),
        found => found.act(|| "ask the kernel for the pool's identity")?,
    };
    if found.uuid != place.uuid {
        let message = format!(
            "{} is the btrfs {}, and the pool is {}; unmount it with 'umount {0}'",
            target.display(),
            dashed(found.uuid),
            dashed(place.uuid)
        );
        return Err(Error::new(Kind::NotOurs, message));
    }
    Ok(Some(root))
}

fn mount_file(place: &Place) -> Result<()> {
    if let Some(attached) = LoopFile::find(&place.data)? {
        return mount(place, attached.device());
    }
    let known = Path::new("/sys/fs/btrfs").join(dashed(place.uuid));
    if known.exists() {
        // The kernel would mount a second one of that identity under another.
        let what = format!(
            "the pool {} is up already from another file than {}: one of them is a copy; take the other one down first",
            dashed(place.uuid),
            place.data.display()
        );
        return Err(Error::new(Kind::InUse, what));
    }
    let attached = LoopFile::attach(&place.data)?;
    crash::point(crash::Point::UpHalf);
    mount(place, attached.device()).map_err(|error| error.and_undo(attached.detach()))
}

fn mount(place: &Place, device: &Path) -> Result<()> {
    let target = place.mount_point();
    fs::create_dir_all(&target).act(|| format!("make {}", target.display()))?;
    let size =
        File::open(device).and_then(sys::block::size).act(|| format!("ask for the size of {}", device.display()));
    let spec = MountSpec::Device {
        device: device.to_owned(),
        fs: BlockFs::Btrfs,
        // Freed extents are given back to the file below, in the background; by itself only since Linux 6.2.
        options: vec![
            "discard=async".to_owned(),
            format!("metadata_ratio={}", chunks::data_per_metadata(Bytes(size?))),
        ],
        access: Access::ReadWrite,
    };
    let mounted = Mounted::detached(&spec)?;
    // On a shared mount (systemd makes '/' shared) the pool would show up in every namespace that shares it, and keep
    // the device busy there: mount it on a private bind mount of the directory itself. One that is there was left by a
    // killed process.
    for _ in place.mounts()? {
        unmount(&target)?;
    }
    let flags = MsFlags::MS_BIND;
    nix::mount::mount(Some(&target), &target, None::<&str>, flags, None::<&str>).act(|| "make the place private")?;
    crash::point(crash::Point::UpBound);
    let private = nix::mount::mount(None::<&str>, &target, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>);
    private
        .act(|| "make the place private")
        .and_then(|()| mounted.attach(&target))
        .map_err(|error| error.and_undo(unmount(&target)))
}

pub(in crate::driver) fn is_up(spec: &PoolSpec) -> Result<bool> {
    Ok(Place::of(spec)?.mounted()?.is_some())
}

pub(in crate::driver) fn close(spec: &PoolSpec) -> Result<()> {
    if Place::of(spec)?.mounted()?.is_some() {
        // Unmounted, the kernel forgets what it has yet to discard.
        if let Err(error) = super::Btrfs::open(spec).and_then(|pool| crate::driver::Driver::give_back(&pool)) {
            tracing::warn!("{error}; the disk below keeps it until the pool needs it");
        }
    }
    take_down(spec)
}

fn take_down(spec: &PoolSpec) -> Result<()> {
    let place = Place::of(spec)?;
    let act = || format!("take down btrfs pool {}", dashed(place.uuid));
    let mounted = place.mounted()?;
    if mounted.is_some() {
        let used = super::Btrfs::open(spec)?.used_volumes()?;
        if !used.is_empty() {
            let list = used.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::new(Kind::InUse, format!("{}: volumes {list} are mounted; unmount them", act())));
        }
    }
    refuse_if_elsewhere(&place, mounted.as_ref()).act(act)?;
    // The pool, and the private bind mount under it.
    while !place.mounts().act(act)?.is_empty() {
        unmount(&place.mount_point()).act(act)?;
    }
    crash::point(crash::Point::DownHalf);
    if place.is_device() {
        return Ok(());
    }
    // By the device: the file may have been removed or replaced while the pool was up.
    if let Some(held) = mounted.map(|mount| LoopFile::on(&mount.source, &place.data)).transpose()?.flatten() {
        held.detach().act(act)?;
    }
    if place.data.exists() {
        LoopFile::find(&place.data)?.map_or(Ok(()), LoopFile::detach).act(act)?;
    }
    Ok(())
}

/// The loop device below a pool that is up, found by its mount.
pub(in crate::driver) fn loops(spec: &PoolSpec) -> Result<Vec<LoopFile>> {
    below(&Place::of(spec)?)
}

/// The same of a place.
pub(super) fn below(place: &Place) -> Result<Vec<LoopFile>> {
    let mounted = place.mounted()?.filter(|_| !place.is_device());
    Ok(mounted.map(|mount| LoopFile::on(&mount.source, &place.data)).transpose()?.flatten().into_iter().collect())
}

/// A namespace that was made while the pool was up has a copy of its mount, and keeps the file system up.
fn refuse_if_elsewhere(place: &Place, mounted: Option<&MountEntry>) -> Result<()> {
    let held = if place.is_device() || !place.data.exists() { None } else { LoopFile::find(&place.data)? };
    let device = held.as_ref().map(LoopFile::device);
    let is_pool = |mount: &MountEntry| {
        mounted.is_some_and(|here| here.device == mount.device)
            || (mount.fstype == "btrfs" && device == Some(mount.source.as_path()))
    };
    let mut found = lasting_mounts(is_pool)?;
    found.retain(|sighting| sighting.process.is_some());
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::InUse, format!("it is {}", holders(&found))))
}

pub(in crate::driver) fn destroy(spec: &PoolSpec) -> Result<()> {
    take_down(spec)?;
    let place = Place::of(spec)?;
    let act = || format!("destroy btrfs pool {}", dashed(place.uuid));
    ballast::remove(&place)?;
    if place.given {
        // Only what is this pool, or was to become it; somebody else may have the device by now.
        let making = Making::of(&place.directory);
        let ours = || Ok::<_, Error>(verify(&place.data, place.uuid).is_ok() || making.took(&place.data)?);
        if place.data.exists() && ours()? {
            block::make_blank(&place.data).act(act)?;
        }
        making.remove()?;
    } else {
        discard_draft(&place.directory.join("data.new")).act(act)?;
        if_there(fs::remove_file(&place.data)).act(act)?;
    }
    crash::point(crash::Point::DestroyHalf);
    if_there(fs::remove_dir(place.mount_point())).act(act)
}
