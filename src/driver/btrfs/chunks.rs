//! How the kernel divides a btrfs device between data and metadata, and the part that metadata must get.
//!
//! By itself the kernel gives data all there is, chunk by chunk, and metadata what it needed until then. A pool that
//! data has filled cannot even note what is deleted then. So pools are mounted with `metadata_ratio`: after so many
//! chunks for data comes one for metadata, wanted or not.
//!
//! The sizes of chunks follow `init_alloc_chunk_ctl_policy_regular` (fs/btrfs/volumes.c).

use crate::units::Bytes;

/// Above it chunks of metadata are as large as those of data.
const LARGE: Bytes = Bytes::gib(50);

/// How many chunks data gets before metadata gets one, on a device of `size`.
pub(super) fn data_per_metadata(size: Bytes) -> u32 {
    if size > LARGE { 16 } else { 4 }
}

/// The part of a device of `size` that is metadata's when data has got all it can: a fifth of one below 2.5 GiB, where
/// chunks of both kinds are a tenth of it, a seventeenth of one above 10 GiB.
pub(super) fn metadata_share(size: Bytes) -> Bytes {
    let largest = if size > LARGE { Bytes::gib(1) } else { Bytes::mib(256) };
    let tenth = Bytes(size.0 / 10);
    let (metadata, data) = (tenth.min(largest).0, tenth.min(Bytes::gib(1)).0 * u64::from(data_per_metadata(size)));
    Bytes(size.0 / (metadata + data).max(1) * metadata)
}

#[cfg(test)]
mod tests {
    use super::metadata_share;
    use crate::units::Bytes;

    #[test]
    fn a_small_device_gives_metadata_more() {
        for (size, parts) in [(Bytes::mib(256), 5), (Bytes::gib(2), 5), (Bytes::gib(20), 17), (Bytes::gib(100), 17)] {
            let share = metadata_share(size).0;
            let whole = size.0 / parts;
            assert!(share <= whole && share > whole - whole / 4, "{share} of {size}, not a {parts}th");
        }
    }
}
