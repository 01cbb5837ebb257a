//! A plain tar without what its files hold: headers and padding as they came, and for each content the name of the file
//! in the snapshot that holds it. With the snapshot, it gives the same bytes again.
//!
//! Layers mostly come compressed and are kept so; a plain one would cost its whole size a second time. Docker keeps the
//! like of this for each layer (its `tar-split`), though it cannot give back a tar that has one name twice.
//!
//! Form: one zstd stream of [`MAGIC`] and records, numbers little-endian:
//!
//! | record | what follows |
//! |---|---|
//! | [`LITERAL`] | u64 length, so many bytes of the tar |
//! | [`CONTENT`] | u64 length, u16 length of a path, the path: so many bytes of that file, from its start |
//! | [`END`] | nothing |
//!
//! Invariant: what a record names is in the snapshot when the archive has been unpacked. A file whose path leads through
//! a symlink is not named, and before something of the layer goes again, all that was named is written out
//! ([`Outline::write_out`]).

mod read;
mod write;

pub(super) use self::{
    read::Outlined,
    write::{Outline, Recorded},
};

/// What an outline begins with. Archives kept before there were outlines are whole tars, which cannot begin so.
const MAGIC: [u8; 8] = *b"outline1";

const LITERAL: u8 = b'L';
const CONTENT: u8 = b'C';
const END: u8 = b'E';
