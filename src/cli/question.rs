//! A question before something is removed.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{Context as _, Result, bail};

/// Asks on the terminal whether `verb` is to remove `which`.
pub(super) fn agreed(verb: &str, which: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("{verb}: nobody can be asked, standard input is no terminal; give -f to remove without a question");
    }
    eprint!("This removes {which}. Are you sure you want to continue? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
