//! The umask of what is made for everybody in a container, which must not be as private as the caller's own files.

use rustix::{fs::Mode, process::umask};

const PLAIN: Mode = Mode::from_raw_mode(0o022);

/// This process's from now on.
pub(super) fn set_plain() {
    umask(PLAIN);
}

/// Makes files, or starts a program that does, under it.
pub(super) fn with_plain<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(PLAIN);
    let made = make();
    umask(before);
    made
}
