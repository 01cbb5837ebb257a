//! Simple quotas of btrfs (`linux/btrfs.h`, since Linux 6.7): each block counts for the subvolume that wrote it.

use std::{io, os::fd::AsFd};

use crate::sys::call;

/// `BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA`.
const ENABLE_SIMPLE: u64 = 4;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`.
const MAX_RFER: u64 = 1;

#[repr(C)]
struct QuotaCtlArgs {
    cmd: u64,
    status: u64,
}

#[repr(C)]
struct QgroupLimitArgs {
    qgroupid: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    reserved: [u64; 2],
}

ioctls! {
    QuotaCtl = ioctl_sys::iorw!(0x94, 40, size_of::<QuotaCtlArgs>()), QuotaCtlArgs;
    QgroupLimit = ioctl_sys::ior!(0x94, 43, size_of::<QgroupLimitArgs>()), QgroupLimitArgs;
}

/// Turns simple quotas on; nothing happens where quotas of either kind are on.
///
/// # Errors
/// The kernel's errno: `EINVAL` before Linux 6.7.
pub fn enable_simple_quota(filesystem: impl AsFd) -> io::Result<()> {
    call::<QuotaCtl>(filesystem, &mut QuotaCtlArgs { cmd: ENABLE_SIMPLE, status: 0 }).map(drop)
}

/// Limits what the subvolume with number `id` may have written to `bytes`.
///
/// # Errors
/// The kernel's errno: `ENOTCONN` while quotas are off, `ENOENT` without such a subvolume.
pub fn limit_subvolume(filesystem: impl AsFd, id: u64, bytes: u64) -> io::Result<()> {
    let mut args = QgroupLimitArgs { qgroupid: id, flags: MAX_RFER, max_rfer: bytes, max_excl: 0, reserved: [0; 2] };
    call::<QgroupLimit>(filesystem, &mut args).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{QgroupLimit, QuotaCtl};
    use crate::sys::Ioctl;

    // What a C program over linux/btrfs.h printed on x86_64.
    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(QuotaCtl::NUMBER, 0xc010_9428);
        assert_eq!(QgroupLimit::NUMBER, 0x8030_942b);
    }
}
