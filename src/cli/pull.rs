//! `lamina pull`.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use super::{
    Global, output,
    registry::{Lines, Reach},
};
use crate::{
    id::Digest,
    image::{
        reference::Reference,
        registry::{Connection, Platform, PullEvents, Pulled, pull},
    },
    store::Store,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image for another machine, as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
    /// What to pull: [HOST[:PORT]/]PATH[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    reference: Reference,
}

/// Docker's words, on standard error.
struct Told {
    lines: Lines<Digest>,
    /// The layers that are being unpacked.
    unpacking: Mutex<BTreeSet<Digest>>,
    tag: String,
    path: String,
}

impl PullEvents for Told {
    fn found(&self, layers: &[(Digest, u64)]) {
        self.lines.say(format_args!("{}: Pulling from {}", self.tag, self.path));
        self.lines.add(layers.iter().map(|(layer, size)| (*layer, layer.short(), *size)));
    }

    fn exists(&self, layer: Digest) {
        self.lines.end(layer, "Already exists");
    }

    fn downloaded(&self, layer: Digest, bytes: u64) {
        if !self.lock().contains(&layer) {
            self.lines.at(layer, "Downloading", bytes);
        }
    }

    fn unpacked(&self, layer: Digest, bytes: u64) {
        if self.lock().insert(layer) {
            self.lines.count(layer, "Extracting", None);
        }
        self.lines.more(layer, bytes);
    }

    fn complete(&self, layer: Digest) {
        self.lines.end(layer, "Pull complete");
    }
}

impl Told {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Digest>> {
        self.unpacking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pulls, and says so as Docker does.
pub(super) fn told(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
    connection: &Connection,
    quiet: bool,
) -> crate::error::Result<Pulled> {
    let named = reference.digest().map(|digest| digest.to_string());
    let told = Told {
        lines: Lines::new(quiet),
        unpacking: Mutex::default(),
        tag: reference.tag().map(str::to_owned).or(named).unwrap_or_default(),
        path: reference.path().to_owned(),
    };
    let pulled = pull(store, reference, platform, connection, &told)?;
    told.lines.say(format_args!("Digest: {}", pulled.digest));
    let status = if pulled.is_new { "Downloaded newer image" } else { "Image is up to date" };
    told.lines.say(format_args!("Status: {status} for {reference}"));
    Ok(pulled)
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = global.store()?;
        let reference = &self.reference;
        let pulled = told(&store, reference, self.platform.as_ref(), &self.reach.connection(), self.quiet)
            .with_context(|| format!("pull {reference}"))?;
        output::line(reference.canonical()).with_context(|| format!("image {} is pulled", pulled.image.id))
    }
}
