//! The only place that writes to the user. A reader who went away is no error.

use std::io::{self, Write};

/// A line of result, on standard output.
pub(crate) fn say(line: &str) {
    stdout(format!("{line}\n").as_bytes());
}

/// A line about the run itself, on standard error.
pub(crate) fn note(line: &str) {
    stderr(format!("vm-tests: {line}\n").as_bytes());
}

/// Bytes of a program in the guest, as they are.
pub(crate) fn stdout(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    drop(out.write_all(bytes).and_then(|()| out.flush()));
}

/// The same for standard error.
pub(crate) fn stderr(bytes: &[u8]) {
    let mut out = io::stderr().lock();
    drop(out.write_all(bytes).and_then(|()| out.flush()));
}
