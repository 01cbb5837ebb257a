//! How a process ended, by its pidfd.

use std::{io, os::fd::AsFd};

use super::{Ioctl, call};

/// `struct pidfd_info` in its first size (linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    numbers: [u32; 11],
    exit: i32,
}

/// `PIDFD_INFO_EXIT`.
const EXIT: u64 = 1 << 3;

struct GetInfo;
// SAFETY: PIDFD_GET_INFO reads and writes one `struct pidfd_info`, of integers only (fs/pidfs.c).
unsafe impl Ioctl for GetInfo {
    const NUMBER: libc::c_ulong = ioctl_sys::iorw!(0xff, 11, size_of::<PidfdInfo>()) as libc::c_ulong;
    type Argument = PidfdInfo;
}

/// How the process behind a pidfd ended, as wait(2) tells it; `None` as long as its parent does not know it, and from
/// kernels before Linux 6.15.
///
/// # Errors
/// The kernel's errno.
pub(super) fn exit_status(process: impl AsFd) -> io::Result<Option<i32>> {
    let mut info = PidfdInfo { mask: EXIT, ..PidfdInfo::default() };
    match call::<GetInfo>(process, &mut info) {
        Ok(_) => Ok((info.mask & EXIT != 0).then_some(info.exit)),
        // It has ended and was forgotten; before Linux 6.13 there is no such question.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOTTY | libc::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::{GetInfo, PidfdInfo, exit_status};
    use crate::sys::Ioctl as _;

    #[test]
    fn the_end_is_told_to_whoever_holds_the_process() {
        assert_eq!((GetInfo::NUMBER, size_of::<PidfdInfo>()), (0xc040_ff0b, 64));
        let mut child = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(5));
        // Older kernels do not tell.
        assert!(matches!(exit_status(&pidfd).unwrap(), None | Some(0x500)));
    }
}
