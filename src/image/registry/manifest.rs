//! Manifests: of one image, and lists of them by platform, in the forms of OCI and of Docker's schema 2, which differ in
//! the names of their types.
//!
//! Invariant: a manifest that was asked for by digest has that digest; one image's has a layer for each diff ID.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::{Deserialize, de::IgnoredAny};

use super::{platform::Platform, session::Session};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::Digest,
    image::{
        config::{Config, JSON_LIMIT},
        reference::Reference,
    },
};

/// A list may lead to lists; nobody nests them deeper.
const DEPTH: usize = 4;

/// The manifest of one image, as it came.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) bytes: Vec<u8>,
    pub(super) parsed: ImageManifest,
}

/// Digests and sizes of what a manifest names.
#[derive(Debug)]
pub(super) struct Blobs {
    pub(super) config: (Digest, u64),
    /// Lowest first.
    pub(super) layers: Vec<(Digest, u64)>,
}

/// An image at a registry.
#[derive(Debug)]
pub(super) struct RemoteImage {
    /// What the reference leads to: the manifest, or the list that has it.
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    pub(super) config: Config,
}

/// What a manifest says before it is known what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Glance {
    schema_version: u32,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

impl Manifest {
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self> {
        Ok(Self { parsed: parse(&bytes)?, bytes })
    }

    /// Its own type; OCI's does not need to say it.
    pub(super) fn media_type(&self) -> String {
        self.parsed.media_type().as_ref().unwrap_or(&MediaType::ImageManifest).to_string()
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// What it is made of.
    pub(super) fn blobs(&self) -> Result<Blobs> {
        let blob = |descriptor: &Descriptor| Ok((descriptor.digest().to_string().parse()?, descriptor.size()));
        let layers = self.parsed.layers().iter().map(|layer| check_type(layer).and_then(|()| blob(layer)));
        let layers: Vec<(Digest, u64)> = layers.collect::<Result<_>>()?;
        let mut sizes = HashMap::new();
        for (digest, size) in &layers {
            let first = *sizes.entry(*digest).or_insert(*size);
            if first != *size {
                let what = format!("layer {digest} is listed with {first} bytes and with {size}");
                return Err(Error::new(Kind::Invalid, what));
            }
        }
        Ok(Blobs { config: blob(self.parsed.config())?, layers })
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::with_source(Kind::Invalid, "read the manifest", error))
}

/// Layers are tars, compressed or not; what else a manifest may list is none of an image for here.
fn check_type(layer: &Descriptor) -> Result<()> {
    let name = layer.media_type().to_string();
    let compressed = [".gzip", "+gzip", ".zstd", "+zstd"].iter().find_map(|ending| name.strip_suffix(ending));
    if compressed.unwrap_or(&name).ends_with(".tar") {
        return Ok(());
    }
    let what = format!("a layer has type '{}', which is not supported", name.escape_debug());
    Err(Error::new(Kind::Unsupported, what))
}

/// Finds the image that `reference` names, for `platform`.
pub(super) fn find(session: &Session, reference: &Reference, platform: Option<&Platform>) -> Result<RemoteImage> {
    let mut wanted = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let mut expected = reference.digest();
    let mut first = None;
    for _ in 0..DEPTH {
        let bytes = session.manifest(&wanted)?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let what = format!("the manifest has digest {digest} and {expected} was expected");
            return Err(Error::new(Kind::Corrupt, what));
        }
        let top = *first.get_or_insert(digest);
        let glance: Glance = parse(&bytes)?;
        if glance.schema_version != 2 {
            let what = format!("the manifest has schema version {}; only 2 is supported", glance.schema_version);
            return Err(Error::new(Kind::Unsupported, what));
        }
        if glance.manifests.is_none() {
            return image(session, top, Manifest::parse(bytes)?, platform);
        }
        if glance.layers.is_some() || glance.config.is_some() {
            // Who reads it decides which image it is, under one digest (CVE-2021-41190).
            let what = "the manifest is that of an image and a list of manifests at once";
            return Err(Error::new(Kind::Invalid, what));
        }
        let index: ImageIndex = parse(&bytes)?;
        let chosen: Digest = platform.unwrap_or(&Platform::default()).choose(&index)?.digest().to_string().parse()?;
        (wanted, expected) = (chosen.to_string(), Some(chosen));
    }
    Err(Error::new(Kind::Invalid, format!("lists of manifests are nested {DEPTH} deep")))
}

fn image(session: &Session, digest: Digest, manifest: Manifest, platform: Option<&Platform>) -> Result<RemoteImage> {
    let Blobs { config: (config, size), layers } = manifest.blobs()?;
    let config = Config::parse(small(session, config, size).act(|| "get the configuration")?)?;
    config.require_bearable()?;
    let (have, want) = (layers.len(), config.diff_ids().len());
    if have != want {
        let what = format!("image {} has {have} layers in its manifest and {want} in its configuration", config.id());
        return Err(Error::new(Kind::Corrupt, what));
    }
    let (os, architecture) = (config.spec().os().to_string(), config.spec().architecture().to_string());
    if let Some(platform) = platform.filter(|platform| !platform.has(&os, &architecture)) {
        let what = format!("there is no image for {platform}; the only one is for {os}/{architecture}");
        return Err(Error::new(Kind::NotFound, what));
    }
    Ok(RemoteImage { digest, manifest, config })
}

/// A small blob, in memory.
fn small(session: &Session, digest: Digest, size: u64) -> Result<Vec<u8>> {
    if size > JSON_LIMIT {
        return Err(Error::new(Kind::Invalid, format!("it has {size} bytes and the limit is {JSON_LIMIT}")));
    }
    let bytes = session.persist(|| {
        let mut bytes = Vec::new();
        let mut remote = session.blob(digest, 0)?;
        while let Some(part) = remote.next()?.filter(|_| bytes.len() as u64 <= size) {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    })?;
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(Error::new(Kind::Corrupt, format!("it has digest {found} and {digest} was expected")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    #[test]
    fn layers_of_both_forms_are_taken_and_others_refused() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let blobs = |kind: &str| {
            let text = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"x/y","digest":"{digest}","size":1}},
                "layers":[{{"mediaType":"{kind}","digest":"{digest}","size":2}}]}}"#
            );
            Manifest::parse(text.into_bytes()).unwrap().blobs()
        };
        for kind in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ] {
            assert_eq!(blobs(kind).unwrap().layers[0].1, 2, "{kind}");
        }
        for kind in ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/wasm"] {
            assert!(blobs(kind).unwrap_err().to_string().contains("not supported"), "{kind}");
        }
    }
}
