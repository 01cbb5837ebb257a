//! docker-archive: `manifest.json` names for each image its tags, configuration and layer tars.

use serde::Deserialize;

use super::{Archive, ArchivedImage};
use crate::{error::Result, id::Digest};

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn images(archive: &Archive) -> Result<Vec<ArchivedImage>> {
    let entries: Vec<Entry> = super::parse(MANIFEST, &archive.json(MANIFEST, None)?)?;
    entries.into_iter().map(|entry| image(archive, &entry)).collect()
}

fn image(archive: &Archive, entry: &Entry) -> Result<ArchivedImage> {
    let references = entry.repo_tags.iter().flatten().map(|tag| tag.parse()).collect::<Result<_>>()?;
    let config = archive.json(&entry.config, named_digest(&entry.config))?;
    let layers = entry.layers.iter().flatten().map(|name| archive.blob(name, blob_digest(name)));
    super::image(references, config, layers.collect::<Result<_>>()?)
}

/// A configuration is called `HEX.json` or `blobs/sha256/HEX` after its digest.
fn named_digest(name: &str) -> Option<Digest> {
    let name = name.rsplit('/').next()?;
    format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name)).parse().ok()
}

/// A layer only in the OCI layout: `HEX/layer.tar` and skopeo's `HEX.tar` are not made of what is stored.
fn blob_digest(name: &str) -> Option<Digest> {
    format!("sha256:{}", name.strip_prefix("blobs/sha256/")?).parse().ok()
}
