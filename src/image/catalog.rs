//! The images of one store: configurations, the layers they need, the references that name them.
//!
//! Invariant: a published image has all its layers, and a layer is kept exactly as long as an image or another snapshot
//! needs it. Both hold at every instant, because images and the keeping of layers change in one transaction.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};

use super::{config::Config, digests, reference::Reference};
use crate::{
    crash,
    error::{Error, Kind, Result},
    id::{ChainId, DiffId, ImageId, VolumeId},
    store::{Blob, Held, Info, Key, Sql as _, Store, waiting},
    units::Bytes,
};

/// The images of a store.
#[derive(Clone, Copy, Debug)]
pub struct Catalog<'store> {
    pub(super) store: &'store Store,
}

/// A published image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The sha256 of the configuration's bytes.
    pub id: ImageId,
    /// The configuration.
    pub config: Config,
    /// What names it, in order of the alphabet.
    pub references: Vec<Reference>,
}

/// One layer of an image, as it lies in the store.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The identity of its stack.
    pub chain_id: ChainId,
    /// The snapshot.
    pub info: Info,
}

/// How many images have each layer; those between the steps of a build do not count.
#[derive(Clone, Debug)]
pub struct Sharing {
    images: BTreeSet<ImageId>,
    users: BTreeMap<ChainId, usize>,
}

impl Sharing {
    /// Whether an image other than this one has the layer.
    fn is_shared(&self, image: &Image, layer: ChainId) -> bool {
        let itself = usize::from(self.images.contains(&image.id));
        self.users.get(&layer).is_some_and(|users| *users > itself)
    }
}

impl Image {
    /// The key of its uppermost layer's snapshot.
    pub fn top(&self) -> Option<Key> {
        ChainId::chain(self.config.diff_ids()).last().map(|chain| Key::layer(*chain))
    }
}

impl<'store> Catalog<'store> {
    /// The images of `store`.
    pub fn new(store: &'store Store) -> Self {
        Self { store }
    }

    /// Whether the store has the layer `chain`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn has_layer(&self, chain: ChainId) -> Result<bool> {
        match self.store.stat(&Key::layer(chain)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Names a held snapshot, which came from the archive `blob` if from one, the layer `chain`, unless the store has that
    /// layer already or another command is faster; then the held one is superfluous, and goes when it is dropped. Tells
    /// whether it is the layer.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn name_layer(&self, held: &Held<'_>, chain: ChainId, size: Bytes, blob: Option<&Blob>) -> Result<bool> {
        if self.has_layer(chain)? {
            return Ok(false);
        }
        unless_there(held.commit(&Key::layer(chain), size, blob))
    }

    /// [`Catalog::name_layer`] of a layer of an image with more to come: if this process dies, it waits for whoever makes
    /// the image next.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn name_waiting_layer(&self, held: &Held<'_>, chain: ChainId, size: Bytes, blob: &Blob) -> Result<()> {
        if self.has_layer(chain)? {
            return Ok(());
        }
        unless_there(held.commit_waiting(&Key::layer(chain), size, Some(blob))).map(drop)
    }

    /// Publishes the image whose configuration is `config`; its layers must be there. `reference` names it from now on
    /// and no longer what it named before.
    ///
    /// # Errors
    /// `NotFound` if a layer is missing: another command removed it meanwhile. `Invalid` for a reference with a digest.
    pub fn publish(&self, config: &Config, reference: Option<&Reference>) -> Result<Image> {
        reference.map_or(Ok(()), Reference::require_free)?;
        self.publish_with(config, reference, |_| Ok(()))
    }

    /// [`Catalog::publish`], with what `also` writes in the same transaction.
    ///
    /// # Errors
    /// As [`Catalog::publish`], or those of `also`; then nothing is published.
    pub(crate) fn publish_with(
        &self,
        config: &Config,
        reference: Option<&Reference>,
        also: impl FnOnce(&Transaction<'_>) -> Result<()>,
    ) -> Result<Image> {
        let id = config.id();
        let chain = ChainId::chain(config.diff_ids());
        self.store.database().write(&format!("publish image {id}"), |tx| {
            let mut top = None;
            for layer in &chain {
                top = Some(keep_layer(tx, *layer)?);
            }
            tx.execute(
                "INSERT OR IGNORE INTO images (id, config, top) VALUES (:id, :config, :top)",
                named_params! {":id": id.to_string(), ":config": config.bytes(), ":top": top.map(VolumeId::get)},
            )
            .sql()?;
            if let Some(reference) = reference {
                tag(tx, reference, id)?;
            }
            also(tx)
        })?;
        crash::point(crash::Point::ImagePublished);
        self.by_id(id)
    }

    /// Calls `image` `reference` from now on, and no longer what that named before.
    ///
    /// # Errors
    /// `Invalid` for a reference with a digest, which a registry gives and nobody else; `NotFound` if the image went.
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<()> {
        reference.require_free()?;
        self.store
            .database()
            .write(&format!("tag image {} as {reference}", image.id), |tx| tag(tx, reference, image.id))
    }

    /// The image that `name` names: a reference, an ID, or the beginning of an ID.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if a beginning fits several images.
    pub fn find(&self, name: &str) -> Result<Image> {
        self.find_with(name, 1)
    }

    /// As [`Catalog::find`], but the beginning of an ID has at least the 12 digits that listings print: a shorter one is a
    /// word to whoever writes a file, and what it leads to would depend on what else is here.
    ///
    /// # Errors
    /// As [`Catalog::find`].
    pub fn find_spelled_out(&self, name: &str) -> Result<Image> {
        self.find_with(name, 12)
    }

    fn find_with(&self, name: &str, shortest: usize) -> Result<Image> {
        // A full ID is always the ID, whatever somebody has called an image.
        if let Ok(id) = name.parse::<ImageId>()
            && let Ok(image) = self.by_id(id)
        {
            return Ok(image);
        }
        let by_reference = match name.parse::<Reference>() {
            Ok(reference) => self.id_of(&reference)?,
            // Not a reference, so it can only be an ID.
            Err(_) => None,
        };
        if let Some(id) = by_reference {
            return self.by_id(id);
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let hexadecimal =
            prefix.len() >= shortest && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let ids = if hexadecimal { self.ids_starting(prefix)? } else { Vec::new() };
        match ids.as_slice() {
            [id] => self.by_id(*id),
            [] => Err(Error::new(Kind::NotFound, format!("no such image: {name}"))),
            several => Err(Error::new(
                Kind::Invalid,
                format!("image ID {name} is the beginning of {} images; write more of it", several.len()),
            )),
        }
    }

    pub(super) fn id_of(&self, reference: &Reference) -> Result<Option<ImageId>> {
        let found = self.store.database().read("look up a reference", |tx| {
            let question = "SELECT image FROM tags WHERE reference = :r";
            let named = tx
                .query_row(question, named_params! {":r": reference.canonical()}, |row| row.get(0))
                .optional()
                .sql()?;
            named.map_or_else(|| digests::find(tx, reference), |named: String| Ok(Some(named)))
        })?;
        found.map(|id| id.parse()).transpose()
    }

    fn ids_starting(&self, prefix: &str) -> Result<Vec<ImageId>> {
        let ids = self.store.database().read("look up an image", |tx| {
            let mut statement = tx.prepare("SELECT id FROM images WHERE id GLOB :pattern").sql()?;
            let pattern = format!("sha256:{prefix}*");
            let ids = statement.query_map(named_params! {":pattern": pattern}, |row| row.get::<_, String>(0)).sql()?;
            ids.collect::<rusqlite::Result<Vec<_>>>().sql()
        })?;
        ids.iter().map(|id| id.parse()).collect()
    }

    fn by_id(&self, id: ImageId) -> Result<Image> {
        let mut found = self.query("WHERE i.id = :id", named_params! {":id": id.to_string()})?;
        found.pop().ok_or_else(|| Error::new(Kind::NotFound, format!("no such image: {id}")))
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self) -> Result<Vec<Image>> {
        let mut images = self.query("", &[])?;
        let created = |image: &Image| image.config.created().and_then(|created| created.parse::<Timestamp>().ok());
        images.sort_by_key(|image| Reverse(created(image)));
        Ok(images)
    }

    /// The images that only hold the place of a step between others: without a name, and a build went on from them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn intermediates(&self) -> Result<BTreeSet<ImageId>> {
        let ids = self.store.database().read("list images between steps", |tx| {
            let question = "SELECT id FROM images WHERE NOT EXISTS (SELECT 1 FROM tags WHERE image = id)
                            AND EXISTS (SELECT 1 FROM steps WHERE parent = id)";
            let mut statement = tx.prepare(question).sql()?;
            let ids = statement.query_map([], |row| row.get::<_, String>(0)).sql()?;
            ids.collect::<rusqlite::Result<Vec<_>>>().sql()
        })?;
        ids.iter().map(|id| id.parse()).collect()
    }

    /// All images but those between steps, the newest first.
    ///
    /// # Errors
    /// As [`Catalog::list`].
    pub fn list_results(&self) -> Result<Vec<Image>> {
        let between = self.intermediates()?;
        Ok(self.list()?.into_iter().filter(|image| !between.contains(&image.id)).collect())
    }

    fn query(&self, condition: &str, parameters: &[(&str, &dyn rusqlite::ToSql)]) -> Result<Vec<Image>> {
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let rows: Vec<(String, Vec<u8>, Option<String>)> = self.store.database().read("look up images", |tx| {
            let mut statement = tx
                .prepare(&format!(
                    "SELECT i.id, i.config, (SELECT group_concat(reference, ' ' ORDER BY reference) FROM tags WHERE image = i.id)
                     FROM images i {condition}"
                ))
                .sql()?;
            statement.query_map(parameters, row).sql()?.collect::<rusqlite::Result<_>>().sql()
        })?;
        rows.into_iter()
            .map(|(id, config, references)| {
                let references = references.unwrap_or_default();
                Ok(Image {
                    id: id.parse()?,
                    config: Config::parse(config)?,
                    references: references.split_whitespace().map(str::parse).collect::<Result<_>>()?,
                })
            })
            .collect()
    }

    /// The layers of an image, the lowest first.
    ///
    /// # Errors
    /// `NotFound` if one is missing.
    pub fn layers(&self, image: &Image) -> Result<Vec<Layer>> {
        let diffs = image.config.diff_ids();
        ChainId::chain(diffs)
            .into_iter()
            .zip(diffs)
            .map(|(chain_id, diff_id)| {
                Ok(Layer { diff_id: *diff_id, chain_id, info: self.store.stat(&Key::layer(chain_id))? })
            })
            .collect()
    }

    /// The layers of those of these images that are still there, each once however many have it.
    ///
    /// # Errors
    /// As [`Catalog::layers`].
    pub fn layers_of(&self, images: &[Image]) -> Result<BTreeMap<ChainId, Layer>> {
        let mut found = BTreeMap::new();
        for image in images {
            match self.layers(image) {
                Ok(layers) => found.extend(layers.into_iter().map(|layer| (layer.chain_id, layer))),
                // Another command removed it since it was listed.
                Err(error) if error.kind() == Kind::NotFound => match self.by_id(image.id) {
                    Ok(_) => return Err(error),
                    Err(gone) if gone.kind() == Kind::NotFound => {}
                    Err(unasked) => return Err(unasked),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Docker's size of an image: apparent bytes of the files of all its layers.
    ///
    /// # Errors
    /// As [`Catalog::layers`].
    pub fn size(&self, image: &Image) -> Result<Bytes> {
        Ok(self.layers(image)?.iter().filter_map(|layer| layer.info.size).sum())
    }

    /// Bytes in the pool that only this image needs: those of the layers that no other image has.
    ///
    /// # Errors
    /// As [`Catalog::layers`], or the driver's.
    pub fn own(&self, image: &Image, sharing: &Sharing) -> Result<Bytes> {
        let chains = ChainId::chain(image.config.diff_ids()).into_iter();
        chains
            .filter(|chain| !sharing.is_shared(image, *chain))
            .try_fold(Bytes(0), |own, chain| Ok(own + self.store.usage(&Key::layer(chain))?.exclusive))
    }

    /// Which layers several images have.
    ///
    /// # Errors
    /// As [`Catalog::list`].
    pub fn sharing(&self) -> Result<Sharing> {
        let images = self.list_results()?;
        let mut users = BTreeMap::new();
        for chain in images.iter().flat_map(|image| ChainId::chain(image.config.diff_ids())) {
            *users.entry(chain).or_insert(0) += 1;
        }
        Ok(Sharing { images: images.into_iter().map(|image| image.id).collect(), users })
    }
}

/// Whether it was committed, or another command was faster with the same layer.
fn unless_there(committed: Result<()>) -> Result<bool> {
    match committed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == Kind::Exists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps a layer for an image, whoever made it; returns its volume.
fn keep_layer(tx: &Transaction<'_>, chain: ChainId) -> Result<VolumeId> {
    let volume = tx
        .query_row(
            "UPDATE snapshots SET kept = 1 WHERE key = :key AND kind = 'committed' AND state = 'ready' RETURNING volume",
            named_params! {":key": chain.to_string()},
            |row| row.get::<_, u64>(0),
        )
        .optional()
        .sql()?;
    let missing =
        || Error::new(Kind::NotFound, format!("layer {chain} was removed by another command meanwhile; try again"));
    let volume = VolumeId::new(volume.ok_or_else(missing)?)?;
    waiting::end(tx, volume)?;
    Ok(volume)
}

fn tag(tx: &Transaction<'_>, reference: &Reference, id: ImageId) -> Result<()> {
    tx.execute(
        "INSERT INTO tags (reference, image) VALUES (:r, :id) ON CONFLICT (reference) DO UPDATE SET image = :id",
        named_params! {":r": reference.canonical(), ":id": id.to_string()},
    )
    .sql()
    .map(drop)
}
