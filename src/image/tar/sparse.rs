//! Sparse members: which parts of the file the archive holds.
//!
//! Invariant: segments ascend, do not overlap, end within the file, and sum up to the data that are stored.

use ::tar::{GnuSparseHeader, Header};

use super::header::number;

/// The most segments of one file that are held in memory (8 MiB of them).
pub(super) const SEGMENT_LIMIT: usize = 1 << 19;

/// A part of a file that is stored; what lies between is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// Tells what is wrong with a map, if anything is.
pub(super) fn check(map: &[Segment], real_size: u64, stored: u64) -> Result<(), String> {
    let mut end = 0;
    let mut sum = 0u64;
    for segment in map {
        if segment.offset < end {
            return Err("its sparse segments overlap".to_owned());
        }
        end = segment.offset.checked_add(segment.length).ok_or("a sparse segment is out of range")?;
        sum = sum.saturating_add(segment.length);
    }
    if end > real_size {
        return Err(format!("its sparse segments end at {end} bytes and the file at {real_size}"));
    }
    if sum != stored {
        return Err(format!("its sparse segments have {sum} bytes and the archive stores {stored}"));
    }
    Ok(())
}

/// The segments in an old GNU sparse header, the file's size, and whether more headers follow.
pub(super) fn from_header(header: &Header) -> Result<(Vec<Segment>, u64, bool), String> {
    let gnu = header.as_gnu().ok_or("it is a GNU sparse file without a GNU header")?;
    let real =
        number(&gnu.realsize).and_then(|size| u64::try_from(size).ok()).ok_or("its sparse size is not a number")?;
    let mut map = Vec::new();
    push(&mut map, &gnu.sparse)?;
    Ok((map, real, gnu.isextended[0] != 0))
}

/// Adds the used slots of a header.
pub(super) fn push(map: &mut Vec<Segment>, slots: &[GnuSparseHeader]) -> Result<(), String> {
    for slot in slots.iter().filter(|slot| !slot.is_empty()) {
        let get = |field| number(field).and_then(|value| u64::try_from(value).ok());
        let (Some(offset), Some(length)) = (get(&slot.offset), get(&slot.numbytes)) else {
            return Err("a sparse segment is not a number".to_owned());
        };
        map.push(Segment { offset, length });
    }
    if map.len() > SEGMENT_LIMIT {
        return Err(format!("it has more than {SEGMENT_LIMIT} sparse segments"));
    }
    Ok(())
}
