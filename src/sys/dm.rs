//! The device-mapper control ioctls (`linux/dm-ioctl.h`): one type per command, one buffer layout for all.
//!
//! Invariant: a [`Call`] and a [`Reply`] are plain data; only [`call`] knows the buffer, which is aligned to 8 bytes
//! because the kernel's structures hold 64-bit fields, and grows until the kernel's answer fits.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// The device is read-only.
pub const READONLY: u32 = 1 << 0;
/// Suspend rather than resume; in an answer: the device is suspended.
pub const SUSPEND: u32 = 1 << 1;
/// Ask for the table rather than for the status.
pub const STATUS_TABLE: u32 = 1 << 4;
/// In an answer: there is an active table.
pub const ACTIVE_PRESENT: u32 = 1 << 5;
const BUFFER_FULL: u32 = 1 << 8;
/// Suspend without freezing the file system on the device.
pub const SKIP_LOCKFS: u32 = 1 << 10;
/// Ask for the status without committing the pool's metadata first.
pub const NOFLUSH: u32 = 1 << 11;
/// Remove when the last user is gone; in an answer: that will happen.
pub const DEFERRED_REMOVE: u32 = 1 << 17;

/// The interface that the commands here need: `DM_GET_TARGET_VERSION` came with 4.41 (Linux 5.4).
const VERSION: [u32; 3] = [4, 41, 0];

/// High half of `event_nr`, read by udev's rules (`libdevmapper.h`): no rules for dm, subsystem, disk and others, no
/// library fallback. The low half, the cookie, stays zero: nobody waits for udev.
const UDEV_FLAGS: u32 = (0x01 | 0x02 | 0x04 | 0x08 | 0x20) << 16;

const NAME: usize = 48;
const NAME_LEN: usize = 128;
const UUID: usize = NAME + NAME_LEN;
const UUID_LEN: usize = 129;
const HEADER: usize = 312;

/// One command.
///
/// # Safety
/// `NUMBER` must be a device-mapper ioctl: one that takes a `struct dm_ioctl` and reads and writes no more than the
/// `data_size` bytes that the structure tells.
pub unsafe trait Command {
    /// The request number.
    const NUMBER: libc::c_ulong;
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;
            // SAFETY: every number of the magic 0xfd is a command over `struct dm_ioctl` (drivers/md/dm-ioctl.c,
            // lookup_ioctl), which checks its answer against `data_size`.
            unsafe impl Command for $name {
                const NUMBER: libc::c_ulong = ioctl_sys::iorw!(0xfd, $number, HEADER) as libc::c_ulong;
            }
        )*
    };
}

commands! {
    /// Asks for the version of the interface.
    Version = 0,
    /// Lists all devices.
    ListDevices = 2,
    /// Makes a device without a table.
    DevCreate = 3,
    /// Removes a device.
    DevRemove = 4,
    /// Suspends a device, or resumes it with the loaded table.
    DevSuspend = 6,
    /// Asks for a device's state.
    DevStatus = 7,
    /// Loads a table beside the active one.
    TableLoad = 9,
    /// Asks for the status or the table.
    TableStatus = 12,
    /// Sends a message to a target.
    TargetMessage = 14,
    /// Asks for a target's version; the kernel loads the target's module for it.
    TargetVersion = 17,
}

/// What is sent.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The device's name; the target's for [`TargetVersion`].
    pub name: String,
    /// The device's UUID. Lookups take a name or a UUID, not both.
    pub uuid: String,
    /// Flags of the command.
    pub flags: u32,
    /// How many targets `payload` holds.
    pub targets: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The kernel's interface.
    pub version: [u32; 3],
    /// State of the device.
    pub flags: u32,
    /// How often it is open.
    pub open_count: u32,
    /// How many targets `payload` tells about.
    pub targets: u32,
    /// Major and minor number.
    pub number: (u32, u32),
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Reply {
    /// The version in the answer to [`TargetVersion`]: a `struct dm_target_versions`, its first word an offset.
    pub fn version_of_target(&self) -> Option<[u32; 3]> {
        let word = |at: usize| self.payload.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        Some([word(4)?, word(8)?, word(12)?])
    }
}

/// A buffer that is aligned as the kernel's structures are.
struct Buffer(Vec<u64>);

impl Buffer {
    fn new(size: usize) -> Self {
        Self(vec![0; size.div_ceil(8)])
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a u64 has no padding and every byte of it is initialised; the length is that of the vector.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 8) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and every pattern of bytes is a valid u64; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 8) }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u32(&self, at: usize) -> u32 {
        (self.0[at / 8].to_ne_bytes())[at % 8..at % 8 + 4].try_into().map_or(0, u32::from_ne_bytes)
    }
}

fn too_long(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is too long for device-mapper"))
}

fn encode(call: &Call, size: usize) -> io::Result<Buffer> {
    let mut buffer = Buffer::new(size);
    let size = u32::try_from(buffer.bytes().len()).map_err(|_| too_long("the argument"))?;
    // A terminating zero must remain in each.
    if call.name.len() >= NAME_LEN || call.uuid.len() >= UUID_LEN {
        return Err(too_long("the name"));
    }
    let header = [VERSION[0], VERSION[1], VERSION[2], size, 312, call.targets, 0, call.flags, UDEV_FLAGS, 0];
    for (at, word) in header.into_iter().enumerate() {
        buffer.put(at * 4, &word.to_ne_bytes());
    }
    buffer.put(NAME, call.name.as_bytes());
    buffer.put(UUID, call.uuid.as_bytes());
    buffer.put(HEADER, &call.payload);
    Ok(buffer)
}

fn decode(buffer: &Buffer) -> Reply {
    let number = libc::dev_t::from(buffer.0[5]);
    let size = usize::try_from(buffer.u32(12)).unwrap_or(HEADER);
    let start = usize::try_from(buffer.u32(16)).unwrap_or(HEADER);
    Reply {
        version: [buffer.u32(0), buffer.u32(4), buffer.u32(8)],
        targets: buffer.u32(20),
        open_count: buffer.u32(24),
        flags: buffer.u32(28),
        number: (libc::major(number), libc::minor(number)),
        payload: buffer.bytes().get(start..size).unwrap_or_default().to_vec(),
    }
}

/// Sends `call` through the open control node.
///
/// # Errors
/// The kernel's errno: `ENXIO` for no such device or no table, `EBUSY` for a device in use or a name taken.
pub fn call<C: Command>(control: impl AsFd, call: &Call) -> io::Result<Reply> {
    let mut size = HEADER + call.payload.len() + 4096;
    loop {
        let mut buffer = encode(call, size)?;
        let fd = control.as_fd().as_raw_fd();
        // SAFETY: by the contract of `Command` the kernel reads and writes at most `data_size` bytes, which `encode`
        // set to the length of this exclusively borrowed buffer.
        let result = unsafe { libc::ioctl(fd, C::NUMBER, buffer.bytes_mut().as_mut_ptr()) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let reply = decode(&buffer);
        if reply.flags & BUFFER_FULL == 0 {
            return Ok(reply);
        }
        size *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Call, Command, DevCreate, DevRemove, DevStatus, DevSuspend, ListDevices, TableLoad, TableStatus, TargetMessage,
        TargetVersion, Version, decode, encode,
    };

    #[test]
    fn numbers_are_the_kernels() {
        // Printed by a C program over linux/dm-ioctl.h on x86_64; the same on every architecture that Rust's ioctl
        // macros call generic.
        for (number, literal) in [
            (Version::NUMBER, 0xc138_fd00),
            (ListDevices::NUMBER, 0xc138_fd02),
            (DevCreate::NUMBER, 0xc138_fd03),
            (DevRemove::NUMBER, 0xc138_fd04),
            (DevSuspend::NUMBER, 0xc138_fd06),
            (DevStatus::NUMBER, 0xc138_fd07),
            (TableLoad::NUMBER, 0xc138_fd09),
            (TableStatus::NUMBER, 0xc138_fd0c),
            (TargetMessage::NUMBER, 0xc138_fd0e),
            (TargetVersion::NUMBER, 0xc138_fd11),
        ] {
            assert_eq!(number, literal);
        }
    }

    #[test]
    fn what_is_encoded_lies_where_the_kernel_reads_it() {
        let call = Call { name: "n".into(), uuid: "u".into(), flags: 2, targets: 1, payload: b"payload".to_vec() };
        let mut buffer = encode(&call, 400).unwrap();
        let bytes = buffer.bytes();
        assert_eq!(bytes.len(), 400);
        assert_eq!(bytes[48..50], *b"n\0");
        assert_eq!(bytes[176..178], *b"u\0");
        assert_eq!(bytes[312..319], *b"payload");
        buffer.put(40, &0x0001_2345_u64.to_ne_bytes());
        let reply = decode(&buffer);
        assert_eq!((reply.version, reply.flags, reply.targets), ([4, 41, 0], 2, 1));
        assert_eq!(reply.number, (0x123, 0x45));
        assert!(encode(&Call { name: "n".repeat(128), ..Call::default() }, 400).is_err());
    }
}
