//! `lamina push`.

use anyhow::{Context as _, Result};

use super::{
    Global, output, pool,
    registry::{Lines, Reach},
};
use crate::{
    id::DiffId,
    image::{
        catalog::Catalog,
        reference::Reference,
        registry::{PushEvents, push},
    },
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
    /// What to push, and where to: [HOST[:PORT]/]PATH[:TAG]
    #[arg(value_name = "REF")]
    reference: Reference,
}

/// Docker's words, on standard error.
struct Told {
    lines: Lines<DiffId>,
}

impl PushEvents for Told {
    fn found(&self, layers: &[DiffId]) {
        self.lines.add(layers.iter().map(|layer| (*layer, layer.0.short(), 0)));
    }

    fn exists(&self, layer: DiffId) {
        self.lines.end(layer, "Layer already exists");
    }

    fn mounted(&self, layer: DiffId, from: &str) {
        self.lines.end(layer, &format!("Mounted from {from}"));
    }

    fn sending(&self, layer: DiffId, size: u64) {
        self.lines.count(layer, "Pushing", Some(size));
    }

    fn sent(&self, layer: DiffId, bytes: u64) {
        self.lines.more(layer, bytes);
    }

    fn pushed(&self, layer: DiffId) {
        self.lines.end(layer, "Pushed");
    }
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let reference = &self.reference;
        let image = Catalog::new(&store).find(&reference.canonical())?;
        let told = Told { lines: Lines::new(self.quiet) };
        told.lines.say(format_args!("The push refers to repository [{}]", reference.name()));
        let pushed = push(&store, &image, reference, &self.reach.connection(), &told)
            .with_context(|| format!("push {reference}"))?;
        let tag = reference.tag().unwrap_or_default();
        told.lines.say(format_args!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
        output::line(reference.canonical())
    }
}
