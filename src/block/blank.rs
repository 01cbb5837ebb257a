//! Files and devices that a user gives: taken only if nothing is on them.
//!
//! Invariant: what is not blank is never written, so nobody's data is lost by a mistyped path.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    units::Bytes,
};

/// Where partition tables, file systems, LVM and RAID put their marks: within this at the start, or at the end.
const START: u64 = 4 << 20;
const END: u64 = 1 << 20;

/// Refuses a file or device that holds anything but zeros where marks lie. Returns its length.
///
/// # Errors
/// `NotOurs` with the place of the first byte that is not zero.
pub fn ensure_blank(path: &Path) -> Result<Bytes> {
    let act = || format!("look at {}", path.display());
    let mut file = File::open(path).act(act)?;
    let length = file.seek(SeekFrom::End(0)).act(act)?;
    for (start, end) in regions(length) {
        if let Some(at) = first_byte(&mut file, start, end).act(act)? {
            return Err(Error::new(
                Kind::NotOurs,
                format!(
                    "{} is in use: it holds something at byte {at}; give another, or if that is of no use any more, \
                     wipe the device (wipefs, blkdiscard) or remove the file",
                    path.display(),
                ),
            ));
        }
    }
    Ok(Bytes(length))
}

/// Makes a file or device of ours blank again.
///
/// # Errors
/// The kernel's reason.
pub fn make_blank(path: &Path) -> Result<()> {
    let act = || format!("wipe {}", path.display());
    let mut file = OpenOptions::new().write(true).open(path).act(act)?;
    let length = file.seek(SeekFrom::End(0)).act(act)?;
    for (start, end) in regions(length) {
        let zeros = io::repeat(0).take(end - start);
        file.seek(SeekFrom::Start(start)).act(act)?;
        io::copy(&mut { zeros }, &mut file).act(act)?;
    }
    file.flush().act(act)?;
    file.sync_all().act(act)
}

fn regions(length: u64) -> [(u64, u64); 2] {
    let start = length.min(START);
    [(0, start), (length.saturating_sub(END).max(start), length)]
}

fn first_byte(file: &mut File, start: u64, end: u64) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(start))?;
    let mut at = start;
    let mut buffer = vec![0; 64 << 10];
    while at < end {
        let wanted = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact(&mut buffer[..wanted])?;
        if let Some(found) = buffer[..wanted].iter().position(|byte| *byte != 0) {
            return Ok(Some(at + found as u64));
        }
        at += wanted as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{ensure_blank, make_blank};
    use crate::{error::Kind, units::Bytes};
    use std::{fs::File, os::unix::fs::FileExt as _};

    #[test]
    fn a_mark_at_either_end_is_seen_and_wiped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        for length in [0u64, 1, 4096, 5 << 20, 9 << 20] {
            file.set_len(length).unwrap();
            assert_eq!(ensure_blank(&path).unwrap(), Bytes(length));
            for at in [0, 65_600, length.saturating_sub(1)] {
                if at < length {
                    file.write_all_at(b"x", at).unwrap();
                    assert_eq!(ensure_blank(&path).unwrap_err().kind(), Kind::NotOurs, "{length} {at}");
                    make_blank(&path).unwrap();
                    assert_eq!(ensure_blank(&path).unwrap(), Bytes(length));
                }
            }
        }
    }
}
