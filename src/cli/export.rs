//! `lamina export`.

use std::{fs::File, io, os::fd::AsFd as _, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{Global, cp, pool};
use crate::{container::Containers, error::Act as _, fs::WholeFile};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write to this file, which appears when it is whole; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or ID
    container: String,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let container = containers.find(&self.container)?;
        let Some(path) = &self.output else {
            cp::refuse_terminal().context("export")?;
            // Not by lines, as the standard library's own handle writes.
            let out = File::from(io::stdout().as_fd().try_clone_to_owned().act(|| "write to standard output")?);
            containers.export(&container, io::BufWriter::with_capacity(1 << 16, out))?;
            return Ok(());
        };
        let mut file = WholeFile::create(path)?;
        containers
            .export(&container, io::BufWriter::with_capacity(1 << 16, &mut file))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(file.publish()?)
    }
}
