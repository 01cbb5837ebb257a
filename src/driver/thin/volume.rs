//! Thin devices as volumes: activated, read-only where possible, deactivated, emptied.
//!
//! Invariant: a device is active only between [`Pool::activate`] and [`Pool::deactivate`]; what a killed process left
//! is either used as it is or removed. A sealed volume is activated read-only, which the kernel enforces.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use rustix::fs::FlockOperation;

use super::{
    damage::{mend_if_noted, noted},
    filesystem::{LENGTH, mount_spec, needs_recovery},
    pool::{PATIENCE, Pool, remove_patiently},
};
use crate::{
    block::{
        DmName, Info, node,
        thin_metadata::Source,
        thin_pool::{Message, thin_line},
    },
    crash,
    driver::Access,
    error::{Act as _, Error, Kind, Result},
    fs::{BlockFs, Mounted},
    interrupt, sys,
    units::Bytes,
};

/// How much one discard gives back: the kernel answers when all of it is done, and writers wait meanwhile.
const SLICE: u64 = 1 << 30;

/// Chunks so near to each other are given back in one go, with what lies between: that costs less than another call.
const NEAR: u64 = 8;

impl Pool {
    /// The node of the volume's device, which is made active if it is not. An active one that was wanted otherwise is
    /// made anew, unless it is in use.
    pub(super) fn activate(&self, id: u32, access: Access) -> Result<PathBuf> {
        unless_it_vanishes(|| node(self.try_activate(id, access)?.number))
    }

    fn try_activate(&self, id: u32, access: Access) -> Result<Info> {
        let name = self.names.volume(id);
        let readonly = access == Access::ReadOnly;
        let line = thin_line(self.number, id, LENGTH.sectors());
        let mut info = self.control.activate(&name, &line, readonly)?;
        if info.removing {
            self.control.keep(&name)?;
        }
        if info.suspended {
            self.resume_if_left(&name, info.number)?;
        }
        if info.readonly != readonly && (info.open_count == 0 || info.readonly) {
            remove_patiently(&self.control, &name)?;
            info = self.control.activate(&name, &line, readonly)?;
        }
        Ok(info)
    }

    /// Removes the volume's device, now or when it is closed for the last time.
    pub(super) fn deactivate(&self, id: u32) -> Result<()> {
        self.control.remove_deferred(&self.names.volume(id))
    }

    /// Activates the volume and opens it, so that nobody else's removal takes it away.
    fn activate_and_hold(&self, id: u32, access: Access) -> Result<(PathBuf, File)> {
        unless_it_vanishes(|| {
            let info = self.try_activate(id, access)?;
            let device = node(info.number)?;
            let held = File::open(&device).act(|| format!("open {}", device.display()))?;
            // While it is open its number is not given to another. Before, it may have been: then this is another's.
            match self.control.info(&self.names.volume(id))? {
                Some(now) if now.number == info.number => Ok((device, held)),
                _ => Err(Error::with_source(
                    Kind::NotFound,
                    format!("open {}: it is no longer volume {id}", device.display()),
                    io::Error::from_raw_os_error(libc::ENXIO),
                )),
            }
        })
    }

    /// Runs `act` with the volume active.
    ///
    /// Several processes may look at one sealed volume at once: read-only, the last one's leaving removes the device.
    /// What is written or deleted is the caller's alone, and is left as it was when this returns.
    pub(super) fn while_active<T>(&self, id: u32, access: Access, act: impl FnOnce(PathBuf) -> Result<T>) -> Result<T> {
        let name = self.names.volume(id);
        let was = access == Access::ReadWrite && self.control.info(&name)?.is_some_and(|info| info.live);
        let done = self.activate_and_hold(id, access).and_then(|(device, held)| {
            let done = act(device);
            drop(held);
            done
        });
        let undone = match access {
            Access::ReadOnly => self.control.remove_deferred(&name),
            Access::ReadWrite if was => Ok(()),
            Access::ReadWrite => remove_patiently(&self.control, &name),
        };
        match done {
            Ok(done) => undone.map(|()| done),
            Err(error) => Err(error.and_undo(undone)),
        }
    }

    /// Makes `id` a snapshot of `origin` as it is now, mounted or not.
    pub(super) fn snapshot(&self, id: u32, origin: u32) -> Result<()> {
        let message = Message::CreateSnap { id, origin };
        let name = self.names.volume(origin);
        let Some(info) = self.control.info(&name)?.filter(|info| info.live && !info.readonly) else {
            return self.message(message);
        };
        // The lock tells a window that is open from one that a killed process left open.
        let device = File::open(node(info.number)?).act(|| format!("open {}", name.name))?;
        interrupt::wait_for_lock(&device, FlockOperation::LockExclusive).act(|| format!("lock {}", name.name))?;
        match self.control.suspend(&name) {
            // A file system that gave up (its journal is aborted) cannot be frozen, and writes nothing any more.
            Err(error) if error.errno() == Some(libc::EIO) && has_given_up(info.number)? => {
                self.control.suspend_no_lockfs(&name)?;
            }
            result => result?,
        }
        crash::point(crash::Point::CaptureSuspended);
        let made = self.message(message);
        crash::point(crash::Point::CaptureTaken);
        let resumed = self.control.resume(&name);
        match made {
            Ok(()) => resumed,
            Err(error) => Err(error.and_undo(resumed)),
        }
    }

    /// Resumes a device that a process killed in [`Pool::snapshot`] left suspended; one that is suspended on purpose is
    /// waited for.
    pub(super) fn resume_if_left(&self, name: &DmName, number: (u32, u32)) -> Result<()> {
        let device = File::open(node(number)?).act(|| format!("open {}", name.name))?;
        interrupt::wait_for_lock(&device, FlockOperation::LockExclusive).act(|| format!("lock {}", name.name))?;
        self.control.resume(name)
    }

    /// Replays the journal of an unmounted volume that was not unmounted in an orderly way, and mends what had noted an
    /// error, so that nothing has to be written ever after.
    pub(super) fn settle(&self, id: u32, fs: BlockFs) -> Result<()> {
        let dirty = self.while_active(id, Access::ReadOnly, |device| match fs {
            BlockFs::Xfs => match Mounted::detached(&mount_spec(fs, device, Access::ReadOnly)) {
                Ok(_) => Ok(false),
                // "recovery required on read-only device" (xfs_mountfs, xlog_recover).
                Err(error) if error.errno() == Some(libc::EROFS) => Ok(true),
                Err(error) => Err(error),
            },
            _ => {
                let block = Source::open(&device)?.block(0)?;
                Ok(needs_recovery(&block) || noted(&block).is_some())
            }
        })?;
        if !dirty {
            return Ok(());
        }
        self.while_active(id, Access::ReadWrite, |device| {
            // Replaying may bring up an error that only the journal had noted.
            Mounted::detached(&mount_spec(fs, device.clone(), Access::ReadWrite)).map(drop)?;
            mend_if_noted(&device)
        })
        .act(|| format!("replay the journal of volume {id}"))
    }

    /// Deletes the thin device after giving the chunks that only it has back to the disk. Nothing there is success.
    ///
    /// A device that shares all it has, as an untouched snapshot does, is not even activated.
    pub(super) fn delete(&self, id: u32) -> Result<()> {
        let name = self.names.volume(id);
        remove_patiently(&self.control, &name)?;
        let own = match self.with_metadata(|metadata| metadata.unshared(id.into())) {
            Ok(None) => return Ok(()),
            Ok(Some(own)) => own,
            // Giving back takes metadata itself; deleting frees some. The disk gets its space when the chunks are used
            // and given back anew.
            Err(error) if error.kind() == Kind::Full => Vec::new(),
            Err(error) => return Err(error),
        };
        if !own.is_empty() {
            self.while_active(id, Access::ReadWrite, |device| {
                self.give_back(&own, &device).act(|| format!("give back the space of {}", name.name))
            })?;
        }
        crash::point(crash::Point::SpaceGivenBack);
        match self.message(Message::Delete(id)) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Discards these chunks. The kernel passes down to the disk only what no other volume shares.
    fn give_back(&self, chunks: &[u64], device: &Path) -> Result<()> {
        let chunk = self.chunk().0;
        let file = File::options().write(true).open(device).act(|| "open it")?;
        for run in chunks.chunk_by(|one, next| next - one <= NEAR) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let (mut at, end) = (first * chunk, (last + 1) * chunk);
            while at < end {
                let length = SLICE.min(end - at);
                match sys::block::discard(&file, at, length) {
                    // A disk that cannot take space back; the pool still can.
                    Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
                    result => result.act(|| format!("discard {} at byte {at}", Bytes(length)))?,
                }
                at += length;
            }
        }
        Ok(())
    }
}

/// Whether the file system on this device has noted an error; one that only could not write something is alive.
fn has_given_up(number: (u32, u32)) -> Result<bool> {
    Ok(noted(&Source::open(&node(number)?)?.block(0)?).is_some())
}

/// Does `act` again as long as the device is taken away under it: several processes may look at one sealed volume, each
/// of which removes its device when it is done.
fn unless_it_vanishes<T>(mut act: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match act() {
            Err(error) if matches!(error.errno(), Some(libc::ENXIO | libc::ENOENT)) && Instant::now() < deadline => {
                thread::yield_now();
            }
            result => return result,
        }
    }
}
