//! The btrfs driver: a pool is one btrfs of our own, volume `n` is its subvolume `volumes/n`, a layer is a read-only
//! one, and every snapshot is one ioctl.
//!
//! Invariant: whatever directory lies in `volumes` is a volume; each comes and goes in one transaction of the kernel.

mod ballast;
mod changes;
mod chunks;
mod life;
mod limit;
mod mkfs;
mod receiver;
mod space;
mod superblock;
mod usage;
mod written;

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags};

use super::{Access, Changes, Driver, DriverKind, PoolStatus, Recogniser, Usage, pool::PoolSpec};
use crate::{
    block,
    error::{Act as _, Error, Kind, Result},
    fs::{FilePair, MountEntry, MountSpec, Unwritten, Verdict, compare, mount_table, subvolume},
    id::VolumeId,
    interrupt,
    sys::{
        self,
        btrfs::{self, Range, SubvolumeInfo},
    },
    units::Bytes,
};

use life::Place;
pub(super) use life::{close, create, destroy, is_up, loops, supported};
use space::Room;

/// The directory of all volumes.
const VOLUMES: &str = "volumes";

/// How long to wait for the kernel to give back the space of deleted volumes, where space is short.
const CLEANING: Duration = Duration::from_secs(30);

/// See [`Driver`] and the module's comment.
#[derive(Debug)]
pub struct Btrfs {
    place: Place,
    /// The root of the top-level subvolume.
    root: File,
    volumes: File,
    /// The inode of `volumes`.
    directory: u64,
}

impl Btrfs {
    /// Brings the pool up in this mount namespace if it is not.
    pub(super) fn open(spec: &PoolSpec) -> Result<Self> {
        let place = Place::of(spec)?;
        let root = life::bring_up(&place)?;
        Self::at(place, root)
    }

    /// The same, if the pool is up.
    pub(super) fn open_up(spec: &PoolSpec) -> Result<Option<Self>> {
        let place = Place::of(spec)?;
        life::find(&place)?.map(|root| Self::at(place, root)).transpose()
    }

    fn at(place: Place, root: File) -> Result<Self> {
        let act = || format!("open {}/{VOLUMES}", place.mount_point().display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let volumes = match rustix::fs::openat(&root, VOLUMES, flags, Mode::empty()) {
            // The pool is new, or a crash came right after mkfs.
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&root, VOLUMES, Mode::RWXU).act(act)?;
                rustix::fs::fsync(&root).act(act)?;
                rustix::fs::openat(&root, VOLUMES, flags, Mode::empty())
            }
            result => result,
        };
        let volumes = File::from(volumes.act(act)?);
        let directory = rustix::fs::fstat(&volumes).act(act)?.st_ino;
        if let Err(error) = ballast::take(&place) {
            // Everything but deleting on a full disk works without.
            tracing::warn!("{error}");
        }
        Ok(Self { place, root, volumes, directory })
    }

    fn path(&self, id: VolumeId) -> PathBuf {
        self.place.mount_point().join(VOLUMES).join(id.to_string())
    }

    fn volume(&self, id: VolumeId) -> Result<(File, SubvolumeInfo)> {
        subvolume::open(&self.volumes, id.to_string().as_ref())
            .map_err(|error| self.told(&error, || format!("open volume {id}")))
    }

    /// The same failure in the words of the contract.
    fn told(&self, error: &io::Error, act: impl Fn() -> String) -> Error {
        let number = error.raw_os_error();
        let again = io::Error::from_raw_os_error(number.unwrap_or(libc::EIO));
        match number {
            Some(libc::ENOENT) => Error::new(Kind::NotFound, format!("{}: there is no such volume", act())),
            Some(libc::EEXIST) => Error::new(Kind::Exists, format!("{}: that volume is there already", act())),
            Some(libc::ENOSPC | libc::EDQUOT) => match self.status() {
                Ok(PoolStatus { data, metadata, .. }) => Error::with_source(
                    Kind::Full,
                    format!(
                        "{}: the pool is full ({} of {} data and {} of {} metadata free); delete something or run \
                         'lamina pool grow'",
                        act(),
                        data.free(),
                        data.total,
                        metadata.free(),
                        metadata.total
                    ),
                    again,
                ),
                Err(status) => status.within(format!("{}: the pool is full", act())),
            },
            _ => Error::with_source(crate::error::kind_of(&again), act(), again),
        }
    }

    /// Does `work`, and if it was short of space, once more after the kernel has given back what it can; and again as long
    /// as most of the space is free and the kernel has yet to make it space for anything.
    fn with_space(&self, act: impl Fn() -> String, work: impl Fn() -> io::Result<()>) -> Result<()> {
        let is_short =
            |result: &io::Result<()>| matches!(result, Err(error) if error.raw_os_error() == Some(libc::ENOSPC));
        let start = Instant::now();
        let mut result = work();
        let mut pause = Duration::ZERO;
        while is_short(&result)
            && (pause.is_zero() || start.elapsed() < CLEANING && space::holds_back(&self.root).act(&act)?)
        {
            thread::sleep(pause);
            pause = (pause * 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
            self.clean().act(&act)?;
            interrupt::check()?;
            result = work();
        }
        result.map_err(|error| self.told(&error, act))
    }

    fn new_snapshot(&self, id: VolumeId, source: VolumeId, access: Access) -> Result<()> {
        let act = || format!("make volume {id} a snapshot of {source}");
        let (source, _) = self.volume(source).act(act)?;
        let name = name(id)?;
        self.with_space(act, || {
            btrfs::create_snapshot(&self.volumes, &name, source.as_fd(), access == Access::ReadOnly)
        })
    }

    /// Waits until the kernel has given back the space of deleted volumes, and makes it space for anything.
    ///
    /// The kernel's cleaner works on its own and tells nobody when it is done before Linux 6.13, so this asks again,
    /// a little later each time. A signal ends the waiting.
    fn clean(&self) -> io::Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        // This wakes the cleaner, and another one frees what it let go of. What the last user of a volume lets go of
        // only after that, it does not see before it is woken again.
        btrfs::sync(&self.root)?;
        while subvolume::any_deleted(&self.root)? && start.elapsed() < CLEANING && !interrupt::asked() {
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
            btrfs::sync(&self.root)?;
        }
        btrfs::sync(&self.root)?;
        match btrfs::take_back_empty_groups(&self.root).map_err(|error| error.raw_os_error()) {
            // Without room for this the kernel still does it by itself, a little later. Each try would put that off.
            Err(Some(libc::ENOSPC)) => {
                while space::holds_back(&self.root)? && start.elapsed() < CLEANING && !interrupt::asked() {
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(500));
                    btrfs::sync(&self.root)?;
                }
                Ok(())
            }
            // Somebody else is at it: the caller's work shows what is possible.
            Ok(()) | Err(Some(libc::EINPROGRESS)) => Ok(()),
            Err(errno) => Err(io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO))),
        }
    }

    /// The volumes that are mounted in this mount namespace.
    fn used_volumes(&self) -> Result<Vec<VolumeId>> {
        let Some(pool) = self.place.mounted()? else { return Ok(Vec::new()) };
        let mut used: Vec<VolumeId> = mount_table()?.iter().filter_map(|mount| shown(pool.device, mount)).collect();
        used.sort_unstable();
        used.dedup();
        Ok(used)
    }

    /// The subvolumes in `volumes`, as the kernel's tree of roots has them.
    fn subvolumes(&self) -> Result<Vec<subvolume::Nested>> {
        let mut all = subvolume::nested(&self.root, Range::TOP_LEVEL).act(|| "list the pool's subvolumes")?;
        all.retain(|nested| nested.directory == self.directory);
        Ok(all)
    }

    fn check_device(&self, findings: &mut Vec<String>) -> Result<()> {
        let errors = btrfs::device_errors(&self.root).act(|| "ask for the errors of the pool's device")?;
        let counts = [
            (errors.writes, "failed writes"),
            (errors.reads, "failed reads"),
            (errors.flushes, "failed flushes"),
            (errors.corruptions, "blocks with a wrong checksum"),
            (errors.generations, "blocks that are older than they should be"),
        ];
        let device = self.place.data.display();
        findings.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{device} has had {n} {what}")));
        Ok(())
    }

    /// What contradicts twice: of a volume that is made or deleted meanwhile, one of two listings may have nothing.
    fn check_volumes(&self, findings: &mut Vec<String>) -> Result<()> {
        let first = self.contradictions()?;
        if !first.is_empty() {
            findings.extend(self.contradictions()?.into_iter().filter(|finding| first.contains(finding)));
        }
        Ok(())
    }

    fn contradictions(&self) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        let known: Vec<Vec<u8>> = self.subvolumes()?.into_iter().map(|nested| nested.name).collect();
        let act = || format!("list {}/{VOLUMES}", self.place.mount_point().display());
        let mut seen = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.volumes).act(act)? {
            let name = entry.act(act)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                seen.push(name);
            }
        }
        for name in &known {
            let text = String::from_utf8_lossy(name);
            if !seen.contains(name) {
                findings.push(format!("subvolume {text} has no entry in {VOLUMES}"));
            }
            match text.parse::<VolumeId>() {
                Err(_) => findings.push(format!("{VOLUMES} holds the subvolume {text}, which is no volume")),
                Ok(id) => {
                    if let Err(error) = self.volume(id) {
                        findings.push(error.to_string());
                    }
                }
            }
        }
        let strangers = seen.iter().filter(|name| !known.contains(name));
        findings.extend(
            strangers.map(|name| format!("{VOLUMES} holds {}, which is no subvolume", String::from_utf8_lossy(name))),
        );
        Ok(findings)
    }
}

/// Which volume of the pool that is the file system `pool` this mount shows.
fn shown(pool: (u32, u32), mount: &MountEntry) -> Option<VolumeId> {
    let below = mount.root.strip_prefix("/").ok()?.strip_prefix(VOLUMES).ok()?;
    let volume = below.iter().next()?.to_str()?.parse().ok()?;
    (mount.device == pool).then_some(volume)
}

fn name(id: VolumeId) -> Result<CString> {
    CString::new(id.to_string()).map_err(|error| Error::with_source(Kind::Invalid, format!("name volume {id}"), error))
}

fn nearest(parents: &[VolumeId], id: VolumeId) -> Result<VolumeId> {
    let missing = || Error::new(Kind::Invalid, format!("make volume {id} a snapshot: no parent was given"));
    parents.first().copied().ok_or_else(missing)
}

impl Driver for Btrfs {
    fn kind(&self) -> DriverKind {
        DriverKind::Btrfs
    }

    fn create(&self, id: VolumeId) -> Result<()> {
        let name = name(id)?;
        self.with_space(|| format!("make volume {id}"), || btrfs::create_subvolume(&self.volumes, &name))
    }

    fn snapshot(&self, id: VolumeId, parents: &[VolumeId]) -> Result<()> {
        self.new_snapshot(id, nearest(parents, id)?, Access::ReadWrite)
    }

    fn capture(&self, id: VolumeId, source: VolumeId, access: Access) -> Result<()> {
        // The kernel writes out the source's dirty data first, so the snapshot has all that was written before it.
        self.new_snapshot(id, source, access)
    }

    fn seal(&self, id: VolumeId) -> Result<()> {
        let act = || format!("seal volume {id}");
        let (root, _) = self.volume(id).act(act)?;
        if btrfs::is_read_only(&root).act(act)? {
            return Ok(());
        }
        // The flag alone would leave data in memory that a crash takes away.
        rustix::fs::syncfs(&root).map_err(|errno| self.told(&errno.into(), act))?;
        btrfs::set_read_only(&root, true).map_err(|error| self.told(&error, act))
    }

    fn delete(&self, id: VolumeId) -> Result<()> {
        let act = || format!("delete volume {id}");
        ballast::give_up_if_full(&self.place)?;
        match subvolume::delete(self.volumes.as_fd(), id.to_string().as_ref()) {
            // By a command that may have died before it was durable.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            result => result.map_err(|error| self.told(&error, act))?,
        }
        // Commits in this process: a log could bring the subvolume back (`btrfs_record_snapshot_destroy`, and
        // `BTRFS_LOG_FORCE_COMMIT` in fs/btrfs/tree-log.c).
        self.volumes.sync_all().act(act)?;
        match space::room(&self.root)? {
            // Somebody deletes in order to go on.
            Room::Short => self.clean(),
            // Whoever writes shall not have to wait until the kernel looks for what is deleted.
            Room::Little => btrfs::sync(&self.root),
            // Others may have much to be written, which that would wait for.
            Room::Much => Ok(()),
        }
        .act(act)
    }

    fn give_back(&self) -> Result<()> {
        let act = || "give the pool's free space back to the disk below";
        if self.place.is_device() || !space::is_writable(&self.root).act(act)? {
            return Ok(());
        }
        match self.clean().and_then(|()| sys::trim(&self.root)) {
            // The disk below cannot take anything back.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            given => given.act(act),
        }
    }

    fn mounts(&self, id: VolumeId, _: &[VolumeId], access: Access) -> Result<MountSpec> {
        self.volume(id)?;
        Ok(MountSpec::Bind { directory: self.path(id), access })
    }

    fn release(&self, _: VolumeId) -> Result<()> {
        Ok(())
    }

    fn reserve(&self, _: VolumeId, _: BorrowedFd<'_>, _: Bytes) -> Result<()> {
        Ok(())
    }

    fn unwritten(&self, _: BorrowedFd<'_>) -> Result<Unwritten> {
        // Whatever is written gets a new place.
        space::unwritten(self.place.uuid).map(|bytes| Unwritten { least: bytes, most: bytes })
    }

    fn limit(&self, id: VolumeId, size: Bytes) -> Result<()> {
        self.limit_volume(id, size).act(|| format!("limit volume {id} to {size}"))
    }

    fn usage(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Usage> {
        let act = || format!("tell the space of volume {id}");
        let (root, info) = self.volume(id).act(act)?;
        let since = match parents.first() {
            Some(parent) => self.volume(*parent).act(act)?.1.changed,
            None => 0,
        };
        let exclusive = || {
            if !btrfs::is_read_only(&root)? {
                rustix::fs::syncfs(&root)?;
            }
            usage::exclusive(&root, info.id, since, btrfs::fs_info(&root)?.node)
        };
        // One that is deleted meanwhile has no tree any more.
        exclusive().map(|exclusive| Usage { exclusive }).map_err(|error| self.told(&error, act))
    }

    /// The transaction that last changed an inode in the subvolume: a snapshot has its source's, and whatever is written
    /// comes in a younger one. Data in memory that touched no inode yet (a second write within one tick of the clock)
    /// does so when it is written out.
    fn marks(&self, ids: &[VolumeId]) -> Result<Vec<Option<String>>> {
        rustix::fs::syncfs(&self.root).act(|| "write out what the pool's volumes have in memory")?;
        ids.iter()
            .map(|id| match self.volume(*id) {
                Ok((_, info)) => Ok(Some(info.changed.to_string())),
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                Err(error) => Err(error),
            })
            .collect()
    }

    fn written(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Option<Bytes>> {
        let act = || format!("tell what was written to volume {id}");
        let Some(parent) = parents.first() else { return Ok(None) };
        let (_, SubvolumeInfo { id: number, changed, .. }) = self.volume(*parent).act(act)?;
        let (root, child) = self.volume(id).act(act)?;
        let written = || {
            rustix::fs::syncfs(&root)?;
            written::written(&root, written::Tree { id: number, changed }, child.id)
        };
        written().map_err(|error| self.told(&error, act))
    }

    fn changes(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes> {
        let act = || format!("compare volume {id} with its parent");
        let child = self.volume(id).act(act)?;
        let unknown = &mut |_: &FilePair<'_>| Ok(Verdict::Unknown);
        let Some(parent) = parents.first() else {
            return compare(None, child.0.as_fd(), unknown).act(act);
        };
        let parent = self.volume(*parent).act(act)?;
        match changes::changes(&parent, &child) {
            // The kernel cannot tell of paths above PATH_MAX (fs_path_ensure_buf, fs/btrfs/send.c); looking can.
            Err(error) if error.errno() == Some(libc::ENAMETOOLONG) => {
                compare(Some(parent.0.as_fd()), child.0.as_fd(), unknown).act(act)
            }
            result => result.act(act),
        }
    }

    fn volumes(&self) -> Result<Vec<VolumeId>> {
        let names = self.subvolumes()?;
        let mut all: Vec<VolumeId> =
            names.iter().filter_map(|nested| std::str::from_utf8(&nested.name).ok()?.parse().ok()).collect();
        all.sort_unstable();
        Ok(all)
    }

    fn active(&self) -> Result<Vec<VolumeId>> {
        self.used_volumes()
    }

    fn recognise(&self, id: VolumeId) -> Result<Recogniser> {
        let pool = self.place.mounted()?.map(|pool| pool.device);
        Ok(Box::new(move |mount| pool.is_some_and(|pool| shown(pool, mount) == Some(id))))
    }

    fn place(&self, id: VolumeId, _: &[VolumeId]) -> Result<Vec<(&'static str, String)>> {
        let (_, info) = self.volume(id)?;
        Ok(vec![("Subvolume", self.path(id).display().to_string()), ("SubvolumeId", info.id.to_string())])
    }

    fn status(&self) -> Result<PoolStatus> {
        space::status(self)
    }

    fn grow(&self, size: Bytes) -> Result<()> {
        space::grow(self, size)
    }

    fn check(&self) -> Result<Vec<String>> {
        let mut findings = block::harms(&life::below(&self.place)?)?;
        self.check_device(&mut findings)?;
        self.check_volumes(&mut findings)?;
        Ok(findings)
    }
}
