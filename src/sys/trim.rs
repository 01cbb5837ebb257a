//! Free space of a mounted file system given back to what lies below.

use std::{io, os::fd::AsFd};

use super::{Ioctl, call};

/// `struct fstrim_range` (linux/fs.h).
#[repr(C)]
struct FstrimRange {
    start: u64,
    len: u64,
    minlen: u64,
}

struct Fitrim;
// SAFETY: FITRIM reads and writes one `struct fstrim_range`, made of integers only, which `FstrimRange` lays out.
unsafe impl Ioctl for Fitrim {
    const NUMBER: libc::c_ulong = 0xC018_5879;
    type Argument = FstrimRange;
}

/// Discards what the file system that holds `file` does not use.
///
/// # Errors
/// The kernel's errno: `EOPNOTSUPP` where nothing below can discard.
pub fn trim(file: impl AsFd) -> io::Result<()> {
    call::<Fitrim>(file, &mut FstrimRange { start: 0, len: u64::MAX, minlen: 0 }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Fitrim, FstrimRange, Ioctl as _};

    #[test]
    fn the_number_is_that_of_the_kernel() {
        // _IOWR('X', 121, struct fstrim_range)
        let size = size_of::<FstrimRange>() as libc::c_ulong;
        assert_eq!(Fitrim::NUMBER, 3 << 30 | size << 16 | libc::c_ulong::from(b'X') << 8 | 121);
    }
}
