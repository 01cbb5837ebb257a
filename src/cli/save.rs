//! `lamina save`.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd as _,
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};

use super::{Global, pool, progress, progress::Counted};
use crate::{
    error::Act as _,
    fs::WholeFile,
    image::{
        catalog::Catalog,
        save::{Format, Wanted, save, wanted},
    },
    store::Store,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write to this file, which appears when it is whole; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// docker: plain layers and a manifest.json; oci: layers compressed as they came, else with gzip
    #[arg(long, value_name = "oci|docker", default_value = "docker")]
    format: Format,
    /// References or IDs; an image named by its ID has no name in the archive
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        if self.output.is_none() && io::stdout().is_terminal() {
            bail!("save: an archive is no text for a terminal; name a file with -o FILE, or redirect the output");
        }
        let store = pool::existing(global)?;
        let images = wanted(Catalog::new(&store), &self.images)?;
        let Some(path) = &self.output else {
            // Not by lines, as the standard library's own handle writes.
            let out = io::stdout().as_fd().try_clone_to_owned().act(|| "write to standard output")?;
            return self.write(&store, &images, &mut File::from(out)).context("save to standard output");
        };
        let mut file = WholeFile::create(path)?;
        self.write(&store, &images, &mut file).with_context(|| format!("save to {}", path.display()))?;
        Ok(file.publish()?)
    }

    fn write(&self, store: &Store, images: &[Wanted], out: &mut impl Write) -> Result<()> {
        let counted = Counted::new(out, progress::bytes("saving", None));
        Ok(save(store, images, self.format, io::BufWriter::with_capacity(1 << 16, counted))?)
    }
}
