//! `lamina images`.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::{Global, human, output};
use crate::{
    id::{CacheId, ChainId, DiffId, ImageId},
    image::catalog::{Catalog, Image},
    units::Bytes,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line: an image under one of its names.
#[derive(Serialize)]
struct Row {
    id: ImageId,
    repository: String,
    tag: String,
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
}

pub(super) fn layer_rows(catalog: &Catalog<'_>, image: &Image) -> Result<Vec<LayerRow>> {
    let layers = catalog.layers(image)?.into_iter().map(|layer| LayerRow {
        diff_id: layer.diff_id,
        chain_id: layer.chain_id,
        cache_id: layer.info.cache_id,
        size_bytes: layer.info.size.unwrap_or_default(),
    });
    Ok(layers.collect())
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let mut rows = Vec::new();
        if let Some(store) = global.store_if_any()? {
            let catalog = Catalog::new(&store);
            for image in catalog.list()? {
                match rows_of(&catalog, &image) {
                    Ok(found) => rows.extend(found),
                    // Another command removed it while this one listed.
                    Err(_) if catalog.find(&image.id.to_string()).is_err() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if self.json {
            return output::json(&rows);
        }
        let now = Timestamp::now();
        output::table(
            &["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "OWN BLOCKS"],
            rows.into_iter().map(|row| {
                vec![
                    row.repository,
                    row.tag,
                    row.id.0.short(),
                    human::ago(row.created.as_deref(), now),
                    row.size_bytes.docker(),
                    row.own_bytes.docker(),
                ]
            }),
        )
    }
}

fn rows_of(catalog: &Catalog<'_>, image: &Image) -> Result<Vec<Row>> {
    let row = |repository: String, tag: String| -> Result<Row> {
        Ok(Row {
            id: image.id,
            repository,
            tag,
            size_bytes: catalog.size(image)?,
            own_bytes: catalog.own(image)?,
            created: image.config.created().map(str::to_owned),
            layers: layer_rows(catalog, image)?,
        })
    };
    if image.references.is_empty() {
        return Ok(vec![row("<none>".to_owned(), "<none>".to_owned())?]);
    }
    image.references.iter().map(|name| row(name.familiar_name(), name.tag().unwrap_or("<none>").to_owned())).collect()
}
