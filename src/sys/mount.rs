//! `mount_setattr(2)`, which neither nix nor rustix wraps: it makes a detached bind mount read-only.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// `struct mount_attr` of `linux/mount.h`, version 0.
#[repr(C)]
#[derive(Debug, Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds `MOUNT_ATTR_*` flags to the mount that `fd` is the root of, with `recursive` to those below it too, and parts it
/// from the one that it was cloned of: in a shared one (systemd makes `/` shared), what is mounted in the clone would
/// appear in the original too.
///
/// # Errors
/// The kernel's errno; `ENOSYS` before Linux 5.12.
pub fn set_attributes_privately(fd: impl AsFd, attributes: u64, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let attr = MountAttr { attr_set: attributes, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    // SAFETY: the path is the empty C string, `attr` is a `struct mount_attr` of the size passed, both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
