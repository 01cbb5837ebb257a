//! One error type for the library: what was tried, why it failed, and what kind of failure it is.
//!
//! Invariant: a message is lower case and says act, object, cause, numbers with units and remedy; the cause of a
//! failed undo is kept beside the first cause and never replaces it.

use std::{error::Error as StdError, fmt, io};

/// Result of every fallible library call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// What sort of failure it is: callers decide by this, never by the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// A thing of that name exists already.
    Exists,
    /// The thing is in use by somebody else.
    InUse,
    /// No space: pool data, pool metadata, or the disk below.
    Full,
    /// The kernel or the file system below lacks a feature.
    Unsupported,
    /// A helper program is not installed.
    MissingProgram,
    /// The object exists and belongs to something else.
    NotOurs,
    /// Stored data contradicts itself or its checksum.
    Corrupt,
    /// The caller's input is malformed or not allowed.
    Invalid,
    /// Privileges are missing.
    Denied,
    /// A container has not the program that it is to run.
    NoCommand,
    /// A container's program may not be run, or is none.
    NotExecutable,
    /// Whoever read our output reads no more.
    Unread,
    /// A signal asked us to stop.
    Interrupted,
    /// The system refused for another reason; see [`Error::errno`].
    Io,
}

/// A failure: see the module's comment for the form of its message.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Source>,
    undo: Option<Box<Error>>,
}

impl Error {
    /// An error of `kind` whose whole story is `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, undo: None }
    }

    /// The same, with the error that caused it.
    pub fn with_source(kind: Kind, message: impl Into<String>, source: impl Into<Source>) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()), undo: None }
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The kernel's error number, where the failure came from a system call.
    pub fn errno(&self) -> Option<i32> {
        let mut at: Option<&(dyn StdError + 'static)> = self.source.as_ref().map(|s| s.as_ref() as _);
        while let Some(error) = at {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return io.raw_os_error();
            }
            at = error.source();
        }
        None
    }

    /// Puts a further act in front, as the error passes outwards: `outer: inner`.
    #[must_use]
    pub fn within(self, act: impl fmt::Display) -> Self {
        Self { message: format!("{act}: {}", self.message), ..self }
    }

    /// The same failure told as another kind.
    #[must_use]
    pub fn as_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Adds that undoing failed too; the first cause stays in front.
    #[must_use]
    pub fn and_undo(mut self, undo: Result<()>) -> Self {
        if let Err(error) = undo {
            self.undo = Some(Box::new(match self.undo.take() {
                Some(first) => first.and_undo(Err(error)),
                None => error,
            }));
        }
        self
    }
}

/// The kind that a bare system error has.
pub fn kind_of(error: &io::Error) -> Kind {
    // One of ours, on its way through somebody else's reader or writer.
    if let Some(ours) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return ours.kind();
    }
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Kind::Full,
        Some(libc::EPERM | libc::EACCES) => Kind::Denied,
        Some(libc::EBUSY | libc::ETXTBSY) => Kind::InUse,
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => Kind::Unsupported,
        _ => Kind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut at: Option<&(dyn StdError + 'static)> = self.source.as_ref().map(|s| s.as_ref() as _);
        while let Some(error) = at {
            write!(f, ": {error}")?;
            // Our own Display has already told the rest of the chain.
            at = if error.is::<Error>() { None } else { error.source() };
        }
        if let Some(undo) = &self.undo {
            write!(f, "; and undoing it failed: {undo}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

// The sources are part of Display, so that no caller can print an error without its cause.
impl StdError for Error {}

/// Names the act on a failure: `file.sync_all().act(|| format!("write {path}"))?`.
pub trait Act<T> {
    /// Puts the act in front of the cause; the text is only made on failure.
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Act<T> for io::Result<T> {
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::with_source(kind_of(&error), act(), error))
    }
}

impl<T> Act<T> for std::result::Result<T, nix::errno::Errno> {
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T> {
        self.map_err(io::Error::from).act(act)
    }
}

impl<T> Act<T> for std::result::Result<T, rustix::io::Errno> {
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T> {
        self.map_err(io::Error::from).act(act)
    }
}

impl<T> Act<T> for Result<T> {
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.within(act().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Error, Kind};
    use std::io;

    #[test]
    fn display_tells_act_cause_and_failed_undo() {
        let full: io::Result<()> = Err(io::Error::from_raw_os_error(libc::ENOSPC));
        let error = full.act(|| "write pool/data").act(|| "grow pool").unwrap_err();
        assert_eq!(error.kind(), Kind::Full);
        assert_eq!(error.errno(), Some(libc::ENOSPC));
        let error = error.and_undo(Err(Error::new(Kind::InUse, "detach loop3: device is busy")));
        assert_eq!(
            error.to_string(),
            "grow pool: write pool/data: No space left on device (os error 28); \
             and undoing it failed: detach loop3: device is busy"
        );
    }
}
