//! Where an archive's bytes come from: a stream, or a file that can be skipped through.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
};

use crate::{error::Result, image::read_error, interrupt};

/// A source of bytes that can be looked at before they are taken.
pub trait Input {
    /// The next bytes; empty only at the end.
    ///
    /// # Errors
    /// A failed read.
    fn fill(&mut self) -> io::Result<&[u8]>;

    /// Takes `count` of the bytes that [`Input::fill`] showed.
    fn consume(&mut self, count: usize);

    /// Passes over `count` bytes and tells how many there were: fewer only at the end.
    ///
    /// # Errors
    /// A failed read.
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut left = count;
        while left > 0 {
            let here = self.fill()?.len();
            if here == 0 {
                break;
            }
            let step = here.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.consume(step);
            left -= step as u64;
        }
        Ok(count - left)
    }

    /// Takes all that is left.
    ///
    /// # Errors
    /// A failed read; `Interrupted`.
    fn drain(&mut self) -> Result<()> {
        loop {
            interrupt::check()?;
            let count = self.fill().map_err(|error| read_error(error, "read the archive to its end"))?.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count);
        }
    }
}

/// A file, whose contents need not be read to be passed over.
#[derive(Debug)]
pub struct FileInput {
    file: BufReader<File>,
    length: u64,
}

impl FileInput {
    /// Reads `file` from its start.
    ///
    /// # Errors
    /// When its length cannot be found.
    pub fn new(mut file: File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok(Self { file: BufReader::with_capacity(1 << 16, file), length })
    }
}

impl Input for FileInput {
    fn fill(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.file.consume(count);
    }

    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let left = self.length.saturating_sub(self.file.stream_position()?);
        let step = count.min(left);
        // A file's length is at most i64::MAX.
        self.file.seek_relative(i64::try_from(step).unwrap_or(i64::MAX))?;
        Ok(step)
    }
}
