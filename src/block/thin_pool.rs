//! A thin-pool's own language: its table line, its status line, its messages (Documentation/admin-guide/device-mapper/
//! thin-provisioning.rst; drivers/md/dm-thin.c, pool_status).
//!
//! Invariant: kernel text is parsed here and nowhere else; what cannot be parsed is an error, never a guess.

use std::{fmt, io, str::FromStr};

use super::dm::TableLine;
use crate::{
    error::{Error, Kind, Result},
    units::{Bytes, Sectors},
};

/// The table of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTable {
    /// Length of the data device, whole chunks.
    pub length: Sectors,
    /// Metadata device, major and minor.
    pub metadata: (u32, u32),
    /// Data device.
    pub data: (u32, u32),
    /// The unit of sharing.
    pub chunk: Sectors,
}

impl PoolTable {
    /// As the kernel wants it. Blocks are zeroed before they are handed out, discards go down to the data device, and
    /// a full pool fails writes at once instead of queueing them for a minute. No low-water mark: nobody waits.
    pub fn line(&self) -> TableLine {
        let Self { metadata, data, chunk, .. } = self;
        let text = format!("{}:{} {}:{} {} 0 1 error_if_no_space", metadata.0, metadata.1, data.0, data.1, chunk.0);
        TableLine { length: self.length, target: "thin-pool".to_owned(), text }
    }

    /// The table that a running pool has.
    ///
    /// # Errors
    /// `Corrupt` if it is not a pool's.
    pub fn parse(line: &TableLine) -> Result<Self> {
        let number = |word: &str| -> Option<(u32, u32)> {
            let (major, minor) = word.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        let parse = || -> Option<Self> {
            let mut words = line.text.split(' ');
            let (metadata, data) = (number(words.next()?)?, number(words.next()?)?);
            let chunk = Sectors(words.next()?.parse().ok()?);
            (line.target == "thin-pool").then_some(Self { length: line.length, metadata, data, chunk })
        };
        parse().ok_or_else(|| strange("table", &line.text))
    }
}

/// The table of thin device `id` in the pool with device number `pool`.
pub fn thin_line(pool: (u32, u32), id: u32, length: Sectors) -> TableLine {
    TableLine { length, target: "thin".to_owned(), text: format!("{}:{} {id}", pool.0, pool.1) }
}

/// What the pool does with I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything works.
    Write,
    /// Writes that need a new chunk fail.
    OutOfDataSpace,
    /// Nothing can be changed; metadata ran full or a commit failed.
    ReadOnly,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Taken.
    pub used: u64,
    /// All.
    pub total: u64,
}

impl Filled {
    /// Left.
    pub const fn free(self) -> u64 {
        self.total.saturating_sub(self.used)
    }
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} free", self.free(), self.total)
    }
}

/// A pool's status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The kernel gave the pool up.
    Fail,
    /// It works, more or less.
    Up {
        /// A number that userspace may set; zero unless somebody did.
        transaction: u64,
        /// Blocks of 4 KiB.
        metadata: Filled,
        /// Chunks.
        data: Filled,
        /// Where the metadata snapshot lies, if there is one.
        held_root: Option<u64>,
        /// What it does with I/O.
        mode: Mode,
        /// Whether it refuses to be written again before it was checked.
        needs_check: bool,
    },
}

/// Size of a block of pool metadata (`THIN_METADATA_BLOCK_SIZE`).
pub const METADATA_BLOCK: Bytes = Bytes(4096);

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let filled = |word: &str| -> Option<Filled> {
            let (used, total) = word.split_once('/')?;
            Some(Filled { used: used.parse().ok()?, total: total.parse().ok()? })
        };
        let parse = || -> Option<Self> {
            let mut words = text.split(' ');
            let transaction = words.next()?.parse().ok()?;
            let (metadata, data) = (filled(words.next()?)?, filled(words.next()?)?);
            let held_root = match words.next()? {
                "-" => None,
                block => Some(block.parse().ok()?),
            };
            let mode = match words.next()? {
                "rw" => Mode::Write,
                "out_of_data_space" => Mode::OutOfDataSpace,
                "ro" => Mode::ReadOnly,
                _ => return None,
            };
            // Then how discards and a full pool are treated, which the table fixed. Kernels before 4.3 end there.
            let needs_check = words.any(|word| word == "needs_check");
            Some(Self::Up { transaction, metadata, data, held_root, mode, needs_check })
        };
        match text {
            "Fail" => Ok(Self::Fail),
            text => parse().ok_or_else(|| strange("status", text)),
        }
    }
}

fn strange(what: &str, text: &str) -> Error {
    Error::new(Kind::Corrupt, format!("the kernel tells the thin-pool {what} '{text}', which has another form"))
}

/// A message to a pool. Each is durable when the kernel has answered, by the commit at the end of `pool_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Makes an empty thin device.
    CreateThin(u32),
    /// Makes a thin device that shares all chunks of another, which must not be active or be suspended.
    CreateSnap {
        /// The new one.
        id: u32,
        /// The other.
        origin: u32,
    },
    /// Deletes a thin device, which must not be active.
    Delete(u32),
    /// Keeps the present metadata readable for others.
    ReserveMetadataSnap,
    /// Lets it go.
    ReleaseMetadataSnap,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateThin(id) => write!(f, "create_thin {id}"),
            Self::CreateSnap { id, origin } => write!(f, "create_snap {id} {origin}"),
            Self::Delete(id) => write!(f, "delete {id}"),
            Self::ReserveMetadataSnap => f.write_str("reserve_metadata_snap"),
            Self::ReleaseMetadataSnap => f.write_str("release_metadata_snap"),
        }
    }
}

/// Which kind of failure the errno of a refused message is.
pub fn kind_of_refusal(error: &io::Error) -> Kind {
    match error.raw_os_error() {
        Some(libc::EEXIST) => Kind::Exists,
        Some(libc::ENODATA | libc::ENOENT) => Kind::NotFound,
        Some(libc::EBUSY) => Kind::InUse,
        Some(libc::ENOSPC) => Kind::Full,
        _ => Kind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::{Filled, Mode, PoolTable, Status};
    use crate::{block::TableLine, units::Sectors};

    #[test]
    fn every_form_of_the_status_parses() {
        let up = |held_root, mode, needs_check| Status::Up {
            transaction: 0,
            metadata: Filled { used: 22, total: 1024 },
            data: Filled { used: 5, total: 1600 },
            held_root,
            mode,
            needs_check,
        };
        for (text, status) in [
            ("0 22/1024 5/1600 - rw discard_passdown error_if_no_space - 256", up(None, Mode::Write, false)),
            ("0 22/1024 5/1600 37 rw no_discard_passdown queue_if_no_space -", up(Some(37), Mode::Write, false)),
            (
                "0 22/1024 5/1600 - out_of_data_space discard_passdown error_if_no_space - 256",
                up(None, Mode::OutOfDataSpace, false),
            ),
            ("0 22/1024 5/1600 - ro ignore_discard error_if_no_space needs_check 256", up(None, Mode::ReadOnly, true)),
            ("0 22/1024 5/1600 - ro discard_passdown", up(None, Mode::ReadOnly, false)),
            ("Fail", Status::Fail),
        ] {
            assert_eq!(text.parse::<Status>().unwrap(), status, "{text}");
        }
        for text in ["", "Error", "0", "0 1/2", "0 1/2 3/4", "0 1/2 3/4 -", "0 1/2 3/4 - wr", "0 1 3/4 - rw", "-"] {
            assert!(text.parse::<Status>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_table_survives_the_kernel() {
        let table = PoolTable { length: Sectors(204_800), metadata: (7, 0), data: (259, 1), chunk: Sectors(128) };
        assert_eq!(PoolTable::parse(&table.line()).unwrap(), table);
        // The kernel counts and prints the features in its own way.
        let line = TableLine { text: "7:0 259:1 128 0 2 skip_block_zeroing x".to_owned(), ..table.line() };
        assert_eq!(PoolTable::parse(&line).unwrap(), table);
        assert!(PoolTable::parse(&TableLine { text: "7:0 /dev/loop1 128".to_owned(), ..line }).is_err());
    }
}
