//! The tar of an image archive, member after member.
//!
//! Invariant: the same members give the same bytes: nothing from the clock, everything root's.

use std::io::{self, Read, Write};

use ::tar::{EntryType, Header};

use crate::{
    error::{Act as _, Error, Kind, Result},
    image::read_error,
    interrupt,
    units::Bytes,
};

const BUFFER: usize = 256 << 10;

/// An archive that is being written.
pub(super) struct ArchiveWriter<W> {
    out: W,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    pub(super) fn directory(&mut self, name: &str) -> Result<()> {
        self.head(name, EntryType::Directory, 0o755, 0)
    }

    /// A file of `size` bytes.
    ///
    /// # Errors
    /// `Corrupt` if there are more or fewer.
    pub(super) fn file(&mut self, name: &str, size: Bytes, mut bytes: impl Read) -> Result<()> {
        self.head(name, EntryType::Regular, 0o644, size.0)?;
        let mut buffer = vec![0; BUFFER];
        let mut count = 0u64;
        loop {
            interrupt::check()?;
            let read = match bytes.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| read_error(error, format!("write '{name}' of the archive")))?,
            };
            count += read as u64;
            if read == 0 || count > size.0 {
                break;
            }
            self.write(&buffer[..read])?;
        }
        if count != size.0 {
            let what = format!("write '{name}' of the archive: it has not the {} bytes that were expected", size.0);
            return Err(Error::new(Kind::Corrupt, what));
        }
        let padding = usize::try_from((512 - size.0 % 512) % 512).unwrap_or_default();
        self.write(&[0; 512][..padding])
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write(&[0; 1024])?;
        self.out.flush().act(|| "write the archive")
    }

    fn head(&mut self, name: &str, kind: EntryType, mode: u32, size: u64) -> Result<()> {
        // GNU's form has room for the size of a layer of more than 8 GiB.
        let mut header = Header::new_gnu();
        header.set_path(name).act(|| format!("name '{name}' in the archive"))?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).act(|| "write the archive")
    }
}
