//! An archive's bytes, read, decompressed and hashed on a second thread while the first one writes files.
//!
//! Invariant: the digest covers every byte to the true end of the stream, padding after the end marker included,
//! because that is what a diff ID is made of; at most [`CHUNKS`] chunks exist at a time.

use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use sha2::{Digest as _, Sha256};

use super::Input;
use crate::{
    error::{Error, Kind, Result},
    id::Digest,
};

const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 4;

/// What the whole stream was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// sha256 of all bytes.
    pub digest: Digest,
    /// How many they were.
    pub length: u64,
}

/// The stream as the working thread sees it.
#[derive(Debug)]
pub struct Chunks {
    filled: Receiver<io::Result<Vec<u8>>>,
    emptied: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

/// Runs `work` on the bytes of `source`, then reads `source` to its end.
///
/// # Errors
/// Those of `work`, and a failed read.
pub fn with_chunks<T>(source: impl Read + Send, work: impl FnOnce(&mut Chunks) -> Result<T>) -> Result<(T, Tally)> {
    let (to_worker, filled) = sync_channel(CHUNKS);
    let (emptied, from_worker) = sync_channel(CHUNKS);
    thread::scope(|scope| {
        let pump = scope.spawn(move || pump(source, &to_worker, &from_worker));
        let mut chunks = Chunks { filled, emptied, current: Vec::new(), at: 0 };
        let done = work(&mut chunks).and_then(|done| chunks.drain().map(|()| done));
        // Without a receiver the pump ends at its next chunk.
        drop(chunks);
        let tally = pump.join().map_err(|_| Error::new(Kind::Io, "read the archive: the reading thread panicked"));
        Ok((done?, tally?))
    })
}

fn pump(mut source: impl Read, to_worker: &SyncSender<io::Result<Vec<u8>>>, from_worker: &Receiver<Vec<u8>>) -> Tally {
    let mut hasher = Sha256::new();
    let mut length = 0;
    let mut made = 0;
    loop {
        let mut chunk = if made < CHUNKS {
            made += 1;
            Vec::with_capacity(CHUNK)
        } else {
            match from_worker.recv() {
                Ok(chunk) => chunk,
                Err(_) => break,
            }
        };
        chunk.clear();
        let read = (&mut source).take(CHUNK as u64).read_to_end(&mut chunk);
        hasher.update(&chunk);
        length += chunk.len() as u64;
        let last = chunk.is_empty() || read.is_err();
        // What came before a failed read is still handed over, so that the error is told at its true place.
        if !chunk.is_empty() && to_worker.send(Ok(chunk)).is_err() {
            break;
        }
        if let Err(error) = read {
            // The worker may have gone already, for a failure of its own, which is then the one that is told.
            let _ = to_worker.send(Err(error));
        }
        if last {
            break;
        }
    }
    Tally { digest: Digest::finish(hasher), length }
}

impl Input for Chunks {
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            let next = match self.filled.recv() {
                Ok(next) => next?,
                // The pump has reached the end and gone.
                Err(_) => Vec::new(),
            };
            let spent = std::mem::replace(&mut self.current, next);
            self.at = 0;
            if spent.capacity() > 0 {
                // Refused only when the pump has gone and needs none.
                let _ = self.emptied.send(spent);
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = self.current.len().min(self.at + count);
    }
}
