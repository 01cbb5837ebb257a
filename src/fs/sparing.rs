//! A file that grows without taking the last of its disk: the pool's own file mostly lies there too, and a pool that
//! meets a full disk below stops.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags};

use super::free_space;
use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
    units::Bytes,
};

/// How much is written before space is asked for again.
const STEP: u64 = 16 << 20;

/// Refuses to write `bytes` on the disk of `directory` where they would take what of it is kept back.
///
/// # Errors
/// `Full`; the system's.
pub fn spare(directory: &Path, bytes: Bytes, reserve: Bytes) -> Result<()> {
    let free = free_space(directory)?;
    if free >= reserve + bytes {
        return Ok(());
    }
    let directory = directory.display();
    let what = format!("it takes all space of {directory}: {free} are free, {reserve} are kept back");
    Err(Error::new(Kind::Full, what))
}

/// See the module's comment. A signal ends its writing, too.
#[derive(Debug)]
pub struct SparingFile {
    file: File,
    directory: PathBuf,
    reserve: Bytes,
    /// May be written before the next look at the disk.
    room: u64,
}

impl SparingFile {
    /// Writes to `file`, which lies on the disk of `directory`, while more than `reserve` is free there.
    pub fn new(file: File, directory: &Path, reserve: Bytes) -> Self {
        Self { file, directory: directory.to_owned(), reserve, room: 0 }
    }

    /// An unnamed file in `directory`, which goes with its last descriptor.
    ///
    /// # Errors
    /// The system's.
    pub fn unnamed(directory: &Path, reserve: Bytes) -> Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(fd.act(|| format!("make an unnamed file in {}", directory.display()))?);
        Ok(Self::new(file, directory, reserve))
    }

    /// The file, at the end of what was written.
    pub fn into_file(self) -> File {
        self.file
    }

    fn look(&mut self) -> Result<()> {
        interrupt::check()?;
        spare(&self.directory, Bytes(0), self.reserve)?;
        self.room = STEP;
        Ok(())
    }
}

impl Write for SparingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            self.look().map_err(io::Error::other)?;
        }
        let most = bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        let count = self.file.write(&bytes[..most])?;
        self.room -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::SparingFile;
    use crate::{error::Error, units::Bytes};
    use std::io::Write as _;

    #[test]
    fn what_would_take_the_reserve_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut fits = SparingFile::unnamed(directory.path(), Bytes(0)).unwrap();
        fits.write_all(&[1; 100_000]).unwrap();
        assert_eq!(fits.into_file().metadata().unwrap().len(), 100_000);
        let mut full = SparingFile::unnamed(directory.path(), Bytes(u64::MAX)).unwrap();
        let error = full.write_all(b"x").unwrap_err();
        let error = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
        assert_eq!(error.kind(), crate::Kind::Full);
        assert!(error.to_string().contains("are kept back"), "{error}");
    }
}
