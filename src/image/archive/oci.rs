//! OCI image archives (OCI image-spec, "Image Layout"): `index.json` leads to manifests, and these to blobs.

use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Os};

use super::{Archive, ArchivedImage, BlobRef};
use crate::{
    error::{Error, Kind, Result},
    id::Digest,
    image::reference::Reference,
};

pub(super) const INDEX: &str = "index.json";

/// An index may hold indexes; deeper than this, nobody nests them.
const DEPTH: u32 = 4;

pub(super) fn images(archive: &Archive) -> Result<Vec<ArchivedImage>> {
    let index: ImageIndex = super::parse(INDEX, &archive.json(INDEX, None)?)?;
    let ours: Vec<&Descriptor> = index.manifests().iter().filter(|descriptor| is_ours(descriptor)).collect();
    if ours.is_empty() {
        return Err(not_for_us(&index));
    }
    ours.into_iter().map(|descriptor| image(archive, descriptor, references(descriptor), DEPTH)).collect()
}

fn image(archive: &Archive, descriptor: &Descriptor, references: Vec<Reference>, depth: u32) -> Result<ArchivedImage> {
    let blob = blob(archive, descriptor)?;
    let bytes = archive.json(&blob.name, blob.digest)?;
    if is_index(descriptor) {
        let index: ImageIndex = super::parse(&blob.name, &bytes)?;
        return match index.manifests().iter().find(|descriptor| is_ours(descriptor)) {
            Some(found) if depth > 0 => image(archive, found, references, depth - 1),
            Some(_) => Err(Error::new(Kind::Invalid, format!("image indexes are nested more than {DEPTH} deep"))),
            None => Err(not_for_us(&index)),
        };
    }
    let manifest: ImageManifest = super::parse(&blob.name, &bytes)?;
    let config = self::blob(archive, manifest.config())?;
    let config = archive.json(&config.name, config.digest)?;
    let layers = manifest.layers().iter().map(|layer| self::blob(archive, layer));
    super::image(references, config, layers.collect::<Result<_>>()?)
}

/// Docker's manifest list is an index under another name.
fn is_index(descriptor: &Descriptor) -> bool {
    match descriptor.media_type() {
        MediaType::ImageIndex => true,
        other => other.to_string() == "application/vnd.docker.distribution.manifest.list.v2+json",
    }
}

fn blob(archive: &Archive, descriptor: &Descriptor) -> Result<BlobRef> {
    let digest: Digest = descriptor.digest().to_string().parse()?;
    let blob = archive.blob(&format!("blobs/sha256/{}", digest.hex()), Some(digest))?;
    if blob.size != descriptor.size() {
        return Err(Error::new(
            Kind::Corrupt,
            format!("blob {digest} has {} bytes and {} were expected", blob.size, descriptor.size()),
        ));
    }
    Ok(blob)
}

/// Whether it is for this machine, or does not say. Attestations call themselves unknown/unknown.
fn is_ours(descriptor: &Descriptor) -> bool {
    descriptor
        .platform()
        .as_ref()
        .is_none_or(|platform| *platform.os() == Os::Linux && *platform.architecture() == Arch::default())
}

fn not_for_us(index: &ImageIndex) -> Error {
    let platforms = index.manifests().iter().filter_map(|descriptor| descriptor.platform().as_ref());
    let platforms: Vec<String> = platforms.map(|p| format!("{}/{}", p.os(), p.architecture())).collect();
    let has = if platforms.is_empty() { "none".to_owned() } else { platforms.join(", ") };
    Error::new(Kind::Invalid, format!("the archive has no image for linux/{}; it has {has}", Arch::default()))
}

/// containerd writes the full name; others a name with a tag, or only a tag, which names nothing.
fn references(descriptor: &Descriptor) -> Vec<Reference> {
    let annotations = descriptor.annotations().as_ref();
    let get = |key: &str| annotations.and_then(|map| map.get(key));
    let name = get("io.containerd.image.name").or_else(|| get("org.opencontainers.image.ref.name"));
    name.filter(|name| name.contains(['/', ':'])).and_then(|name| name.parse().ok()).into_iter().collect()
}
