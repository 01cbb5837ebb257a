//! A layer's compressed archive on its way into the store: while one thread unpacks it, another keeps it as it came.
//!
//! Invariant: the file has every byte that came, those after the end that a decoder sees included. At most [`CHUNKS`]
//! chunks wait.

use std::{
    io::{self, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::read_error;
use crate::{
    error::{Error, Kind, Result},
    id::Digest,
    store::BlobFile,
    units::Bytes,
};

const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 4;

/// Does `work` with the bytes of `stored`, and keeps all of them in `file`. Tells digest and bytes of the file, too.
///
/// # Errors
/// Those of `work`, and what keeps the file from being written; the file is then half there and goes with its row.
pub(super) fn keep_beside<R: Read + Send, T>(
    file: BlobFile,
    stored: R,
    work: impl FnOnce(&mut Tee<R>) -> Result<T>,
) -> Result<(T, (Digest, Bytes))> {
    let (sender, receiver) = sync_channel(CHUNKS);
    thread::scope(|scope| {
        let keeper = scope.spawn(move || keep(file, &receiver));
        let mut tee = Tee { inner: stored, keeper: Some(sender), chunk: Vec::with_capacity(CHUNK) };
        let done = work(&mut tee).and_then(|done| tee.drain().map(|()| done));
        // Without a sender the keeper ends.
        drop(tee);
        let panicked = |_| Error::new(Kind::Io, "keep the layer's archive: the writing thread panicked");
        // Its failure ends the work too, and tells more.
        let kept = keeper.join().map_err(panicked)??;
        let done = done?;
        let kept = kept.ok_or_else(|| Error::new(Kind::Io, "keep the layer's archive: its end did not come"))?;
        Ok((done, kept))
    })
}

/// Writes what comes; `None` if the end did not come, for whoever read it has failed.
fn keep(mut file: BlobFile, chunks: &Receiver<Vec<u8>>) -> Result<Option<(Digest, Bytes)>> {
    for chunk in chunks {
        // The end is an empty one; without it, something was cut off.
        if chunk.is_empty() {
            return file.finish().map(Some);
        }
        let written = file.write_all(&chunk);
        written.map_err(|error| read_error(error, format!("keep the layer's archive in {}", file.path().display())))?;
    }
    Ok(None)
}

/// A reader whose bytes go to the keeper, too.
#[derive(Debug)]
pub(super) struct Tee<R> {
    inner: R,
    keeper: Option<SyncSender<Vec<u8>>>,
    chunk: Vec<u8>,
}

impl<R: Read> Tee<R> {
    /// A decoder may stop before the end of what it is given.
    fn drain(&mut self) -> Result<()> {
        io::copy(self, &mut io::sink()).map(drop).map_err(|error| read_error(error, "read the archive to its end"))
    }

    fn pass(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        match &self.keeper {
            Some(keeper) => keeper.send(full).map_err(|_| io::Error::other("the layer's archive cannot be kept")),
            None => Ok(()),
        }
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // Never beyond what a chunk was made for.
        let most = buffer.len().min(CHUNK - self.chunk.len());
        let count = self.inner.read(&mut buffer[..most])?;
        self.chunk.extend_from_slice(&buffer[..count]);
        if self.chunk.len() == CHUNK || (count == 0 && !self.chunk.is_empty()) {
            self.pass()?;
        }
        if count == 0 {
            // The empty chunk that says so; after it, the keeper makes the file durable while others still work.
            self.pass()?;
            self.keeper = None;
        }
        Ok(count)
    }
}
