//! Device-mapper devices: made, given a table, suspended, asked, removed.
//!
//! Invariant: every lookup goes by UUID, so a device that merely has our name is never touched. No udev: nodes are
//! devtmpfs' `/dev/dm-N`, made by hand where devtmpfs is not mounted.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::names::DmName;
use crate::{
    error::{Act as _, Error, Kind, Result, kind_of},
    sys::dm::{self, Call, Command, Reply},
    units::Sectors,
};

const CONTROL: &str = "/dev/mapper/control";
/// `MISC_MAJOR` and `MAPPER_CTRL_MINOR` (linux/miscdevice.h).
const CONTROL_NUMBER: (u32, u32) = (10, 236);

/// One line of a table; our devices have one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLine {
    /// How long the device is.
    pub length: Sectors,
    /// The target.
    pub target: String,
    /// Its arguments, or its status.
    pub text: String,
}

/// What the kernel says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Whether a table is active: a device without one was left by a process that died.
    pub live: bool,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether it refuses writes.
    pub readonly: bool,
    /// Whether it goes away with its last user.
    pub removing: bool,
    /// How often it is open.
    pub open_count: u32,
    /// Major and minor number.
    pub number: (u32, u32),
}

/// The open control node.
#[derive(Debug)]
pub struct Control {
    node: File,
}

impl Control {
    /// Opens device-mapper, which loads its module where it is one.
    ///
    /// # Errors
    /// `Unsupported` if the kernel has none; `Denied` without privileges.
    pub fn open() -> Result<Self> {
        let open = || OpenOptions::new().read(true).write(true).open(CONTROL);
        let node = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_control_node().and_then(|()| open()),
            result => result,
        };
        let missing = || {
            Error::new(
                Kind::Unsupported,
                "open /dev/mapper/control: this kernel has no device-mapper (CONFIG_BLK_DEV_DM; 'modprobe dm_mod')",
            )
        };
        match node {
            Ok(node) => Ok(Self { node }),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => {
                Err(missing())
            }
            Err(error) => Err(error).act(|| format!("open {CONTROL}")),
        }
    }

    /// Sees to it that the kernel has `target`, and tells its version.
    ///
    /// # Errors
    /// `Unsupported` naming `symbol`, the kernel's configuration symbol.
    pub fn require(&self, target: &str, symbol: &str) -> Result<[u32; 3]> {
        let call = Call { name: target.to_owned(), ..Call::default() };
        match dm::call::<dm::TargetVersion>(&self.node, &call) {
            Ok(reply) => reply.version_of_target().ok_or_else(|| Error::new(Kind::Corrupt, "kernel told no version")),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(Error::new(
                Kind::Unsupported,
                format!("this kernel has no device-mapper target '{target}' ({symbol}), or is older than Linux 5.4"),
            )),
            Err(error) => Err(error).act(|| "ask for its version"),
        }
        .act(|| format!("look for device-mapper target '{target}'"))
    }

    /// Makes the device with an active table. What a killed process left half made under the same UUID is finished.
    ///
    /// # Errors
    /// `InUse` if the name belongs to somebody else; the kernel's reason for refusing the table; its `ENXIO` if somebody
    /// removed the device meanwhile. Nothing is left then.
    pub fn activate(&self, name: &DmName, line: &TableLine, readonly: bool) -> Result<Info> {
        let act = || format!("activate {}", name.name);
        let call = Call { name: name.name.clone(), uuid: name.uuid.clone(), ..Call::default() };
        match self.call::<dm::DevCreate>(&call) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => match self.info(name)? {
                None if self.is_taken(name)? => {
                    return Err(Error::new(
                        Kind::InUse,
                        format!("{}: a device of that name belongs to somebody else", act()),
                    ));
                }
                None => return Err(vanished(&act())),
                Some(info) if info.live => return Ok(info),
                Some(_) => {}
            },
            result => drop(result.act(act)?),
        }
        self.load(name, line, readonly)
            .and_then(|()| self.resume(name))
            .map_err(|error| error.and_undo(self.remove(name).map(drop)))
            .act(act)?;
        self.info(name)?.ok_or_else(|| vanished(&act()))
    }

    /// Whether there is a device of this name, whosever it is.
    fn is_taken(&self, name: &DmName) -> Result<bool> {
        let reply = self.call::<dm::DevStatus>(&Call { name: name.name.clone(), ..Call::default() });
        none_if_missing(reply).act(|| format!("look at {}", name.name)).map(|reply| reply.is_some())
    }

    /// Loads a table beside the active one; [`Control::resume`] makes it active.
    ///
    /// # Errors
    /// The kernel's reason; it writes the details into its log.
    pub fn load(&self, name: &DmName, line: &TableLine, readonly: bool) -> Result<()> {
        let mut payload = Vec::with_capacity(64 + line.text.len());
        payload.extend_from_slice(&0u64.to_ne_bytes());
        payload.extend_from_slice(&line.length.0.to_ne_bytes());
        payload.extend_from_slice(&[0; 8]);
        let mut target = [0; 16];
        for (to, from) in target.iter_mut().zip(line.target.bytes().take(15)) {
            *to = from;
        }
        payload.extend_from_slice(&target);
        payload.extend_from_slice(line.text.as_bytes());
        payload.push(0);
        let flags = if readonly { dm::READONLY } else { 0 };
        let call = Call { uuid: name.uuid.clone(), flags, targets: 1, payload, ..Call::default() };
        self.call::<dm::TableLoad>(&call)
            .act(|| format!("load table '{} {}' into {}", line.target, line.text, name.name))
            .map(drop)
    }

    /// Stops I/O after freezing the file system on the device, so that what lies on it is complete and clean.
    ///
    /// # Errors
    /// The kernel's reason; the device runs on then.
    pub fn suspend(&self, name: &DmName) -> Result<()> {
        self.suspension(name, dm::SUSPEND).act(|| format!("suspend {}", name.name))
    }

    /// The same without freezing a file system: for a pool, which has none, and for one that has given up.
    ///
    /// # Errors
    /// The kernel's reason; the device runs on then.
    pub fn suspend_no_lockfs(&self, name: &DmName) -> Result<()> {
        self.suspension(name, dm::SUSPEND | dm::SKIP_LOCKFS).act(|| format!("suspend {}", name.name))
    }

    /// Lets I/O run, with the loaded table if there is one.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn resume(&self, name: &DmName) -> Result<()> {
        self.suspension(name, 0).act(|| format!("resume {}", name.name))
    }

    fn suspension(&self, name: &DmName, flags: u32) -> io::Result<()> {
        self.call::<dm::DevSuspend>(&Call { uuid: name.uuid.clone(), flags, ..Call::default() }).map(drop)
    }

    /// The device's state; `None` if there is none.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn info(&self, name: &DmName) -> Result<Option<Info>> {
        let reply = self.call::<dm::DevStatus>(&Call { uuid: name.uuid.clone(), ..Call::default() });
        let reply = none_if_missing(reply).act(|| format!("look at {}", name.name))?;
        Ok(reply.map(|reply| Info {
            live: reply.flags & dm::ACTIVE_PRESENT != 0,
            suspended: reply.flags & dm::SUSPEND != 0,
            readonly: reply.flags & dm::READONLY != 0,
            removing: reply.flags & dm::DEFERRED_REMOVE != 0,
            open_count: reply.open_count,
            number: reply.number,
        }))
    }

    /// The active table.
    ///
    /// # Errors
    /// The kernel's reason; `NotFound` without a device or a table.
    pub fn table(&self, name: &DmName) -> Result<TableLine> {
        self.line(name, dm::STATUS_TABLE | dm::NOFLUSH).act(|| format!("read the table of {}", name.name))
    }

    /// The target's status, as it is: nothing is committed for it.
    ///
    /// # Errors
    /// As [`Control::table`].
    pub fn status(&self, name: &DmName) -> Result<TableLine> {
        self.line(name, dm::NOFLUSH).act(|| format!("read the status of {}", name.name))
    }

    fn line(&self, name: &DmName, flags: u32) -> Result<TableLine> {
        let call = Call { uuid: name.uuid.clone(), flags, ..Call::default() };
        let reply = none_if_missing(self.call::<dm::TableStatus>(&call)).act(|| "ask device-mapper")?;
        let none = || Error::new(Kind::NotFound, "it is not active");
        let reply = reply.filter(|reply| reply.targets > 0).ok_or_else(none)?;
        parse_line(&reply.payload).ok_or_else(|| Error::new(Kind::Corrupt, "the kernel's answer is cut off"))
    }

    /// Sends `text` to the device's target. The error is the bare errno: only the sender knows what it means.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn message(&self, name: &DmName, text: &str) -> io::Result<()> {
        let mut payload = 0u64.to_ne_bytes().to_vec();
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        self.call::<dm::TargetMessage>(&Call { uuid: name.uuid.clone(), payload, ..Call::default() }).map(drop)
    }

    /// Calls off a removal that waits for the last user.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn keep(&self, name: &DmName) -> Result<()> {
        self.message(name, "@cancel_deferred_remove").act(|| format!("keep {}", name.name))
    }

    /// Removes the device. Tells whether it is gone: `false` if somebody has it open. Nothing there is success.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn remove(&self, name: &DmName) -> Result<bool> {
        let call = Call { uuid: name.uuid.clone(), ..Call::default() };
        match none_if_missing(self.call::<dm::DevRemove>(&call)) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
            Err(error) => Err(error).act(|| format!("remove {}", name.name)),
        }
    }

    /// Removes the device now or, if it is open, when it is closed for the last time. Nothing there is success.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn remove_deferred(&self, name: &DmName) -> Result<()> {
        let call = Call { uuid: name.uuid.clone(), flags: dm::DEFERRED_REMOVE, ..Call::default() };
        none_if_missing(self.call::<dm::DevRemove>(&call)).act(|| format!("remove {}", name.name)).map(drop)
    }

    /// The names of all devices, ours and others.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn names(&self) -> Result<Vec<String>> {
        let reply = self.call::<dm::ListDevices>(&Call::default()).act(|| "list device-mapper devices")?;
        parse_names(&reply.payload)
            .ok_or_else(|| Error::new(Kind::Corrupt, "list device-mapper devices: the kernel's answer is cut off"))
    }

    fn call<C: Command>(&self, call: &Call) -> io::Result<Reply> {
        dm::call::<C>(&self.node, call)
    }
}

/// Somebody removed the device while we worked on it.
fn vanished(act: &str) -> Error {
    Error::with_source(Kind::NotFound, format!("{act}: it vanished"), io::Error::from_raw_os_error(libc::ENXIO))
}

fn none_if_missing(reply: io::Result<Reply>) -> io::Result<Option<Reply>> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Without udev or kmod's static nodes nobody has made the node; opening it loads the module (`devname:` alias).
fn make_control_node() -> io::Result<()> {
    std::fs::create_dir_all("/dev/mapper")?;
    let number = makedev(CONTROL_NUMBER.0, CONTROL_NUMBER.1);
    match mknodat(CWD, CONTROL, FileType::CharacterDevice, Mode::from(0o600), number) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}

/// The node of the device-mapper device `number`: devtmpfs' own, else one beside it made by hand.
///
/// # Errors
/// When the node cannot be made.
pub fn node(number: (u32, u32)) -> Result<PathBuf> {
    let path = PathBuf::from(format!("/dev/dm-{}", number.1));
    if is_node(&path, number) {
        return Ok(path);
    }
    let act = || format!("make device node {}", path.display());
    match mknodat(CWD, &path, FileType::BlockDevice, Mode::from(0o600), makedev(number.0, number.1)) {
        Err(rustix::io::Errno::EXIST) if is_node(&path, number) => Ok(path),
        Err(errno) => {
            let error = io::Error::from(errno);
            Err(Error::with_source(kind_of(&error), act(), error))
        }
        Ok(()) => Ok(path),
    }
}

fn is_node(path: &Path, number: (u32, u32)) -> bool {
    let found = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_block_device());
    found && rustix::fs::stat(path).is_ok_and(|stat| stat.st_rdev == makedev(number.0, number.1))
}

fn text_at(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The first `struct dm_target_spec` and its text.
fn parse_line(payload: &[u8]) -> Option<TableLine> {
    Some(TableLine {
        length: Sectors(u64::from_ne_bytes(number_at(payload, 8)?)),
        target: text_at(payload.get(24..40)?)?,
        text: text_at(payload.get(40..)?)?.trim().to_owned(),
    })
}

/// A chain of `struct dm_name_list`; one with device number zero stands for no devices at all.
fn parse_names(payload: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    loop {
        let device = u64::from_ne_bytes(number_at(payload, at)?);
        let next = usize::try_from(u32::from_ne_bytes(number_at(payload, at + 8)?)).ok()?;
        if device != 0 {
            names.push(text_at(payload.get(at + 12..)?)?);
        }
        if next == 0 {
            return Some(names);
        }
        at += next;
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_line, parse_names};
    use crate::units::Sectors;

    #[test]
    fn a_status_reply_parses() {
        let mut payload = vec![0; 40];
        payload[8..16].copy_from_slice(&2048u64.to_ne_bytes());
        payload[24..28].copy_from_slice(b"thin");
        payload.extend_from_slice(b"128 255\0rest");
        let line = parse_line(&payload).unwrap();
        assert_eq!((line.length, line.target.as_str(), line.text.as_str()), (Sectors(2048), "thin", "128 255"));
        assert!(parse_line(&payload[..43]).is_none());
    }

    #[test]
    fn a_list_of_devices_parses() {
        let entry = |device: u64, next: u32, name: &[u8]| {
            let mut bytes = device.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&next.to_ne_bytes());
            bytes.extend_from_slice(name);
            bytes.resize(24, 0);
            bytes
        };
        let two = [entry(64512, 24, b"a\0"), entry(64513, 0, b"bc\0")].concat();
        assert_eq!(parse_names(&two).unwrap(), ["a", "bc"]);
        assert!(parse_names(&entry(0, 0, b"")).unwrap().is_empty());
        assert!(parse_names(&two[..30]).is_none());
    }
}
