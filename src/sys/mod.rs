//! Every ioctl and every system call that no crate wraps safely. The only module with unsafe code.
//!
//! Invariant: each ioctl is one type that binds its number, its direction and its argument ([`Ioctl`]), so that a call
//! site cannot pair the wrong two; each number is tested against the kernel's literal.
#![allow(unsafe_code, reason = "this module is where the unsafe code lives")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

pub mod block;
pub mod btrfs;
pub mod dm;
pub mod ext4;
pub mod loop_dev;
pub mod mount;
pub mod page_frames;
mod pidfd;
pub mod process;
pub mod signal;
mod trim;

pub use trim::trim;

/// One ioctl: its number and the type that the kernel reads or writes.
///
/// # Safety
/// `NUMBER` must be an ioctl whose argument is a pointer to a `Self::Argument` that the kernel reads, writes, or both,
/// within its size, and every bit pattern that the kernel can write there must be a valid value.
pub unsafe trait Ioctl {
    /// The request number, with direction and size encoded as in `asm-generic/ioctl.h`.
    const NUMBER: libc::c_ulong;
    /// What the pointer points at.
    type Argument;
}

/// Calls `I` on `fd`.
///
/// # Errors
/// The kernel's errno.
pub fn call<I: Ioctl>(fd: impl AsFd, argument: &mut I::Argument) -> io::Result<libc::c_int> {
    // SAFETY: by the contract of `Ioctl` the kernel touches one `I::Argument` behind the pointer, which is valid and
    // exclusively borrowed for the call, and leaves a valid value in it.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), I::NUMBER, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
