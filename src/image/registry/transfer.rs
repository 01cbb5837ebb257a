//! How far the downloads of one image are, for the threads that make them and the one that unpacks.
//!
//! Invariant: whoever waits here is woken by every byte, by the end, and by any failure; the first failure is the one
//! that counts.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{error::Error, interrupt};

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<Part>,
    failed: bool,
    failure: Option<Error>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Its file is open.
    begun: bool,
    /// Bytes that are in the file.
    there: u64,
    /// All of them, and their digest is right.
    whole: bool,
}

impl Board {
    pub(super) fn new(count: usize) -> Self {
        let state = State { parts: vec![Part::default(); count], ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn came(&self, index: usize, there: u64) {
        let part = &mut self.state().parts[index];
        (part.begun, part.there) = (true, there);
        self.changed.notify_all();
    }

    pub(super) fn whole(&self, index: usize) {
        self.state().parts[index].whole = true;
        self.changed.notify_all();
    }

    /// Nothing more comes.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.state();
        if !state.failed {
            (state.failed, state.failure) = (true, Some(error));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Why, once.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state().failure.take()
    }

    /// Waits until there are more bytes than `than`, or all of them; returns how many.
    fn more(&self, index: usize, than: u64) -> io::Result<u64> {
        let state = self.state();
        let waiting = |state: &mut State| {
            let part = state.parts[index];
            !state.failed && !part.whole && part.there <= than
        };
        let state = self.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        if state.failed { Err(io::Error::other("the download has failed")) } else { Ok(state.parts[index].there) }
    }

    /// Waits until a part has a file, or will never have one.
    pub(super) fn begun(&self, index: usize) {
        let waiting = |state: &mut State| !state.failed && !state.parts[index].begun;
        drop(self.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until a part is whole, or will never be.
    pub(super) fn settled(&self, index: usize) {
        let waiting = |state: &mut State| !state.failed && !state.parts[index].whole;
        drop(self.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner));
    }

    /// The bytes of a part as they come into its file; the end comes once the whole has been found right.
    pub(super) fn follow(&self, index: usize, file: File) -> Following<'_> {
        Following { board: self, index, file, at: 0 }
    }
}

/// See [`Board::follow`].
#[derive(Debug)]
pub(super) struct Following<'a> {
    board: &'a Board,
    index: usize,
    file: File,
    at: u64,
}

impl Read for Following<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        interrupt::check().map_err(io::Error::other)?;
        let there = self.board.more(self.index, self.at)?;
        let most = usize::try_from(there - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::Board;
    use crate::{Error, Kind};
    use std::{
        io::{Read as _, Write as _},
        thread,
    };

    #[test]
    fn a_reader_follows_the_writer_to_the_end_or_the_failure() {
        for fails in [false, true] {
            let mut file = tempfile::tempfile().unwrap();
            let board = Board::new(2);
            let mut reader = board.follow(1, file.try_clone().unwrap());
            let read = thread::scope(|scope| {
                let reading = scope.spawn(move || {
                    let mut all = Vec::new();
                    reader.read_to_end(&mut all).map(|_| all)
                });
                for part in 1..=100u64 {
                    file.write_all(&[7; 1000]).unwrap();
                    board.came(1, part * 1000);
                }
                if fails {
                    board.fail(Error::new(Kind::Io, "cut"))
                } else {
                    board.whole(1)
                }
                reading.join().unwrap()
            });
            assert_eq!(read.is_err(), fails);
            assert_eq!(read.map_or(0, |all| all.len()), if fails { 0 } else { 100_000 });
            board.fail(Error::new(Kind::Io, "later"));
            assert_eq!(board.failure().unwrap().to_string(), if fails { "cut" } else { "later" });
        }
    }
}
