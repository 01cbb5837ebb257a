//! One blob from the registry into its file.
//!
//! Invariant: what is told to be whole has the digest that was asked for and is durable; a cut connection goes on at the
//! byte where it was cut, also in the next process. What another process left is believed, and unpacked, only when the
//! whole is right: after a power failure it may end in zeros.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    sync::OnceLock,
};

use sha2::{Digest as _, Sha256};

use super::{failure::Failure, session::Session, transfer::Board};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::SparingFile,
    id::Digest,
    image::read_error,
    interrupt,
    store::{Download, Downloads},
};

const BUFFER: usize = 256 << 10;

/// A blob that is to be downloaded.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Open from when its turn has come.
    pub(super) file: OnceLock<Download>,
}

impl Wanted {
    pub(super) fn new(digest: Digest, size: u64) -> Self {
        Self { digest, size, file: OnceLock::new() }
    }
}

/// What the threads share that download the layers of an image.
#[derive(Debug)]
pub(super) struct Downloading<'a> {
    pub(super) session: &'a Session,
    pub(super) place: Downloads,
    pub(super) board: &'a Board,
}

impl Downloading<'_> {
    /// Downloads `wanted`, which is number `index` on the board, and tells `told` how many bytes are there.
    pub(super) fn download(&self, wanted: &Wanted, index: usize, told: &dyn Fn(u64)) -> Result<()> {
        let file = self.place.open(wanted.digest)?;
        let file = wanted.file.get_or_init(|| file);
        self.board.came(index, 0);
        self.fetch(wanted, file, index, told).map_err(|error| match error.kind() {
            // Of no use to the next one either.
            Kind::Corrupt => error.and_undo(file.forget()),
            _ => error,
        })?;
        self.board.came(index, wanted.size);
        self.board.whole(index);
        Ok(())
    }

    fn fetch(&self, wanted: &Wanted, file: &Download, index: usize, told: &dyn Fn(u64)) -> Result<()> {
        let mut progress = Progress::found(wanted, file)?;
        let of_others = progress.length > 0;
        let mut found = self.complete(&mut progress, wanted, |there| {
            if !of_others {
                self.board.came(index, there);
            }
            told(there);
        })?;
        if found != wanted.digest && of_others {
            tracing::info!("what was downloaded of {} before is damaged; downloading it anew", wanted.digest);
            file.file().set_len(0).act(|| "empty a damaged download")?;
            progress = Progress::found(wanted, file)?;
            found = self.complete(&mut progress, wanted, |there| {
                self.board.came(index, there);
                told(there);
            })?;
        }
        if found != wanted.digest {
            let what = format!("it has digest {found} and {} was expected", wanted.digest);
            return Err(Error::new(Kind::Corrupt, what));
        }
        file.sync()
    }

    /// Downloads what is missing; the digest of the whole.
    fn complete(&self, progress: &mut Progress, wanted: &Wanted, came: impl Fn(u64)) -> Result<Digest> {
        came(progress.length);
        let mut pauses = self.session.pauses();
        while progress.length < wanted.size {
            let before = progress.length;
            let result = progress.go_on(self.session, wanted, &came);
            if progress.length > before {
                pauses.forget();
            }
            if let Err(failure) = result {
                pauses.after(failure)?;
            }
        }
        Ok(Digest::finish(progress.hasher.clone()))
    }
}

struct Progress {
    out: SparingFile,
    hasher: Sha256,
    length: u64,
}

impl Progress {
    /// What is there already.
    fn found(wanted: &Wanted, download: &Download) -> Result<Self> {
        let mut file = download.file();
        let read = || "read what was downloaded before";
        if file.metadata().act(read)?.len() > wanted.size {
            file.set_len(0).act(read)?;
        }
        file.seek(SeekFrom::Start(0)).act(read)?;
        let (mut hasher, mut length, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER]);
        loop {
            interrupt::check()?;
            let count = file.read(&mut buffer).act(read)?;
            if count == 0 {
                // The writer goes on from here.
                return Ok(Self { out: download.writer()?, hasher, length });
            }
            hasher.update(&buffer[..count]);
            length += count as u64;
        }
    }

    /// One request for all that is missing; some of it may have come when it fails.
    fn go_on(&mut self, session: &Session, wanted: &Wanted, came: impl Fn(u64)) -> Result<(), Failure> {
        let mut remote = session.blob(wanted.digest, self.length)?;
        while let Some(part) = remote.next()? {
            if part.len() as u64 > wanted.size - self.length {
                let what = format!("registry {} sends more than the {} bytes of it", session.host(), wanted.size);
                return Err(Failure::last(Error::new(Kind::Corrupt, what)));
            }
            let act = "write the download, of which 'lamina image prune' removes what is there";
            self.out.write_all(&part).map_err(|error| Failure::last(read_error(error, act)))?;
            self.hasher.update(&part);
            self.length += part.len() as u64;
            came(self.length);
        }
        if self.length == wanted.size {
            return Ok(());
        }
        let (there, size) = (self.length, wanted.size);
        let what = format!("registry {} ended after {there} of {size} bytes", session.host());
        Err(Failure::passing(Error::new(Kind::Io, what)))
    }
}
