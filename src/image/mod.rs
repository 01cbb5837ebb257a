//! Images: layer archives to trees and back, image archives, references, configurations.
//!
//! Invariant: nothing that an archive says is believed before it is checked; what is refused is refused with the
//! entry's name and the reason.

pub mod archive;
pub mod catalog;
pub mod compression;
pub mod config;
pub mod digests;
pub mod import;
mod keep;
pub(crate) mod layer;
mod outline;
pub mod pack;
pub mod prune;
pub mod reference;
pub mod registry;
pub mod removal;
pub mod save;
pub mod tar;
pub mod unpack;
mod verified;
mod xattr;

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt as _};

pub(crate) use self::verified::Verified;
use crate::error::{Error, Kind, kind_of};

/// A name from an archive as an error message shows it: quoted, with control characters escaped, because what an
/// archive says must not reach a terminal raw.
pub(crate) fn shown(name: &[u8]) -> String {
    format!("{:?}", OsStr::from_bytes(name))
}

/// Tells a failed read of an archive: our own errors pass through, a decoder's complaint means damage, the rest is
/// the system's.
pub(crate) fn read_error(error: io::Error, act: impl Into<String>) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        let inner = error.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
        return inner.map_or_else(|| Error::new(Kind::Io, "read the archive"), |error| error.within(act.into()));
    }
    let kind = match error.kind() {
        _ if error.raw_os_error().is_some() => kind_of(&error),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Kind::Corrupt,
        _ => Kind::Io,
    };
    Error::with_source(kind, act, error)
}
