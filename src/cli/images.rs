//! `lamina images`.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Global,
    filter::{Condition, Filter},
    human, output,
};
use crate::{
    Kind,
    build::pattern::Pattern,
    id::{CacheId, ChainId, DiffId, Digest, ImageId},
    image::{
        catalog::{Catalog, Image, Sharing},
        digests,
        reference::Reference,
    },
    store::{Blob, Store},
    units::Bytes,
};

#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// Show the images of single build steps too
    #[arg(short, long)]
    all: bool,
    /// Show the digests of the references that have one
    #[arg(long)]
    digests: bool,
    /// Show only those for which this holds: dangling=true|false, reference=PATTERN, label=KEY[=VALUE]
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Condition>,
    /// Do not shorten IDs
    #[arg(long)]
    no_trunc: bool,
    /// Print only IDs
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show only names in this repository, or this one; *, ? and [...] stand for parts of a name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// One line: an image under one of its names.
#[derive(Serialize)]
struct Row {
    id: ImageId,
    repository: String,
    tag: String,
    digest: Option<Digest>,
    size_bytes: Bytes,
    own_bytes: Bytes,
    created: Option<String>,
    layers: Vec<LayerRow>,
}

/// One layer of an image.
#[derive(Clone, Serialize)]
pub(super) struct LayerRow {
    diff_id: DiffId,
    chain_id: ChainId,
    cache_id: CacheId,
    size_bytes: Bytes,
    /// The archive that it came from; `null` for one that was made here.
    archive: Option<Blob>,
}

pub(super) fn layer_rows(catalog: &Catalog<'_>, image: &Image) -> Result<Vec<LayerRow>> {
    let layers = catalog.layers(image)?.into_iter().map(|layer| LayerRow {
        diff_id: layer.diff_id,
        chain_id: layer.chain_id,
        cache_id: layer.info.cache_id,
        size_bytes: layer.info.size.unwrap_or_default(),
        archive: layer.info.blob,
    });
    Ok(layers.collect())
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = global.store_if_any()?;
        if self.quiet {
            return self.ids(store.as_ref());
        }
        let rows = store.as_ref().map(|store| self.rows(store)).transpose()?.unwrap_or_default();
        if self.json { output::json(&rows) } else { self.table(rows) }
    }

    /// One for each name, as Docker has it; sizes, which cost more, are not asked for.
    fn ids(&self, store: Option<&Store>) -> Result<()> {
        let Some(store) = store else { return Ok(()) };
        for image in self.listed(&Catalog::new(store))? {
            for _ in 0..image.references.len().max(1) {
                output::line(self.id(image.id))?;
            }
        }
        Ok(())
    }

    fn rows(&self, store: &Store) -> Result<Vec<Row>> {
        let catalog = Catalog::new(store);
        let sharing = catalog.sharing()?;
        let mut rows = Vec::new();
        for image in self.listed(&catalog)? {
            match rows_of(store, &image, &sharing) {
                Ok(found) => rows.extend(found),
                // Another command removed it while this one listed.
                Err(error) => match catalog.find(&image.id.to_string()) {
                    Err(gone) if gone.kind() == Kind::NotFound => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(rows)
    }

    fn listed(&self, catalog: &Catalog<'_>) -> Result<Vec<Image>> {
        let all = if self.all { catalog.list()? } else { catalog.list_results()? };
        self.chosen(all)
    }

    /// Those that were asked for, each with the names that were.
    fn chosen(&self, mut images: Vec<Image>) -> Result<Vec<Image>> {
        let filter = Filter::new(&self.filter, &["dangling", "reference", "label"])?;
        let dangling = filter.truth("dangling")?;
        let patterns = filter.values("reference").iter().copied().chain(self.repository.as_deref());
        let patterns: Vec<Pattern> =
            patterns.map(|text| Pattern::parse(text.as_bytes())).collect::<crate::Result<_>>()?;
        // As Docker: the name as it is shown, with its tag or without.
        let fits = |name: &Reference| {
            let texts = [name.to_string(), name.familiar_name()];
            patterns.iter().any(|pattern| texts.iter().any(|text| pattern.matches(text.as_bytes())))
        };
        images.retain(|image| dangling.is_none_or(|dangling| dangling == image.references.is_empty()));
        if !patterns.is_empty() {
            images.iter_mut().for_each(|image| image.references.retain(fits));
            images.retain(|image| !image.references.is_empty());
        }
        let mut chosen = Vec::new();
        for image in images {
            if filter.labels(&image.config.labels()?) {
                chosen.push(image);
            }
        }
        Ok(chosen)
    }

    fn id(&self, id: ImageId) -> String {
        if self.no_trunc { id.to_string() } else { id.0.short() }
    }

    fn table(&self, rows: Vec<Row>) -> Result<()> {
        let now = Timestamp::now();
        let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "OWN BLOCKS"];
        if self.digests {
            header.insert(2, "DIGEST");
        }
        let cells = |row: Row| {
            let created = human::ago(row.created.as_deref(), now);
            let (size, own) = (row.size_bytes.docker(), row.own_bytes.docker());
            let mut cells = vec![row.repository, row.tag, self.id(row.id), created, size, own];
            if self.digests {
                cells.insert(2, row.digest.map_or_else(|| "<none>".to_owned(), |digest| digest.to_string()));
            }
            cells
        };
        output::table(&header, rows.into_iter().map(cells))
    }
}

fn rows_of(store: &Store, image: &Image, sharing: &Sharing) -> Result<Vec<Row>> {
    let none = || "<none>".to_owned();
    let catalog = &Catalog::new(store);
    let (layers, own) = (layer_rows(catalog, image)?, catalog.own(image, sharing)?);
    let digests = digests::of(store, image)?;
    // One that was pulled or pushed has one in that repository.
    let digest = |name: &Reference| {
        name.digest().or_else(|| digests.iter().find(|known| known.name() == name.name()).and_then(Reference::digest))
    };
    let row = |name: Option<&Reference>| Row {
        id: image.id,
        repository: name.map_or_else(none, Reference::familiar_name),
        tag: name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        digest: name.and_then(digest),
        size_bytes: layers.iter().map(|layer| layer.size_bytes).sum(),
        own_bytes: own,
        created: image.config.created().map(str::to_owned),
        layers: layers.clone(),
    };
    match image.references.as_slice() {
        [] => Ok(vec![row(None)]),
        names => Ok(names.iter().map(|name| row(Some(name))).collect()),
    }
}
