//! The journal of ext4.

use std::{io, os::fd::AsFd};

use super::{Ioctl, call};

struct Checkpoint;
// SAFETY: EXT4_IOC_CHECKPOINT reads one `__u32` of flags.
unsafe impl Ioctl for Checkpoint {
    const NUMBER: libc::c_ulong = 0x4004_662B;
    type Argument = u32;
}

/// Writes what the journal of the ext4 that holds `file` has to where it belongs, so that the journal keeps nothing of it in
/// memory (since Linux 5.14).
///
/// # Errors
/// The kernel's errno: `ENOTTY` on another file system, or an older kernel; `ENODEV` without a journal.
pub fn checkpoint(file: impl AsFd) -> io::Result<()> {
    call::<Checkpoint>(file, &mut 0).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Checkpoint, Ioctl as _};

    #[test]
    fn the_number_is_that_of_the_kernel() {
        // _IOW('f', 43, __u32)
        let size = size_of::<u32>() as libc::c_ulong;
        assert_eq!(Checkpoint::NUMBER, 1 << 30 | size << 16 | libc::c_ulong::from(b'f') << 8 | 43);
    }
}
