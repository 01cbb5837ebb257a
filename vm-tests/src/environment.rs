//! The environment of a program in the guest.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::host::{search_path, workspace::lamina_dir};
use crate::layout::{SCRATCH, TEST_DISKS};

/// Variables of the user that a program in the guest sees too.
const PASSED_ON: &[&str] =
    &["TERM", "RUST_BACKTRACE", "RUST_LOG", "RUST_MIN_STACK", "PROPTEST_CASES", "NO_COLOR", "LAMINA_TEST_FS"];

/// The base environment, with `extra` last. `lamina` as built comes first in the path.
pub(crate) fn guest(extra: &[(String, String)]) -> Result<Vec<(String, String)>> {
    let path = format!("{}:{}", lamina_dir()?.display(), search_path());
    let mut variables: Vec<(String, String)> =
        [("PATH", path.as_str()), ("HOME", "/root"), ("USER", "root"), ("LANG", "C.UTF-8"), ("RUST_BACKTRACE", "1")]
            .into_iter()
            .chain([("LAMINA_TEST_DIR", SCRATCH), ("TMPDIR", SCRATCH), ("LAMINA_TEST_DISKS", TEST_DISKS)])
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
    let passed_on = PASSED_ON.iter().filter_map(|key| Some(((*key).to_owned(), env::var(key).ok()?)));
    variables.extend(passed_on);
    variables.extend(extra.iter().cloned());
    Ok(variables)
}

/// Where programs in the guest start: where the user is.
pub(crate) fn directory() -> Result<PathBuf> {
    env::current_dir().context("find the current directory")
}
