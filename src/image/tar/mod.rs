//! Reading tar archives as they occur in images: ustar, GNU and PAX, in bounded memory.
//!
//! Crate `tar` gives the header's layout. Its reader is not used, because it holds extended headers of any size in
//! memory, splits PAX records at newlines (a binary `security.capability` may hold one) and cannot skip by seeking.
//! Where tar programs disagree, Go's archive/tar is followed, so that a layer means here what it means to Docker:
//! links, directories and devices carry no data whatever their size field says, a GNU long name wins over PAX, and
//! global PAX headers are skipped.
//!
//! Invariant: an archive can make the reader hold at most [`EXTENSION_LIMIT`] bytes of extended headers of each sort
//! and half a million sparse segments.

mod chunks;
mod header;
mod input;
mod members;
mod pax;
mod sparse;

pub use chunks::{Chunks, Tally, with_chunks};
pub use header::{MemberKind, Time};
pub use input::{FileInput, Input};
pub use members::{Member, Members};
pub use sparse::Segment;

/// The unit of a tar archive.
const BLOCK: usize = 512;

/// Whether an archive may begin with this block: it is a header.
pub(crate) fn is_header(block: &[u8; BLOCK]) -> bool {
    header::checksum_fits(::tar::Header::from_byte_slice(block))
}

/// The most that one extended header may take; Go's archive/tar has the same limit (`maxSpecialFileSize`).
pub const EXTENSION_LIMIT: u64 = 1 << 20;
