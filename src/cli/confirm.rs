//! The question before much is removed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};

use super::output;

/// The option of verbs that ask.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Asked {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Asked {
    /// Whether the user agrees that `verb` does what `warning` says.
    pub(super) fn agreed(self, verb: &str, warning: &str) -> Result<bool> {
        if self.force { Ok(true) } else { ask(verb, warning) }
    }
}

fn ask(verb: &str, warning: &str) -> Result<bool> {
    // Who cannot read it answers it all the same.
    let _ = write!(io::stderr().lock(), "{warning} Are you sure you want to continue? [y/N] ");
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer).context("read the answer")? == 0 && !io::stdin().is_terminal() {
        output::tell("");
        bail!("{verb}: nobody answers, standard input has ended; give -f to remove without a question");
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
