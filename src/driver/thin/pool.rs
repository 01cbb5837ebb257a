//! The pool's device and what can be asked of it: messages, status, metadata.
//!
//! Invariant: a [`Pool`] is up when it is made; every refusal of the kernel is told with the pool's numbers.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;

use crate::{
    block::{
        Control, DmName, Names,
        thin_metadata::{Metadata, Source},
        thin_pool::{Message, Mode, PoolTable, Status, kind_of_refusal},
    },
    driver::Health,
    error::{Act as _, Error, Kind, Result},
    fs::{holders, mounts_everywhere},
    interrupt,
    units::Bytes,
};

/// How long a device may stay busy after its last use: udev and blkid open new devices for some milliseconds, and
/// nothing tells when they have closed them.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A pool that is up.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) control: Control,
    pub(super) names: Names,
    pub(super) table: PoolTable,
    pub(super) number: (u32, u32),
}

/// Opens device-mapper and sees to it that it can do thin provisioning.
pub(super) fn control() -> Result<Control> {
    let control = Control::open()?;
    for target in ["thin-pool", "thin"] {
        control.require(target, "CONFIG_DM_THIN_PROVISIONING; 'modprobe dm_thin_pool'")?;
    }
    Ok(control)
}

impl Pool {
    /// The pool marked with `uuid` if it is up. One that a killed process left suspended is resumed.
    pub(super) fn find(control: Control, names: Names) -> Result<std::result::Result<Self, (Control, Names)>> {
        let name = names.pool();
        match control.info(&name)? {
            Some(info) if info.live => {
                if info.suspended {
                    control.resume(&name)?;
                }
                let table = PoolTable::parse(&control.table(&name)?)?;
                Ok(Ok(Self { control, names, table, number: info.number }))
            }
            _ => Ok(Err((control, names))),
        }
    }

    pub(super) fn name(&self) -> DmName {
        self.names.pool()
    }

    pub(super) fn chunk(&self) -> Bytes {
        self.table.chunk.bytes()
    }

    pub(super) fn status(&self) -> Result<Status> {
        self.control.status(&self.name())?.text.parse()
    }

    /// Sends `message`. The error is of the kind that the errno means, or `Full` when the pool's metadata is.
    pub(super) fn message(&self, message: Message) -> Result<()> {
        let refused = match self.control.message(&self.name(), &message.to_string()) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let (told, full) = match self.status() {
            Ok(status) => (tell(&status), metadata_is_full(&status)),
            Err(error) => (format!("no status: {error}"), false),
        };
        // A pool that may not be written refuses every message with EOPNOTSUPP (pool_message, drivers/md/dm-thin.c).
        let kind = match kind_of_refusal(&refused) {
            Kind::Io if full => Kind::Full,
            kind => kind,
        };
        Err(Error::with_source(kind, format!("thin-pool message '{message}' ({told})"), refused))
    }

    /// The path of the metadata device.
    fn metadata_device(&self) -> Result<PathBuf> {
        device_path(self.table.metadata)
    }

    /// Shows `look` the metadata of this instant. One process at a time has the pool's one metadata snapshot: the lock
    /// on the device node says who. So one that exists when the lock is taken was left by a killed process.
    pub(super) fn with_metadata<T>(&self, look: impl FnOnce(&Metadata<'_>) -> Result<T>) -> Result<T> {
        self.holding_metadata(|source, root| look(&Metadata::open(source, root)?))
    }

    /// Runs `look` on the metadata device while it holds a metadata snapshot.
    pub(super) fn with_metadata_device<T>(&self, look: impl FnOnce(&PathBuf) -> Result<T>) -> Result<T> {
        let device = self.metadata_device()?;
        self.holding_metadata(|_, _| look(&device))
    }

    /// Runs `look` while the metadata snapshot is held, which has its root there.
    fn holding_metadata<T>(&self, look: impl FnOnce(&Source, u64) -> Result<T>) -> Result<T> {
        let source = Source::open(&self.metadata_device()?)?;
        interrupt::wait_for_lock(&source, FlockOperation::LockExclusive).act(|| "lock the pool's metadata device")?;
        match self.message(Message::ReserveMetadataSnap) {
            Err(error) if error.kind() == Kind::InUse => {
                self.message(Message::ReleaseMetadataSnap)?;
                self.message(Message::ReserveMetadataSnap)
            }
            result => result,
        }?;
        let looked = match self.status() {
            Ok(Status::Up { held_root: Some(root), .. }) => look(&source, root),
            Ok(status) => {
                let what = format!("the kernel made a metadata snapshot and tells none ({})", tell(&status));
                Err(Error::new(Kind::Corrupt, what))
            }
            Err(error) => Err(error),
        };
        let released = self.message(Message::ReleaseMetadataSnap);
        match looked {
            Ok(found) => released.map(|()| found),
            Err(error) => Err(error.and_undo(released)),
        }
    }
}

fn metadata_is_full(status: &Status) -> bool {
    // The kernel keeps blocks back for its own commits: with fewer free it makes the pool read-only
    // (calc_metadata_threshold: a quarter, at most 1024 blocks of 4 KiB).
    matches!(status, Status::Up { metadata, .. } if metadata.free() <= (metadata.total / 4).min(1024))
}

/// Status for people.
pub(super) fn tell(status: &Status) -> String {
    match status {
        Status::Fail => {
            "the kernel gave the pool up; take it down and repair it with 'lamina check --repair'".to_owned()
        }
        Status::Up { metadata, data, mode, needs_check, .. } => {
            let state = match (mode, needs_check) {
                (_, true) => "read-only until checked: 'lamina check --repair'",
                (Mode::ReadOnly, _) => "read-only",
                (Mode::OutOfDataSpace, _) => "out of data space: 'lamina pool grow'",
                (Mode::Write, _) => "writable",
            };
            format!("pool is {state}; metadata: {metadata} blocks of 4 KiB; data: {data} chunks")
        }
    }
}

pub(super) fn health(status: &Status) -> Health {
    match status {
        Status::Fail => Health::Failed,
        Status::Up { needs_check: true, .. } | Status::Up { mode: Mode::ReadOnly, .. } => Health::ReadOnly,
        Status::Up { mode: Mode::OutOfDataSpace, .. } => Health::OutOfSpace,
        Status::Up { data, .. } if data.free() == 0 => Health::OutOfSpace,
        Status::Up { .. } => Health::Ok,
    }
}

/// The node of any block device, by what sysfs says of its number.
pub(super) fn device_path(number: (u32, u32)) -> Result<PathBuf> {
    let path = format!("/sys/dev/block/{}:{}/uevent", number.0, number.1);
    let told = fs::read_to_string(&path).act(|| format!("read {path}"))?;
    let name = told.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let name = name.ok_or_else(|| Error::new(Kind::NotFound, format!("{path} tells no DEVNAME")))?;
    Ok(PathBuf::from("/dev").join(name))
}

/// Removes `name`, waiting a little for those who look at every new device.
pub(super) fn remove_patiently(control: &Control, name: &DmName) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    while !control.remove(name)? {
        if Instant::now() >= deadline {
            let device = control.info(name)?.map(|info| info.number);
            let found = mounts_everywhere(|mount| Some(mount.device) == device)?;
            return Err(Error::new(
                Kind::InUse,
                format!("remove device {}, which is busy: {}", name.name, holders(&found)),
            ));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Ok(())
}
