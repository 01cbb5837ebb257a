//! `lamina load`.

use std::path::PathBuf;

use anyhow::Result;
use indicatif::ProgressBar;

use super::{Global, output, progress};
use crate::{
    id::DiffId,
    image::import::{LoadEvents, load},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A docker-archive ('docker save', 'skopeo copy ... docker-archive:') or an OCI image archive
    #[arg(short, long, value_name = "FILE")]
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
        eprintln!("{}: already exists", diff.0.short());
    }

    fn read(&mut self, bytes: u64) {
        if let Some(bar) = &self.current {
            bar.inc(bytes);
        }
    }
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = global.store()?;
        let mut bars = Bars::default();
        let images = load(&store, &self.input, &mut bars);
        bars.finish();
        for image in images? {
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
