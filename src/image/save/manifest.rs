//! The JSON of an image archive: the OCI layout's (OCI image-spec, "Image Layout"), and Docker's `manifest.json`.
//!
//! Invariant: the same images give the same bytes, so keys are sorted.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, ImageManifest, ImageManifestBuilder, MediaType};
use serde::Serialize;

use crate::{
    error::{Error, Kind, Result},
    id::Digest,
    image::reference::Reference,
    units::Bytes,
};

/// Where a blob lies in an OCI layout.
pub(super) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// One image in `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerEntry {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

impl DockerEntry {
    pub(super) fn new(config: Digest, references: &[Reference], layers: &[Digest]) -> Self {
        let tags: Vec<String> = references.iter().filter_map(repo_tag).collect();
        Self {
            config: blob_name(config),
            repo_tags: (!tags.is_empty()).then_some(tags),
            layers: layers.iter().map(|digest| blob_name(*digest)).collect(),
        }
    }
}

/// Docker knows no digest here.
fn repo_tag(reference: &Reference) -> Option<String> {
    reference.tag().map(|tag| format!("{}:{tag}", reference.familiar_name()))
}

pub(in crate::image) fn descriptor(media_type: MediaType, size: Bytes, digest: Digest) -> Result<Descriptor> {
    let digest: oci_spec::image::Digest = digest.to_string().parse().map_err(unwritable)?;
    Ok(Descriptor::new(media_type, size.0, digest))
}

pub(in crate::image) fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<ImageManifest> {
    let manifest = ImageManifestBuilder::default().schema_version(2u32).media_type(MediaType::ImageManifest);
    manifest.config(config).layers(layers).build().map_err(unwritable)
}

pub(super) fn index(manifests: Vec<Descriptor>) -> Result<ImageIndex> {
    let index = ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex);
    index.manifests(manifests).build().map_err(unwritable)
}

/// A manifest under each of its names, as Docker and containerd write them: the tag for programs that take it for the
/// name (skopeo, umoci), and the whole name.
pub(super) fn named(manifest: &Descriptor, references: &[Reference]) -> Vec<Descriptor> {
    let under = |reference: &Reference| {
        let mut descriptor = manifest.clone();
        let mut names = HashMap::from([("io.containerd.image.name".to_owned(), reference.canonical())]);
        if let Some(tag) = reference.tag() {
            names.insert("org.opencontainers.image.ref.name".to_owned(), tag.to_owned());
        }
        descriptor.set_annotations(Some(names));
        descriptor
    };
    if references.is_empty() { vec![manifest.clone()] } else { references.iter().map(under).collect() }
}

/// By way of a value, whose maps are sorted.
pub(in crate::image) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_value(value).and_then(|value| serde_json::to_vec(&value)).map_err(unwritable)
}

fn unwritable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::with_source(Kind::Invalid, "write the archive's description", error)
}
