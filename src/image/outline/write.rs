//! An outline written while its archive is unpacked.

use std::{
    cell::RefCell,
    fmt,
    io::{self, Read as _, Write as _},
    os::fd::BorrowedFd,
};

use super::{CONTENT, END, LITERAL, MAGIC, read::Outlined};
use crate::{
    error::{Act as _, Result},
    id::Digest,
    image::{read_error, tar::Input},
    interrupt,
    store::BlobFile,
    units::Bytes,
};

/// Bytes of the tar that are gathered for one record.
const LITERALS: usize = 64 << 10;

/// Bytes of records that are compressed at once.
const FRAME: usize = 1 << 20;

/// zstd's level: headers become small with any.
const LEVEL: i32 = 1;

/// An outline that grows, used by what reads the archive and by what writes the tree.
pub(in crate::image) struct Outline(RefCell<State>);

struct State {
    file: BlobFile,
    records: Vec<u8>,
    literals: Vec<u8>,
    /// So many of the bytes to come stand in a file.
    content: u64,
    /// Whether files may still be named.
    names: bool,
}

impl Outline {
    pub(in crate::image) fn new(file: BlobFile) -> Self {
        let (records, literals) = (MAGIC.to_vec(), Vec::new());
        Self(RefCell::new(State { file, records, literals, content: 0, names: true }))
    }

    /// The next `length` bytes of the tar become the content of the file `path`, which has no symlink in it.
    ///
    /// # Errors
    /// Those of writing.
    pub(in crate::image) fn content(&self, path: &[u8], length: u64) -> Result<()> {
        let state = &mut *self.0.borrow_mut();
        let Ok(size) = u16::try_from(path.len()) else { return Ok(()) };
        if state.names && length > 0 {
            state.literal().act(writing)?;
            state.records.push(CONTENT);
            state.records.extend_from_slice(&length.to_le_bytes());
            state.records.extend_from_slice(&size.to_le_bytes());
            state.records.extend_from_slice(path);
            state.content = length;
        }
        Ok(())
    }

    /// Puts the bytes in place of all names, while the tree at `root` still has them; from now on nothing is named.
    ///
    /// # Errors
    /// Those of reading the tree, and of writing.
    pub(in crate::image) fn write_out(&self, root: BorrowedFd<'_>) -> Result<()> {
        let state = &mut *self.0.borrow_mut();
        if !std::mem::replace(&mut state.names, false) {
            return Ok(());
        }
        state.end().act(writing)?;
        let mut old = Outlined::new(state.file.begin_again()?, root)?;
        state.records.extend_from_slice(&MAGIC);
        loop {
            interrupt::check()?;
            let read = (&mut old).take(LITERALS as u64).read_to_end(&mut state.literals);
            if read.map_err(|error| read_error(error, "read the outline of what was unpacked"))? == 0 {
                return Ok(());
            }
            state.literal().act(writing)?;
        }
    }

    /// Makes it durable; tells digest and bytes of the file.
    ///
    /// # Errors
    /// Those of writing.
    pub(in crate::image) fn finish(self) -> Result<(Digest, Bytes)> {
        let mut state = self.0.into_inner();
        state.end().act(writing)?;
        state.file.finish()
    }
}

fn writing() -> &'static str {
    "write the outline of what is unpacked"
}

impl State {
    fn literal(&mut self) -> io::Result<()> {
        if !self.literals.is_empty() {
            self.records.push(LITERAL);
            self.records.extend_from_slice(&(self.literals.len() as u64).to_le_bytes());
            self.records.append(&mut self.literals);
        }
        if self.records.len() < FRAME { Ok(()) } else { self.frame() }
    }

    fn frame(&mut self) -> io::Result<()> {
        let frame = zstd::bulk::compress(&self.records, LEVEL)?;
        self.records.clear();
        self.file.write_all(&frame)
    }

    fn end(&mut self) -> io::Result<()> {
        self.literal()?;
        self.records.push(END);
        self.frame()
    }
}

impl fmt::Debug for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outline").finish_non_exhaustive()
    }
}

/// An archive whose bytes go into an outline, where there is one.
#[derive(Debug)]
pub(in crate::image) struct Recorded<'a, I> {
    inner: &'a mut I,
    outline: Option<&'a Outline>,
}

impl<'a, I: Input> Recorded<'a, I> {
    pub(in crate::image) fn new(inner: &'a mut I, outline: Option<&'a Outline>) -> Self {
        Self { inner, outline }
    }
}

impl<I: Input> Input for Recorded<'_, I> {
    fn fill(&mut self) -> io::Result<&[u8]> {
        if let Some(outline) = self.outline {
            let state = &mut *outline.0.borrow_mut();
            if state.literals.len() >= LITERALS {
                state.literal()?;
            }
        }
        self.inner.fill()
    }

    fn consume(&mut self, count: usize) {
        if let (Some(outline), Ok(here)) = (self.outline, self.inner.fill()) {
            let state = &mut *outline.0.borrow_mut();
            let count = count.min(here.len());
            // usize fits u64 on every Linux.
            let named = usize::try_from(state.content).unwrap_or(usize::MAX).min(count);
            state.content -= named as u64;
            state.literals.extend_from_slice(&here[named..count]);
        }
        self.inner.consume(count);
    }
}
