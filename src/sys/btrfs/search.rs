//! `BTRFS_IOC_TREE_SEARCH_V2`: the items of a tree in key order, filtered by the age of the nodes they lie in.

use std::{io, ops::ControlFlow, os::fd::AsFd};

use crate::sys::call;

const SEARCH_BUFFER: usize = 64 << 10;

#[repr(C)]
#[derive(Clone, Copy)]
struct SearchKey {
    tree_id: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    nr_items: u32,
    unused: u32,
    unused_too: [u64; 4],
}

/// `struct btrfs_ioctl_search_args_v2` with its buffer: as many bytes as `buf_size` says.
#[repr(C)]
struct SearchArgs {
    key: SearchKey,
    buf_size: u64,
    buffer: [u8; SEARCH_BUFFER],
}

ioctls! {
    // The number has the size of the struct without its flexible tail.
    TreeSearchV2 = ioctl_sys::iorw!(0x94, 17, 112), SearchArgs;
}

/// Which items to look for.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The tree: that of tree roots, or a subvolume's.
    pub tree: u64,
    /// First and last object number.
    pub objects: (u64, u64),
    /// Only in leaves that were written in this transaction or later.
    pub since: u64,
}

impl Range {
    /// The tree of tree roots.
    pub const ROOT_TREE: u64 = 1;
    /// The tree of the top-level subvolume.
    pub const TOP_LEVEL: u64 = 5;
}

/// One item of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// First part of its key: an inode, a tree.
    pub object: u64,
    /// Second part: what it tells, `BTRFS_*_KEY`.
    pub kind: u32,
    /// Third part.
    pub offset: u64,
    /// The transaction that last wrote its leaf.
    pub transaction: u64,
    /// What it holds, little-endian.
    pub data: &'a [u8],
}

impl Item<'_> {
    /// The number of eight bytes at this place of its data.
    pub fn long(&self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.data.get(at..)?.first_chunk()?))
    }

    /// The number of four bytes at this place.
    pub fn int(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.data.get(at..)?.first_chunk()?))
    }

    /// The number of two bytes at this place.
    pub fn short(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(*self.data.get(at..)?.first_chunk()?))
    }
}

/// Shows each item of `range` to `see`, in key order, until it breaks.
///
/// # Errors
/// The kernel's errno.
pub fn search(fd: impl AsFd, range: Range, mut see: impl FnMut(&Item<'_>) -> ControlFlow<()>) -> io::Result<()> {
    let mut args = Box::new(SearchArgs {
        key: SearchKey {
            tree_id: range.tree,
            min_objectid: range.objects.0,
            max_objectid: range.objects.1,
            min_offset: 0,
            max_offset: u64::MAX,
            min_transid: range.since,
            max_transid: u64::MAX,
            min_type: 0,
            max_type: u8::MAX.into(),
            nr_items: u32::MAX,
            unused: 0,
            unused_too: [0; 4],
        },
        buf_size: SEARCH_BUFFER as u64,
        buffer: [0; SEARCH_BUFFER],
    });
    loop {
        args.key.nr_items = u32::MAX;
        call::<TreeSearchV2>(&fd, &mut *args)?;
        let mut last = None;
        let mut rest = &args.buffer[..];
        for _ in 0..args.key.nr_items {
            let Some((item, tail)) = split_item(rest) else {
                return Err(io::Error::other("a search result is cut off"));
            };
            rest = tail;
            last = Some((item.object, item.kind, item.offset));
            if see(&item).is_break() {
                return Ok(());
            }
        }
        // Keys are one number of 136 bits: the next search starts one above the last.
        let Some((object, kind, offset)) = last else { return Ok(()) };
        let (offset, carry) = offset.overflowing_add(1);
        let (kind, carry) = if carry { ((kind + 1) % 256, kind == 255) } else { (kind, false) };
        let Some(object) = object.checked_add(u64::from(carry)) else { return Ok(()) };
        if object > range.objects.1 {
            return Ok(());
        }
        (args.key.min_objectid, args.key.min_type, args.key.min_offset) = (object, kind, offset);
    }
}

/// `struct btrfs_ioctl_search_header` and as many bytes of data as it says.
fn split_item(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<32>()?;
    let long = |at: usize| header[at..].first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes));
    let short = |at: usize| header[at..].first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
    let (data, rest) = rest.split_at_checked(usize::try_from(short(28)?).ok()?)?;
    let item = Item { transaction: long(0)?, object: long(8)?, offset: long(16)?, kind: short(24)?, data };
    Some((item, rest))
}

#[cfg(test)]
mod tests {
    use super::{SearchArgs, TreeSearchV2, split_item};
    use crate::sys::Ioctl;
    use std::mem::offset_of;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn number_and_layout_are_those_of_the_kernel() {
        assert_eq!(TreeSearchV2::NUMBER, 0xc070_9411);
        assert_eq!((offset_of!(SearchArgs, buf_size), offset_of!(SearchArgs, buffer)), (104, 112));
    }

    #[test]
    fn a_cut_off_result_is_no_item() {
        let mut bytes = [0u8; 40];
        bytes[28] = 8;
        assert_eq!(split_item(&bytes).map(|(item, rest)| (item.data.len(), rest.len())), Some((8, 0)));
        bytes[28] = 9;
        assert!(split_item(&bytes).is_none());
        assert!(split_item(&bytes[..31]).is_none());
    }
}
