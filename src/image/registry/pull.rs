//! An image from a registry.
//!
//! Some threads download layers, the lowest first, while this one unpacks them, each behind the last byte of its own
//! download: unpacking waits for the network or the network for unpacking, and nothing for both.
//!
//! Invariant: as for every image, nothing is published before all of it is there. On any failure the snapshots go; what
//! was downloaded stays for the next try, unless its digest was wrong. After a signal, or death, finished layers stay, too.

use std::{
    collections::HashMap,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    AT_ONCE, Connection, Platform,
    download::{Downloading, Wanted},
    kept,
    login::Access,
    manifest,
    manifest::RemoteImage,
    session::Session,
    transfer::{Board, Following},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::{ChainId, DiffId, Digest, ImageId},
    image::{
        catalog::{Catalog, Image},
        compression, digests,
        import::{fill, fill_tree, together},
        read_error,
        reference::Reference,
        unpack::Unpacked,
    },
    store::{Blob, BlobFormat, Held, Key, Store},
};

/// What happens while an image is pulled. Layers are known by their digest at the registry. Called by several threads.
pub trait PullEvents: Sync {
    /// The image is found; these are its layers, lowest first, and how many bytes they have.
    fn found(&self, layers: &[(Digest, u64)]);
    /// A layer is here already.
    fn exists(&self, layer: Digest);
    /// So many bytes of a layer are here, those from before included.
    fn downloaded(&self, layer: Digest, bytes: u64);
    /// So many more bytes of a layer are unpacked.
    fn unpacked(&self, layer: Digest, bytes: u64);
    /// A layer is done.
    fn complete(&self, layer: Digest);
}

/// Nobody wants to know.
impl PullEvents for () {
    fn found(&self, _: &[(Digest, u64)]) {}
    fn exists(&self, _: Digest) {}
    fn downloaded(&self, _: Digest, _: u64) {}
    fn unpacked(&self, _: Digest, _: u64) {}
    fn complete(&self, _: Digest) {}
}

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest of what the reference leads to at the registry: a manifest, or a list of them.
    pub digest: Digest,
    /// Whether the reference named another image before, or none.
    pub is_new: bool,
}

/// Pulls what `reference` names, for `platform` or for this machine.
///
/// # Errors
/// `NotFound`, `Denied`, `Corrupt` for content with another digest, `Io` for a registry that does not answer as it should,
/// and those of unpacking. Nothing is published then.
pub fn pull(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
    connection: &Connection,
    events: &dyn PullEvents,
) -> Result<Pulled> {
    let session = Session::open(reference, connection, Access::Pull)?;
    let remote = manifest::find(&session, reference, platform)?;
    let layers = Layer::all(&remote)?;
    events.found(&layers.iter().map(|layer| (layer.blob, layer.size)).collect::<Vec<_>>());
    let catalog = Catalog::new(store);
    let (here, first) = begin(store, &catalog, &layers)?;
    for layer in &layers[..here] {
        // A pull that died just after it had unpacked the layer left it.
        store.forget_download(layer.blob)?;
        events.exists(layer.blob);
    }
    let puller = Puller::new(store, &session, layers[here..].to_vec(), events);
    let held = puller.run(first)?;
    let before = catalog.find(&reference.canonical()).ok().map(|image| image.id);
    let image = publish(&catalog, &remote, reference)?;
    drop(held);
    puller.forget();
    Ok(Pulled { is_new: before != Some(image.id), image, digest: remote.digest })
}

/// How many of the layers are here, and the snapshot for the first one that is not: it keeps those below it.
fn begin<'a>(store: &'a Store, catalog: &Catalog<'_>, layers: &[Layer]) -> Result<(usize, Option<Held<'a>>)> {
    loop {
        let mut here = 0;
        while here < layers.len() && catalog.has_layer(layers[here].chain)? {
            here += 1;
        }
        let Some(first) = layers.get(here) else { return Ok((here, None)) };
        match store.draft(first.parent.map(Key::layer).as_ref()) {
            Ok(held) => return Ok((here, Some(held))),
            // Another command has removed the layer below since we looked.
            Err(error) if error.kind() == Kind::NotFound && here > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn publish(catalog: &Catalog<'_>, remote: &RemoteImage, reference: &Reference) -> Result<Image> {
    let id: ImageId = remote.config.id();
    catalog.publish_with(&remote.config, Some(reference), |tx| {
        kept::keep(tx, id, &remote.manifest)?;
        digests::note(tx, reference, remote.digest, id)
    })
}

/// One layer of the image.
#[derive(Clone, Copy, Debug)]
struct Layer {
    blob: Digest,
    size: u64,
    diff: DiffId,
    chain: ChainId,
    parent: Option<ChainId>,
}

impl Layer {
    fn all(remote: &RemoteImage) -> Result<Vec<Self>> {
        let diffs = remote.config.diff_ids();
        let blobs = remote.manifest.blobs()?.layers;
        let mut parent = None;
        let layers = ChainId::chain(diffs).into_iter().zip(diffs).zip(blobs);
        Ok(layers
            .map(|((chain, diff), (blob, size))| Self { blob, size, diff: *diff, chain, parent: parent.replace(chain) })
            .collect())
    }
}

struct Puller<'a> {
    store: &'a Store,
    session: &'a Session,
    layers: Vec<Layer>,
    /// What is to be downloaded: each blob once, however many layers it is.
    wanted: Vec<Wanted>,
    /// Where in `wanted` a blob is.
    places: HashMap<Digest, usize>,
    board: Board,
    events: &'a dyn PullEvents,
}

impl<'a> Puller<'a> {
    fn new(store: &'a Store, session: &'a Session, layers: Vec<Layer>, events: &'a dyn PullEvents) -> Self {
        let (mut wanted, mut places) = (Vec::new(), HashMap::new());
        for layer in &layers {
            if let std::collections::hash_map::Entry::Vacant(place) = places.entry(layer.blob) {
                place.insert(wanted.len());
                wanted.push(Wanted::new(layer.blob, layer.size));
            }
        }
        let board = Board::new(wanted.len());
        Self { store, session, layers, wanted, places, board, events }
    }

    /// Downloads and unpacks all layers, the first one into a snapshot that is there already.
    fn run(&self, mut first: Option<Held<'a>>) -> Result<Vec<Held<'a>>> {
        let next = AtomicUsize::new(0);
        // The store is for one thread; what the others need is not.
        let place = self.store.download_place();
        let downloading = Downloading { session: self.session, place, board: &self.board };
        let others = Others { downloading, wanted: &self.wanted, events: self.events };
        let unpacked = thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(self.wanted.len()) {
                scope.spawn(|| others.run(&next));
            }
            let unpacked = together(self.layers.iter().map(|layer| self.layer(layer, first.take())));
            if unpacked.is_err() {
                self.session.stop();
            }
            unpacked
        });
        // A failed download ends the unpacking too, and tells more.
        unpacked.map_err(|error| self.board.failure().filter(|first| !is_of_other(first)).unwrap_or(error))
    }

    fn layer(&self, layer: &Layer, begun: Option<Held<'a>>) -> Result<Held<'a>> {
        let act = || format!("layer {}", layer.blob);
        let held = match begun {
            Some(held) => held,
            None => self.store.draft(layer.parent.map(Key::layer).as_ref())?,
        };
        let (unpacked, blob) = self.fill(&held, layer).map_err(|error| self.explain(error, layer)).act(act)?;
        unpacked.verify(Some(layer.diff)).act(act)?;
        Catalog::new(self.store).name_waiting_layer(&held, layer.chain, unpacked.size, &blob)?;
        self.events.complete(layer.blob);
        Ok(held)
    }

    fn fill(&self, held: &Held<'_>, layer: &Layer) -> Result<(Unpacked, Blob)> {
        let place = self.places[&layer.blob];
        self.board.begun(place);
        let nothing = || Error::new(Kind::Io, "the download has failed");
        let download = self.wanted[place].file.get().ok_or_else(nothing)?;
        let file = || download.file().try_clone().act(|| "open the download");
        let (compression, _) = compression::recognise(self.board.follow(place, file()?))?;
        let mut stored = Told { inner: self.board.follow(place, file()?), layer: layer.blob, events: self.events };
        let format = compression.kept_as();
        if format == BlobFormat::Plain {
            return fill(self.store, held, stored);
        }
        let unpacked = fill_tree(self.store, held, compression::decode(compression, &mut stored)?, None)?;
        // A decoder may stop before the end; only there it is known whether the digest is right.
        io::copy(&mut stored, &mut io::sink()).map_err(|error| read_error(error, "read the archive to its end"))?;
        held.adopt(download)?;
        let size = crate::units::Bytes(layer.size);
        Ok((unpacked, Blob { format, digest: layer.blob, size, plain: unpacked.length }))
    }

    /// What cannot be unpacked is mostly not what was asked for; its digest tells, once all of it is here.
    fn explain(&self, error: Error, layer: &Layer) -> Error {
        if matches!(error.kind(), Kind::Corrupt | Kind::Invalid) {
            self.board.settled(self.places[&layer.blob]);
        }
        error
    }

    /// The image is there: what was downloaded for it is needed no longer.
    fn forget(&self) {
        for file in self.wanted.iter().filter_map(|wanted| wanted.file.get()) {
            if let Err(error) = file.forget() {
                tracing::warn!("{error}; 'lamina image prune' removes it");
            }
        }
    }
}

/// The threads that download.
struct Others<'a> {
    downloading: Downloading<'a>,
    wanted: &'a [Wanted],
    events: &'a dyn PullEvents,
}

impl Others<'_> {
    fn run(&self, next: &AtomicUsize) {
        let (session, board) = (self.downloading.session, self.downloading.board);
        let _alarm = Alarm(board);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(wanted) = self.wanted.get(index) else { return };
            let told = |bytes| self.events.downloaded(wanted.digest, bytes);
            if let Err(error) = self.downloading.download(wanted, index, &told) {
                board.fail(error.within(format!("layer {}", wanted.digest)));
                session.stop();
                return;
            }
        }
    }
}

/// Lets nobody wait for a thread that has panicked.
struct Alarm<'a>(&'a Board);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(Error::new(Kind::Io, "the downloading thread panicked"));
        }
    }
}

/// Whether a thread only stopped because something else did, and not the user.
pub(super) fn is_of_other(error: &Error) -> bool {
    error.kind() == Kind::Interrupted && !crate::interrupt::asked()
}

/// A reader that tells how much of a layer was unpacked.
struct Told<'a> {
    inner: Following<'a>,
    layer: Digest,
    events: &'a dyn PullEvents,
}

impl io::Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.events.unpacked(self.layer, count as u64);
        Ok(count)
    }
}
