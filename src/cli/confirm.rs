//! The question before much is removed.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{Context as _, Result, bail};

/// Whether the user agrees that `verb` does what `warning` says; not asked if `force`.
pub(super) fn agreed(verb: &str, force: bool, warning: &str) -> Result<bool> {
    if force {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        bail!("{verb}: nobody can be asked, standard input is no terminal; give -f to remove without a question");
    }
    eprint!("{warning} Are you sure you want to continue? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
