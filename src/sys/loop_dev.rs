//! The loop driver's ioctls that the crate `loopdev` lacks: LOOP_CONFIGURE and the status of a device (`linux/loop.h`).
//!
//! Invariant: a device is given its file, its block size and its flags in one step, so that no half-configured device
//! is ever seen.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use loopdev::LoopDevice;

use super::{Ioctl, call};

/// The device goes away with its last user.
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// The backing file is read and written past the page cache.
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const NO_INFO: LoopInfo64 = LoopInfo64 {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    sizelimit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

struct Configure;
// SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, which `LoopConfig` lays out; it writes nothing.
unsafe impl Ioctl for Configure {
    const NUMBER: libc::c_ulong = 0x4C0A;
    type Argument = LoopConfig;
}

struct GetStatus64;
// SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`, made of integers only.
unsafe impl Ioctl for GetStatus64 {
    const NUMBER: libc::c_ulong = 0x4C05;
    type Argument = LoopInfo64;
}

struct SetStatus64;
// SAFETY: LOOP_SET_STATUS64 reads one `struct loop_info64`; it writes nothing.
unsafe impl Ioctl for SetStatus64 {
    const NUMBER: libc::c_ulong = 0x4C04;
    type Argument = LoopInfo64;
}

/// Which file a loop device holds: the file's device and inode number, as `stat(2)` tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing {
    /// `st_dev`; the kernel encodes both alike below 2^32 (`huge_encode_dev`).
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

fn borrow(device: &LoopDevice) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to `device`, which stays open and borrowed as long as the result lives.
    unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) }
}

/// Gives the unbound `device` the file `backing`, with logical blocks of `block_size` bytes.
///
/// # Errors
/// The kernel's errno: `EBUSY` if somebody was faster, `EINVAL` if the kernel cannot have it so.
pub fn configure(device: &LoopDevice, backing: &File, block_size: u32, direct: bool) -> io::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?;
    let flags = if direct { LO_FLAGS_DIRECT_IO } else { 0 };
    let mut config = LoopConfig { fd, block_size, info: LoopInfo64 { flags, ..NO_INFO }, reserved: [0; 8] };
    call::<Configure>(borrow(device), &mut config).map(drop)
}

/// The file that the device open as `fd` holds; `None` if it is free.
///
/// # Errors
/// The kernel's errno.
pub fn backing(fd: impl AsFd) -> io::Result<Option<Backing>> {
    let mut info = NO_INFO;
    match call::<GetStatus64>(fd, &mut info) {
        Ok(_) => Ok(Some(Backing { device: info.device, inode: info.inode })),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the device shows the whole file, to be written: no offset, no limit, not read-only.
///
/// # Errors
/// The kernel's errno.
pub fn is_whole(fd: impl AsFd) -> io::Result<bool> {
    let mut info = NO_INFO;
    call::<GetStatus64>(fd, &mut info)?;
    Ok(info.offset == 0 && info.sizelimit == 0 && info.flags & LO_FLAGS_READ_ONLY == 0)
}

/// Whether I/O to the backing file goes past the page cache.
///
/// # Errors
/// The kernel's errno.
pub fn is_direct(fd: impl AsFd) -> io::Result<bool> {
    let mut info = NO_INFO;
    call::<GetStatus64>(fd, &mut info)?;
    Ok(info.flags & LO_FLAGS_DIRECT_IO != 0)
}

/// Takes back a detach that waits for the device's last user: `LOOP_CLR_FD` only marks a device that is open
/// elsewhere (`loop_clr_fd`, drivers/block/loop.c).
///
/// # Errors
/// The kernel's errno.
pub fn keep(fd: impl AsFd) -> io::Result<()> {
    let mut info = NO_INFO;
    call::<GetStatus64>(&fd, &mut info)?;
    info.flags &= !LO_FLAGS_AUTOCLEAR;
    call::<SetStatus64>(fd, &mut info).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{LoopConfig, LoopInfo64};
    use std::mem::offset_of;

    #[test]
    fn the_layouts_are_those_of_the_kernel() {
        // Printed by a C program over linux/loop.h.
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(offset_of!(LoopInfo64, flags), 52);
        assert_eq!(offset_of!(LoopInfo64, init), 216);
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(offset_of!(LoopConfig, info), 8);
    }
}
