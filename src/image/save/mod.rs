//! Images out of the store, as an archive that Docker, skopeo, umoci and buildah read.
//!
//! Both formats are one: an OCI image layout in a tar (OCI image-spec, "Image Layout"). The OCI archive has its layers
//! compressed, as they came where they came so. The docker-archive has them plain, and a `manifest.json` beside, as
//! Docker writes it since version 25; older ones read that file alone.
//!
//! Invariant: configurations go out byte for byte and layers with the digests that they came with; what two images share
//! is in the archive once; an archive without its last two blocks was not written to the end.

mod layer;
pub(super) mod manifest;
mod writer;

use std::{
    collections::{BTreeSet, HashMap},
    io::{Read, Write},
    str::FromStr,
};

use oci_spec::image::{Descriptor, MediaType};

pub use self::layer::{Content, compressed, plain, plain_in_file};
use self::{
    manifest::{DockerEntry, blob_name, descriptor},
    writer::ArchiveWriter,
};
pub use super::verified::Verified;
use super::{
    catalog::{Catalog, Image, Layer},
    reference::Reference,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::{DiffId, Digest},
    interrupt,
    store::Store,
    units::Bytes,
};

/// How an archive is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// docker-archive.
    #[default]
    Docker,
    /// OCI image archive.
    Oci,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "docker" => Ok(Self::Docker),
            "oci" => Ok(Self::Oci),
            other => Err(Error::new(Kind::Invalid, format!("archive format '{other}' is not one of docker, oci"))),
        }
    }
}

/// An image to be saved, and the names that it has in the archive.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The image.
    pub image: Image,
    /// Those of its names that were asked for.
    pub references: Vec<Reference>,
}

/// The images that `names` name, each once; one that is named by its ID has no name in the archive, as with Docker.
///
/// # Errors
/// As [`Catalog::find`].
pub fn wanted(catalog: Catalog<'_>, names: &[String]) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    for name in names {
        let image = catalog.find(name)?;
        let reference = name.parse::<Reference>().ok().filter(|reference| image.references.contains(reference));
        let at = match all.iter().position(|other| other.image.id == image.id) {
            Some(at) => at,
            None => {
                all.push(Wanted { image, references: Vec::new() });
                all.len() - 1
            }
        };
        let references = &mut all[at].references;
        if let Some(reference) = reference.filter(|reference| !references.contains(reference)) {
            references.push(reference);
        }
    }
    Ok(all)
}

/// Writes an archive of these images to `out`.
///
/// # Errors
/// `Corrupt` for a layer whose bytes are not what they were; `Full`; the system's. What was written is then of no use.
pub fn save(store: &Store, images: &[Wanted], format: Format, out: impl Write) -> Result<()> {
    let mut saver = Saver {
        store,
        format,
        archive: ArchiveWriter::new(out),
        layers: HashMap::new(),
        written: BTreeSet::new(),
        manifests: Vec::new(),
        entries: Vec::new(),
    };
    saver.archive.directory("blobs/")?;
    saver.archive.directory("blobs/sha256/")?;
    for wanted in images {
        saver.image(wanted).act(|| format!("save image {}", wanted.image.id))?;
    }
    saver.finish()
}

struct Saver<'a, W> {
    store: &'a Store,
    format: Format,
    archive: ArchiveWriter<W>,
    /// The layers that are in the archive.
    layers: HashMap<DiffId, Descriptor>,
    /// All blobs that are in the archive.
    written: BTreeSet<Digest>,
    manifests: Vec<Descriptor>,
    entries: Vec<DockerEntry>,
}

impl<W: Write> Saver<'_, W> {
    fn image(&mut self, Wanted { image, references }: &Wanted) -> Result<()> {
        let layers = Catalog::new(self.store).layers(image)?;
        let layers: Vec<Descriptor> = layers.iter().map(|layer| self.layer(layer)).collect::<Result<_>>()?;
        let config = self.small(MediaType::ImageConfig, image.config.bytes())?;
        let manifest = manifest::json(&manifest::manifest(config, layers)?)?;
        let manifest = self.small(MediaType::ImageManifest, &manifest)?;
        self.manifests.extend(manifest::named(&manifest, references));
        // Plain layers are called after their diff IDs.
        let diffs: Vec<Digest> = image.config.diff_ids().iter().map(|diff| diff.0).collect();
        self.entries.push(DockerEntry::new(image.id.0, references, &diffs));
        Ok(())
    }

    fn layer(&mut self, layer: &Layer) -> Result<Descriptor> {
        interrupt::check()?;
        if let Some(there) = self.layers.get(&layer.diff_id) {
            return Ok(there.clone());
        }
        let store = self.store;
        let descriptor = match self.format {
            Format::Docker => plain(store, layer).and_then(|content| self.blob(content)),
            Format::Oci => compressed(store, layer, &interrupt::check).and_then(|content| self.blob(content)),
        };
        let descriptor = descriptor.act(|| format!("layer {}", layer.diff_id))?;
        self.layers.insert(layer.diff_id, descriptor.clone());
        Ok(descriptor)
    }

    fn blob(&mut self, content: Content<impl Read>) -> Result<Descriptor> {
        let Content { media_type, digest, size, bytes } = content;
        if self.written.insert(digest) {
            self.archive.file(&blob_name(digest), size, bytes)?;
        }
        descriptor(media_type, size, digest)
    }

    /// A blob that is in memory.
    fn small(&mut self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
        let (digest, size) = (Digest::of(bytes), Bytes(bytes.len() as u64));
        self.blob(Content { media_type, digest, size, bytes })
    }

    fn finish(mut self) -> Result<()> {
        let index = manifest::json(&manifest::index(std::mem::take(&mut self.manifests))?)?;
        self.text("index.json", &index)?;
        if self.format == Format::Docker {
            let entries = manifest::json(&self.entries)?;
            self.text("manifest.json", &entries)?;
        }
        self.text("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.archive.finish()
    }

    fn text(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.archive.file(name, Bytes(bytes.len() as u64), bytes)
    }
}
