//! One blob from the registry into its file.
//!
//! Invariant: what is told to be whole has the digest that was asked for and is durable; a cut connection goes on at the
//! byte where it was cut, also in the next process.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use sha2::{Digest as _, Sha256};

use super::{failure::Failure, session::Session, transfer::Board};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::SparingFile,
    id::Digest,
    image::read_error,
    interrupt,
    store::Download,
};

const BUFFER: usize = 256 << 10;

/// A blob that is to be downloaded.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) file: Download,
}

/// Downloads `wanted`, and tells `board`, where it is number `index`, and `told` how many bytes are there.
pub(super) fn download(
    session: &Session,
    wanted: &Wanted,
    board: &Board,
    index: usize,
    told: &dyn Fn(u64),
) -> Result<()> {
    let came = |there| {
        board.came(index, there);
        told(there);
    };
    fetch(session, wanted, came).map_err(|error| match error.kind() {
        // Of no use to the next one either.
        Kind::Corrupt => error.and_undo(wanted.file.forget()),
        _ => error,
    })?;
    board.whole(index);
    Ok(())
}

fn fetch(session: &Session, wanted: &Wanted, came: impl Fn(u64)) -> Result<()> {
    let mut progress = Progress::found(wanted)?;
    came(progress.length);
    let mut pauses = session.pauses();
    while progress.length < wanted.size {
        let before = progress.length;
        let result = progress.go_on(session, wanted, &came);
        if progress.length > before {
            pauses.forget();
        }
        if let Err(failure) = result {
            pauses.after(failure)?;
        }
    }
    let found = Digest::finish(progress.hasher);
    if found != wanted.digest {
        let what = format!("it has digest {found} and {} was expected", wanted.digest);
        return Err(Error::new(Kind::Corrupt, what));
    }
    wanted.file.sync()
}

struct Progress {
    out: SparingFile,
    hasher: Sha256,
    length: u64,
}

impl Progress {
    /// What is there already.
    fn found(wanted: &Wanted) -> Result<Self> {
        let mut file = wanted.file.file();
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
                return Ok(Self { out: wanted.file.writer()?, hasher, length });
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
            self.out.write_all(&part).map_err(|error| Failure::last(read_error(error, "write the download")))?;
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
