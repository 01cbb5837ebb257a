//! `lamina load`.

use std::{fs::File, path::PathBuf};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;

use super::{Global, input::Input, output, progress, progress::Counted};
use crate::{
    id::DiffId,
    image::{
        archive::Archive,
        import::{LoadEvents, load},
    },
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A docker-archive ('docker save', 'skopeo copy ... docker-archive:') or an OCI image archive, plain, gzip or
    /// zstd; '-' is standard input
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
}

/// One bar per layer.
#[derive(Default)]
struct Bars {
    current: Option<ProgressBar>,
}

impl Bars {
    fn finish(&mut self) {
        if let Some(bar) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

impl LoadEvents for Bars {
    fn layer(&mut self, diff: DiffId, index: usize, count: usize, size: u64) {
        self.finish();
        let what = format!("layer {} of {count} {}", index + 1, diff.0.short());
        self.current = Some(progress::bytes(&what, Some(size)));
    }

    fn exists(&mut self, diff: DiffId) {
        self.finish();
        output::tell(format_args!("{}: already exists", diff.0.short()));
    }

    fn read(&mut self, bytes: u64) {
        if let Some(bar) = &self.current {
            bar.inc(bytes);
        }
    }
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        // Before a pool is made for it.
        if self.input.as_os_str() != "-" {
            File::open(&self.input).with_context(|| format!("load {}", self.input.display()))?;
        }
        let store = global.store()?;
        // Beside the pool: a compressed archive is as large as its images.
        let spool = store.layout().root();
        let archive = match self.input.as_os_str() == "-" {
            true => Archive::receive(Counted::new(Input::new()?, progress::bytes("reading", None)), spool)?,
            false => Archive::open(&self.input, spool)?,
        };
        let mut bars = Bars::default();
        let images = load(&store, &archive, &mut bars);
        bars.finish();
        for image in images.with_context(|| format!("load {}", archive.name()))? {
            if image.references.is_empty() {
                output::line(format_args!("Loaded image ID: {}", image.id))?;
            }
            for reference in &image.references {
                output::line(format_args!("Loaded image: {reference}"))?;
            }
        }
        Ok(())
    }
}
