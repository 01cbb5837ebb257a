//! The kernel's send stream (fs/btrfs/send.h, versions 1 and 2): the commands by which one subvolume becomes another.
//!
//! Invariant: pure parsing; whatever bytes come in, out come commands or an error, in memory that a command's length
//! bounds, and a stream counts as whole only with its end command.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
};

use crate::error::{Act as _, Error, Kind, Result};

const MAGIC: &[u8; 13] = b"btrfs-stream\0";
/// Without the data of files a command has a few names at most; version 1 allows 64 KiB.
const LONGEST: usize = 1 << 20;

/// One step of the receiver. Paths are relative to the root and hold at the time of the step: a directory on the way
/// may have a temporary name, or one that it gets or loses later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A file, directory, device, fifo, socket or symlink is made.
    Create(PathBuf),
    /// It gets another name, with all that lies below it.
    Rename(PathBuf, PathBuf),
    /// The first is made another name of the file with the second.
    Link(PathBuf, PathBuf),
    /// A name is removed.
    Remove(PathBuf),
    /// The content or the size of a file changes.
    Data(PathBuf),
    /// Mode, owner, times, attributes or flags change.
    Metadata(PathBuf),
}

/// Reads the commands of a stream.
#[derive(Debug)]
pub struct SendStream<R> {
    input: R,
    version: u32,
}

impl<R: Read> SendStream<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// `Corrupt` if it is none; `Unsupported` for a version that is not known.
    pub fn new(mut input: R) -> Result<Self> {
        let mut header = [0; 17];
        read(&mut input, &mut header)?;
        let (magic, version) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(corrupt("it does not begin as one"));
        }
        let version = number(version).ok_or_else(|| corrupt("it has no version"))?;
        match version {
            1 | 2 => Ok(Self { input, version }),
            _ => Err(Error::new(Kind::Unsupported, format!("send stream has version {version}; 1 and 2 are known"))),
        }
    }

    /// The next command that changes the tree; `None` at the end.
    ///
    /// # Errors
    /// `Corrupt` for a wrong checksum, a malformed or unknown command, or a stream that is cut off.
    pub fn next_command(&mut self) -> Result<Option<Command>> {
        loop {
            let mut header = [0; 10];
            read(&mut self.input, &mut header)?;
            let length: u32 = number(&header[..4]).ok_or_else(|| corrupt("a command has no length"))?;
            let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
            let mut body = vec![0; length.ok_or_else(|| corrupt("a command is too long"))?];
            read(&mut self.input, &mut body)?;
            let told: Option<u32> = number(&header[6..]);
            header[6..].fill(0);
            if told != Some(checksum(&[&header, &body])) {
                return Err(corrupt("a command has a wrong checksum"));
            }
            match self.command(u16::from_le_bytes([header[4], header[5]]), &body)? {
                Step::Change(command) => return Ok(Some(command)),
                Step::Frame => {}
                Step::End => return Ok(None),
            }
        }
    }

    fn command(&self, code: u16, body: &[u8]) -> Result<Step> {
        let path = |attribute| self.path(body, attribute);
        // The numbers of `enum btrfs_send_cmd`.
        Ok(Step::Change(match code {
            // Which subvolume, from which snapshot.
            1 | 2 => return Ok(Step::Frame),
            3..=8 => Command::Create(path(PATH)?),
            9 => Command::Rename(path(PATH)?, path(PATH_TO)?),
            10 => Command::Link(path(PATH)?, path(PATH_LINK)?),
            11 | 12 => Command::Remove(path(PATH)?),
            13 | 14 | 18..=20 | 24 => Command::Metadata(path(PATH)?),
            15..=17 | 22 | 23 | 25 => Command::Data(path(PATH)?),
            21 => return Ok(Step::End),
            _ => return Err(Error::new(Kind::Unsupported, format!("send stream has the unknown command {code}"))),
        }))
    }

    /// A path among the attributes, each a type, a length, and a value; in version 2 data has no length and is last.
    fn path(&self, mut body: &[u8], wanted: u16) -> Result<PathBuf> {
        let malformed = || corrupt("a command is malformed");
        while !body.is_empty() {
            let (kind, rest) = body.split_first_chunk::<2>().ok_or_else(malformed)?;
            let kind = u16::from_le_bytes(*kind);
            if self.version == 2 && kind == DATA {
                break;
            }
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
            let (value, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or_else(malformed)?;
            if kind == wanted {
                return Ok(OsString::from_vec(value.to_vec()).into());
            }
            body = rest;
        }
        Err(malformed())
    }
}

/// Numbers of `BTRFS_SEND_A_*`.
const PATH: u16 = 15;
const PATH_TO: u16 = 16;
const PATH_LINK: u16 = 17;
const DATA: u16 = 19;

enum Step {
    Change(Command),
    Frame,
    End,
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.first_chunk()?))
}

/// The kernel's `crc32c(0, ..)`, which inverts neither before nor after as the usual one does.
fn checksum(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(!0, |crc, part| crc32c::crc32c_append(crc, part))
}

fn corrupt(why: &str) -> Error {
    Error::new(Kind::Corrupt, format!("read send stream: {why}"))
}

fn read(input: &mut impl Read, buffer: &mut [u8]) -> Result<()> {
    match input.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(corrupt("it is cut off")),
        result => result.act(|| "read send stream"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, DATA, PATH, PATH_TO, SendStream, checksum};
    use crate::error::{Kind, Result};

    fn header(version: u32) -> Vec<u8> {
        [b"btrfs-stream\0".as_slice(), &version.to_le_bytes()].concat()
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        [&kind.to_le_bytes(), &length.to_le_bytes(), value].concat()
    }

    fn command(code: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        let start = [&length[..], &code.to_le_bytes()].concat();
        let crc = checksum(&[&start, &[0; 4], body]);
        [&start, &crc.to_le_bytes()[..], body].concat()
    }

    fn parse(stream: &[u8]) -> Result<Vec<Command>> {
        let mut stream = SendStream::new(stream)?;
        let mut all = Vec::new();
        while let Some(command) = stream.next_command()? {
            all.push(command);
        }
        Ok(all)
    }

    fn stream() -> Vec<u8> {
        [
            header(1),
            command(2, &attribute(PATH, b"snapshot")),
            command(4, &attribute(PATH, b"o257-7-0")),
            command(9, &[attribute(PATH, b"o257-7-0"), attribute(PATH_TO, b"\xff")].concat()),
            command(22, &[attribute(18, &[0; 8]), attribute(PATH, b"a/b")].concat()),
            command(21, &[]),
        ]
        .concat()
    }

    #[test]
    fn commands_are_read_to_the_end() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let commands = parse(&stream()).unwrap();
        let raw = OsStr::from_bytes(b"\xff").into();
        assert_eq!(
            commands,
            [Command::Create("o257-7-0".into()), Command::Rename("o257-7-0".into(), raw), Command::Data("a/b".into())]
        );
    }

    #[test]
    fn version_2_has_data_without_a_length() {
        let write = command(15, &[attribute(PATH, b"a"), DATA.to_le_bytes().to_vec(), vec![7; 70_000]].concat());
        let stream = [header(2), write, command(21, &[])].concat();
        assert_eq!(parse(&stream).unwrap(), [Command::Data("a".into())]);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error() {
        let whole = stream();
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]).unwrap_err().kind(), Kind::Corrupt, "{length}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x11;
            assert!(parse(&bytes).is_err(), "{at}");
        }
    }

    #[test]
    fn a_command_of_a_later_version_is_refused() {
        assert_eq!(parse(&header(3)).unwrap_err().kind(), Kind::Unsupported);
        assert_eq!(parse(&[header(2), command(26, &[])].concat()).unwrap_err().kind(), Kind::Unsupported);
        assert_eq!(parse(&[header(1), command(3, &[])].concat()).unwrap_err().kind(), Kind::Corrupt);
    }
}
