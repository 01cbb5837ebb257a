//! An image to a registry.
//!
//! Layers go out as they came, and with the manifest that they came with, if they did; what the registry has is not sent.
//! This thread gets the layers ready, and some others send them.
//!
//! Invariant: the manifest goes last, so the registry never has an image without its layers; what is sent has the digest
//! that was announced, or the sending fails.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use oci_spec::image::{Descriptor, MediaType};

use super::{
    AT_ONCE, Connection, failure::Failure, kept, login::Access, manifest::Manifest, pull::is_of_other,
    requests::Mounting, session::Session,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::{DiffId, Digest},
    image::{
        catalog::{Catalog, Image, Layer},
        digests, read_error,
        reference::Reference,
        save::{Content, Verified, compressed, manifest as text, plain_in_file},
    },
    store::Store,
};

const PART: usize = 256 << 10;

/// What happens while an image is pushed. Layers are known by their diff ID. Called by several threads.
pub trait PushEvents: Sync {
    /// These are the layers, lowest first.
    fn found(&self, layers: &[DiffId]);
    /// The registry has a layer already.
    fn exists(&self, layer: DiffId);
    /// The registry has given the repository a layer that its repository `from` has.
    fn mounted(&self, layer: DiffId, from: &str);
    /// A layer of so many bytes is to be sent.
    fn sending(&self, layer: DiffId, size: u64);
    /// So many more bytes of a layer are sent.
    fn sent(&self, layer: DiffId, bytes: u64);
    /// A layer is sent.
    fn pushed(&self, layer: DiffId);
}

/// Nobody wants to know.
impl PushEvents for () {
    fn found(&self, _: &[DiffId]) {}
    fn exists(&self, _: DiffId) {}
    fn mounted(&self, _: DiffId, _: &str) {}
    fn sending(&self, _: DiffId, _: u64) {}
    fn sent(&self, _: DiffId, _: u64) {}
    fn pushed(&self, _: DiffId) {}
}

/// What was pushed.
#[derive(Clone, Copy, Debug)]
pub struct Pushed {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The bytes of its manifest.
    pub size: usize,
}

/// Pushes `image` to what `reference` names.
///
/// # Errors
/// `Denied`, `Corrupt` for a layer whose bytes are not what they were, `Io` for a registry that does not answer as it
/// should.
pub fn push(
    store: &Store,
    image: &Image,
    reference: &Reference,
    connection: &Connection,
    events: &dyn PushEvents,
) -> Result<Pushed> {
    let neighbours = neighbours(image, reference);
    let session = Session::open(reference, connection, Access::Push { neighbours: &neighbours })?;
    let layers = Catalog::new(store).layers(image)?;
    events.found(image.config.diff_ids());
    let came = kept::find(store, image.id)?;
    let is_first = came.is_none();
    let sender = Sender { session: &session, neighbours, events };
    let descriptors = sender.layers(store, &layers, came.as_ref())?;
    sender.config(image)?;
    let manifest = match came.filter(|came| has_layers(came, &descriptors)) {
        Some(came) => came,
        None => made(image, descriptors)?,
    };
    let digest = manifest.digest();
    let wanted = match (reference.tag(), reference.digest()) {
        (Some(tag), _) => tag.to_owned(),
        (None, Some(asked)) if asked != digest => {
            let what = format!("its manifest has digest {digest}; name it with a tag");
            return Err(Error::new(Kind::Invalid, what));
        }
        (None, _) => digest.to_string(),
    };
    session.put_manifest(&wanted, &manifest.media_type(), &manifest.bytes).act(|| "push the manifest")?;
    store.database().write("note the pushed digest", |tx| {
        if is_first {
            // The next push asks for these layers before it compresses them again.
            kept::keep(tx, image.id, &manifest)?;
        }
        digests::note(tx, reference, digest, image.id)
    })?;
    Ok(Pushed { digest, size: manifest.bytes.len() })
}

/// Other repositories of the same registry that may have the layers.
fn neighbours(image: &Image, reference: &Reference) -> Vec<String> {
    let others = image.references.iter().filter(|other| other.domain() == reference.domain());
    let paths: BTreeSet<&str> = others.map(Reference::path).filter(|path| *path != reference.path()).collect();
    paths.into_iter().map(str::to_owned).collect()
}

fn has_layers(manifest: &Manifest, descriptors: &[Descriptor]) -> bool {
    let theirs = manifest.parsed.layers();
    theirs.len() == descriptors.len() && theirs.iter().zip(descriptors).all(|(a, b)| a.digest() == b.digest())
}

fn made(image: &Image, layers: Vec<Descriptor>) -> Result<Manifest> {
    let size = crate::units::Bytes(image.config.bytes().len() as u64);
    let config = text::descriptor(MediaType::ImageConfig, size, image.id.0)?;
    Manifest::parse(text::json(&text::manifest(config, layers)?)?)
}

struct Sender<'a> {
    session: &'a Session,
    neighbours: Vec<String>,
    events: &'a dyn PushEvents,
}

/// A layer that is ready to go.
type Ready = (DiffId, InFile);

type InFile = Content<Verified<File>>;

impl Sender<'_> {
    /// Sends all layers; returns what they are in the manifest.
    fn layers(&self, store: &Store, layers: &[Layer], came: Option<&Manifest>) -> Result<Vec<Descriptor>> {
        let (give, take) = sync_channel::<Ready>(0);
        let failure = Mutex::new(None);
        // It goes with the last of those who take, and then nothing can be given.
        let take = Arc::new(Mutex::new(take));
        let descriptors = thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(layers.len()) {
                let (take, failure) = (Arc::clone(&take), &failure);
                scope.spawn(move || {
                    if let Err(error) = self.work(&take) {
                        // Noted first: what others fail with when they are stopped is not why.
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        self.session.stop();
                    }
                });
            }
            drop(take);
            let descriptors = self.prepare(store, layers, came, give);
            if descriptors.is_err() {
                self.session.stop();
            }
            descriptors
        });
        match (descriptors, failure.into_inner().unwrap_or_else(PoisonError::into_inner)) {
            (Err(error), first) if is_of_other(&error) => Err(first.unwrap_or(error)),
            (Ok(_), Some(first)) => Err(first),
            (descriptors, _) => descriptors,
        }
    }

    /// Gets one layer after another ready; ends early when nobody sends them any more.
    fn prepare(
        &self,
        store: &Store,
        layers: &[Layer],
        came: Option<&Manifest>,
        give: SyncSender<Ready>,
    ) -> Result<Vec<Descriptor>> {
        let mut seen: Vec<(DiffId, Descriptor)> = Vec::new();
        let mut descriptors = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            if let Some((_, descriptor)) = seen.iter().find(|(diff, _)| *diff == layer.diff_id) {
                descriptors.push(descriptor.clone());
                continue;
            }
            if let Some(there) = came.and_then(|came| came.parsed.layers().get(index))
                && self.is_there_as_it_came(store, layer, there)?
            {
                seen.push((layer.diff_id, there.clone()));
                descriptors.push(there.clone());
                continue;
            }
            let content = self.content(store, layer, index, came)?;
            let descriptor = text::descriptor(content.media_type.clone(), content.size, content.digest)?;
            seen.push((layer.diff_id, descriptor.clone()));
            descriptors.push(descriptor);
            if give.send((layer.diff_id, content)).is_err() {
                break;
            }
        }
        Ok(descriptors)
    }

    /// Whether the registry has the layer in the form that the image's manifest names, where here it is kept in another: it
    /// was here already, of another image, or was made here and pushed before. So the manifest stays what it is, and
    /// nothing is compressed again.
    fn is_there_as_it_came(&self, store: &Store, layer: &Layer, there: &Descriptor) -> Result<bool> {
        let digest: Digest = there.digest().to_string().parse()?;
        let is_kept = || Ok::<_, Error>(store.blob(&layer.info)?.is_some_and(|(blob, _)| blob.digest == digest));
        if digest == layer.diff_id.0 || is_kept()? {
            return Ok(false);
        }
        Ok(matches!(self.find(layer.diff_id, digest)?, Mounting::Done))
    }

    /// A layer as it came; one that came plain, and is so in the manifest that it came with, is sent plain.
    fn content(&self, store: &Store, layer: &Layer, index: usize, came: Option<&Manifest>) -> Result<InFile> {
        let go_on = || self.session.check();
        go_on()?;
        let there = came.and_then(|came| came.parsed.layers().get(index));
        let is_plain = there.is_some_and(|there| there.digest().to_string() == layer.diff_id.to_string());
        let content = match is_plain {
            true => plain_in_file(store, layer, &go_on),
            false => compressed(store, layer, &go_on),
        };
        content.act(|| format!("layer {}", layer.diff_id))
    }

    fn work(&self, ready: &Mutex<Receiver<Ready>>) -> Result<()> {
        loop {
            let next = ready.lock().unwrap_or_else(PoisonError::into_inner).recv();
            // Nobody gives any more.
            let Ok((diff, content)) = next else { return Ok(()) };
            self.layer(diff, content).act(|| format!("push layer {diff}"))?;
        }
    }

    /// Whether the repository has it, or has it now from a neighbour.
    fn find(&self, diff: DiffId, digest: Digest) -> Result<Mounting> {
        if self.session.has_blob(digest)? {
            self.events.exists(diff);
            return Ok(Mounting::Done);
        }
        let mut place = None;
        for from in &self.neighbours {
            match self.session.mount_blob(digest, from)? {
                Mounting::Done => {
                    self.events.mounted(diff, from);
                    return Ok(Mounting::Done);
                }
                Mounting::Refused(begun) => place = begun.or(place),
            }
        }
        Ok(Mounting::Refused(place))
    }

    fn layer(&self, diff: DiffId, content: InFile) -> Result<()> {
        let Mounting::Refused(mut place) = self.find(diff, content.digest)? else { return Ok(()) };
        let Content { digest, size, mut bytes, .. } = content;
        self.session.persist(|| {
            self.events.sending(diff, size.0);
            bytes.rewind().map_err(|error| Failure::last(read_error(error, "read the layer again")))?;
            self.session.upload((digest, size.0), place.take(), || {
                let part = part(&mut bytes)?;
                self.events.sent(diff, part.as_ref().map_or(0, Vec::len) as u64);
                Ok(part)
            })
        })?;
        self.events.pushed(diff);
        Ok(())
    }

    fn config(&self, image: &Image) -> Result<()> {
        let send = || -> Result<()> {
            if self.session.has_blob(image.id.0)? {
                return Ok(());
            }
            let bytes = image.config.bytes();
            self.session.persist(|| {
                let mut rest = Some(bytes.to_vec());
                self.session.upload((image.id.0, bytes.len() as u64), None, || Ok(rest.take()))
            })
        };
        send().act(|| "push the configuration")
    }
}

fn part(bytes: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
    let mut part = Vec::with_capacity(PART);
    bytes.take(PART as u64).read_to_end(&mut part)?;
    Ok((!part.is_empty()).then_some(part))
}
