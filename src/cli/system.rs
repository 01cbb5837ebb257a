//! `lamina system df`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use super::{Global, images, output, pool, ps};
use crate::{
    container::Containers,
    error::Kind,
    id::{ChainId, ImageId},
    image::catalog::{Catalog, Image, Layer},
    store::Store,
    units::Bytes,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the space that images and containers take; with -v, each of them too
    Df(DfArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct DfArgs {
    /// Show each image and each container, too
    #[arg(short = 'v')]
    each: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line of the table. Sizes count as Docker does, by the files' apparent bytes; the last two say what is taken.
#[derive(Serialize)]
struct Row {
    r#type: &'static str,
    total: usize,
    /// Images that a container was made from; containers that run or are mounted.
    active: usize,
    /// `None` where a container's could not be found out, as on a full pool.
    size_bytes: Option<Bytes>,
    /// Of what is not active.
    reclaimable_bytes: Option<Bytes>,
    /// In the pool.
    own_bytes: Bytes,
    /// Of the archives that layers came from.
    archive_bytes: Bytes,
}

impl Verb {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Df(args) => args.run(global),
        }
    }
}

impl DfArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let rows = [image_row(&store)?, container_row(&store)?];
        if self.json {
            return output::json(&rows);
        }
        let header = ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE", "OWN BLOCKS", "ARCHIVES"];
        output::table(&header, rows.into_iter().map(cells))?;
        if self.each {
            output::line("\nImages:\n")?;
            images::Args::default().run(global)?;
            output::line("\nContainers:\n")?;
            ps::Args::everything().run(global)?;
        }
        Ok(())
    }
}

fn cells(row: Row) -> Vec<String> {
    let shown = |size: Option<Bytes>| size.map_or_else(|| "?".to_owned(), Bytes::docker);
    let percent = row.reclaimable_bytes.zip(row.size_bytes);
    let percent = percent.and_then(|(part, whole)| (u128::from(part.0) * 100).checked_div(whole.0.into()));
    let percent = percent.map(|percent| format!(" ({percent}%)")).unwrap_or_default();
    vec![
        row.r#type.to_owned(),
        row.total.to_string(),
        row.active.to_string(),
        shown(row.size_bytes),
        shown(row.reclaimable_bytes) + &percent,
        row.own_bytes.docker(),
        row.archive_bytes.docker(),
    ]
}

/// Each layer counts once, however many images have it.
fn image_row(store: &Store) -> Result<Row> {
    let catalog = Catalog::new(store);
    let images = catalog.list_results()?;
    let used: Vec<ImageId> = Containers::new(store).list()?.into_iter().map(|container| container.image).collect();
    let (active, idle): (Vec<Image>, Vec<Image>) = images.into_iter().partition(|image| used.contains(&image.id));
    let needed = catalog.layers_of(&active)?;
    let mut all = catalog.layers_of(&idle)?;
    all.retain(|chain, _| !needed.contains_key(chain));
    let reclaimable = size(&all);
    all.extend(needed);
    let mut own = Bytes(0);
    for layer in all.values() {
        match store.usage(&layer.info.key) {
            Ok(usage) => own += usage.exclusive,
            // Another command removed it since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Row {
        r#type: "Images",
        total: active.len() + idle.len(),
        active: active.len(),
        size_bytes: Some(size(&all)),
        reclaimable_bytes: Some(reclaimable),
        own_bytes: own,
        archive_bytes: all.values().filter_map(|layer| layer.info.blob).map(|blob| blob.size).sum(),
    })
}

fn size(layers: &BTreeMap<ChainId, Layer>) -> Bytes {
    layers.values().filter_map(|layer| layer.info.size).sum()
}

fn container_row(store: &Store) -> Result<Row> {
    let containers = Containers::new(store);
    let all = containers.list()?;
    let (mut active, mut size, mut reclaimable, mut own) = (0, Some(Bytes(0)), Some(Bytes(0)), Bytes(0));
    let add = |sum: Option<Bytes>, more: Option<Bytes>| sum.zip(more).map(|(sum, more)| sum + more);
    for container in &all {
        let Some(sizes) = ps::sizes(&containers, container)? else { continue };
        size = add(size, sizes.size_rw_bytes);
        own += sizes.own_bytes;
        if containers.seen_at(container)?.is_some() || containers.status(container)?.state.is_live() {
            active += 1;
        } else {
            reclaimable = add(reclaimable, sizes.size_rw_bytes);
        }
    }
    Ok(Row {
        r#type: "Containers",
        total: all.len(),
        active,
        size_bytes: size,
        reclaimable_bytes: reclaimable,
        own_bytes: own,
        archive_bytes: Bytes(0),
    })
}
