//! The first copy of btrfs' superblock, read before anything is attached or mounted: whose file system is it, and is
//! its file whole.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use crate::{
    error::{Act as _, Error, Kind, Result, kind_of},
    units::Bytes,
};

/// Where the first copy lies (`BTRFS_SUPER_INFO_OFFSET`).
const OFFSET: u64 = 64 << 10;
const LENGTH: usize = 4096;

/// What it says of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    uuid: [u8; 16],
    total: Bytes,
}

impl Superblock {
    /// `None` if this is none; the offsets are those of `struct btrfs_super_block`.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(64..72)? != b"_BHRfS_M" {
            return None;
        }
        let uuid = *bytes.get(32..48)?.first_chunk()?;
        let total = Bytes(u64::from_le_bytes(*bytes.get(112..120)?.first_chunk()?));
        Some(Self { uuid, total })
    }
}

/// Sees to it that `path` holds the whole of the file system with `uuid`.
///
/// # Errors
/// `NotFound` without the file, `Corrupt` if it was cut off, `NotOurs` if it holds something else.
pub(super) fn verify(path: &Path, uuid: [u8; 16]) -> Result<()> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::new(Kind::NotFound, format!("pool file {} is missing; put it back", path.display()))
        }
        _ => Error::with_source(kind_of(&error), format!("open pool file {}", path.display()), error),
    })?;
    let act = || format!("read {}", path.display());
    let length = Bytes(io::Seek::seek(&mut &file, io::SeekFrom::End(0)).act(act)?);
    let needed = Bytes(OFFSET + LENGTH as u64);
    if length < needed {
        return Err(truncated(path, length, needed));
    }
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, OFFSET).act(act)?;
    match Superblock::parse(&bytes) {
        None => Err(Error::new(Kind::NotOurs, format!("{} holds no btrfs, so it is not this pool", path.display()))),
        Some(found) if found.uuid != uuid => Err(Error::new(
            Kind::NotOurs,
            format!("{} holds the btrfs {}, and this pool is {}", path.display(), dashed(found.uuid), dashed(uuid)),
        )),
        Some(found) if found.total > length => Err(truncated(path, length, found.total)),
        Some(_) => Ok(()),
    }
}

fn truncated(path: &Path, length: Bytes, needed: Bytes) -> Error {
    Error::new(
        Kind::Corrupt,
        format!(
            "pool file {} is cut off: it has {} of {} bytes; restore it from a copy",
            path.display(),
            length.0,
            needed.0
        ),
    )
}

/// The UUID in the pool's 32 hexadecimal digits.
///
/// # Errors
/// `Invalid` for another text.
pub(super) fn parse_uuid(digits: &str) -> Result<[u8; 16]> {
    let number = if digits.len() == 32 && digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        u128::from_str_radix(digits, 16).ok()
    } else {
        None
    };
    number
        .map(u128::to_be_bytes)
        .ok_or_else(|| Error::new(Kind::Invalid, format!("pool uuid '{digits}' is not 32 hexadecimal digits")))
}

/// The form that mkfs and the kernel's messages use.
pub(super) fn dashed(uuid: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(uuid));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::{Superblock, dashed, parse_uuid};
    use crate::units::Bytes;

    #[test]
    fn uuids_change_their_form_and_back() {
        let uuid = parse_uuid("00112233445566778899aabbccddeeff").unwrap();
        assert_eq!(dashed(uuid), "00112233-4455-6677-8899-aabbccddeeff");
        assert!(parse_uuid("0011").is_err());
    }

    #[test]
    fn only_a_superblock_parses() {
        let mut bytes = vec![0u8; 4096];
        assert_eq!(Superblock::parse(&bytes), None);
        bytes[64..72].copy_from_slice(b"_BHRfS_M");
        bytes[32] = 7;
        bytes[113] = 1;
        let found = Superblock::parse(&bytes).unwrap();
        assert_eq!((found.uuid[0], found.total), (7, Bytes(256)));
        assert_eq!(Superblock::parse(&bytes[..100]), None);
    }
}
