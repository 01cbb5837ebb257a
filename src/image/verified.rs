//! A reader that checks what it read, and that a signal ends.
//!
//! Invariant: its end is only told when all bytes before it have the digest that was expected.

use std::io::{self, Read, Seek};

use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Kind},
    id::Digest,
    interrupt,
};

/// See the module's comment.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    /// For the error.
    name: String,
    check: Option<(Digest, Sha256)>,
}

impl<R: Read> Verified<R> {
    /// Reads `inner`, which is called `name` and must have this digest, where one is known.
    pub(crate) fn new(inner: R, name: String, expected: Option<Digest>) -> Self {
        Self { inner, name, check: expected.map(|digest| (digest, Sha256::new())) }
    }

    fn finish(&mut self) -> io::Result<usize> {
        let Some((expected, hasher)) = &self.check else { return Ok(0) };
        let found = Digest::finish(hasher.clone());
        if found == *expected {
            return Ok(0);
        }
        let what = format!("{} has digest {found} and {expected} was expected", self.name);
        Err(io::Error::other(Error::new(Kind::Corrupt, what)))
    }
}

impl<R: Read + Seek> Verified<R> {
    /// From the first byte again.
    ///
    /// # Errors
    /// The system's.
    pub fn rewind(&mut self) -> io::Result<()> {
        if let Some((_, hasher)) = &mut self.check {
            hasher.reset();
        }
        self.inner.rewind()
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        interrupt::check().map_err(io::Error::other)?;
        let count = self.inner.read(buffer)?;
        if count == 0 {
            return self.finish();
        }
        if let Some((_, hasher)) = &mut self.check {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}
