//! `lamina system df` and `system prune`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use super::{Global, confirm, container, image, images, output, pool, ps, volume};
use crate::{
    build::mount_cache,
    container::Containers,
    error::Kind,
    id::{ChainId, ImageId},
    image::catalog::{Catalog, Image, Layer},
    store::{Key, Store},
    units::Bytes,
    volume::{Volume, Volumes},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the space that images and containers take; with -v, each of them too
    Df(DfArgs),
    /// Remove containers that are not in use, images without a name, caches of builds, and with --volumes anonymous volumes
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Remove all images that no container was made from
    #[arg(short, long)]
    all: bool,
    /// Remove the anonymous volumes that no container has
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    asked: confirm::Asked,
}

#[derive(Debug, clap::Args)]
pub(super) struct DfArgs {
    /// Show each of them, too
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
    /// Images that a container was made from; containers that run or are mounted; volumes that a container has; caches that
    /// a build uses.
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
            Self::Prune(args) => args.run(global),
        }
    }
}

impl PruneArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let images =
            if self.all { "all images that no container was made from then" } else { "all images without a name" };
        let volumes = if self.volumes { ", and the anonymous volumes that no container has then" } else { "" };
        let warning = format!("This removes all containers that are not in use, {images}, caches of builds{volumes}.");
        if !self.asked.agreed("system prune", &warning)? {
            return Ok(());
        }
        let mut pool = container::prune(&store)?;
        let volumes = if self.volumes { volume::prune(&store, false)? } else { Bytes(0) };
        let (own, blobs) = image::pruned(&store, self.all)?;
        pool += own;
        let caches = mount_cache::prune(store.layout())?;
        output::line(format_args!(
            "Total reclaimed space: {} in the pool, {} of archives, {} of volumes, {} of build caches",
            pool.docker(),
            blobs.docker(),
            volumes.docker(),
            caches.docker()
        ))
    }
}

impl DfArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let rows = [
            image_row(&store)?,
            container_row(&store)?,
            volume_row(&store)?,
            cache_row(&store)?,
            download_row(&store)?,
            log_row(&store)?,
            configuration_row(&store)?,
        ];
        if self.json {
            return output::json(&rows);
        }
        let header = ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE", "OWN BLOCKS", "ARCHIVES"];
        output::table(&header, rows.into_iter().map(cells))?;
        if self.each || global.verbose > 0 {
            each(global, &store)?;
        }
        Ok(())
    }
}

fn each(global: &Global, store: &Store) -> Result<()> {
    output::line("\nImages:\n")?;
    images::Args::default().run(global)?;
    output::line("\nContainers:\n")?;
    ps::Args::everything().run(global)?;
    output::line("\nLocal Volumes:\n")?;
    let volumes = Volumes::of(store);
    let mut rows = Vec::new();
    for volume in volumes.list()? {
        if let Some(size) = size_of(volumes, &volume)? {
            rows.push(vec![volume.name.clone(), volumes.users(&volume)?.len().to_string(), size.docker()]);
        }
    }
    output::table(&["VOLUME NAME", "LINKS", "SIZE"], rows)
}

/// `None` for a volume that was removed since it was listed.
fn size_of(volumes: Volumes<'_>, volume: &Volume) -> Result<Option<Bytes>> {
    match volumes.size(volume) {
        Err(_) if volumes.find(&volume.name).is_err_and(|error| error.kind() == Kind::NotFound) => Ok(None),
        size => Ok(Some(size?)),
    }
}

/// On the host's own file system: nothing of them is in the pool.
fn volume_row(store: &Store) -> Result<Row> {
    let volumes = Volumes::of(store);
    let (mut total, mut active, mut size, mut reclaimable) = (0, 0, Bytes(0), Bytes(0));
    for volume in volumes.list()? {
        let Some(own) = size_of(volumes, &volume)? else { continue };
        total += 1;
        size += own;
        if volumes.users(&volume)?.is_empty() {
            reclaimable += own;
        } else {
            active += 1;
        }
    }
    Ok(on_disk("Local Volumes", (total, active), size, reclaimable))
}

/// The images between the steps of builds, with the layers that no other image has, and what cache mounts hold.
fn cache_row(store: &Store) -> Result<Row> {
    let catalog = Catalog::new(store);
    let between = catalog.intermediates()?;
    let (steps, results): (Vec<Image>, Vec<Image>) =
        catalog.list()?.into_iter().partition(|image| between.contains(&image.id));
    let needed = catalog.layers_of(&results)?;
    let mut layers = catalog.layers_of(&steps)?;
    layers.retain(|chain, _| !needed.contains_key(chain));
    let caches = mount_cache::summary(store.layout())?;
    let size = size(&layers) + caches.size;
    Ok(Row {
        r#type: "Build Cache",
        total: steps.len() + caches.total,
        active: caches.active,
        size_bytes: Some(size),
        reclaimable_bytes: Some(size.saturating_sub(caches.active_size)),
        own_bytes: own(store, layers.values().map(|layer| &layer.info.key))?,
        archive_bytes: layers.values().filter_map(|layer| layer.info.blob).map(|blob| blob.size).sum(),
    })
}

/// What layers have in the pool.
fn own<'k>(store: &Store, layers: impl Iterator<Item = &'k Key>) -> Result<Bytes> {
    let mut own = Bytes(0);
    for layer in layers {
        match store.usage(layer) {
            Ok(usage) => own += usage.exclusive,
            // Another command removed it since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(own)
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
    let mut own = own(store, all.values().map(|layer| &layer.info.key))?;
    // What pulls and loads left that were not finished.
    let waiting = store.waiting()?;
    own += self::own(store, waiting.iter().map(|info| &info.key))?;
    let waits: Bytes = waiting.iter().filter_map(|info| info.size).sum();
    let archives: Bytes = waiting.iter().filter_map(|info| info.blob).map(|blob| blob.size).sum();
    Ok(Row {
        r#type: "Images",
        total: active.len() + idle.len(),
        active: active.len(),
        size_bytes: Some(size(&all) + waits),
        reclaimable_bytes: Some(reclaimable + waits),
        own_bytes: own,
        archive_bytes: all.values().filter_map(|layer| layer.info.blob).map(|blob| blob.size).sum::<Bytes>() + archives,
    })
}

/// What was downloaded of layers of images that are not whole, on the disk of the root directory.
fn download_row(store: &Store) -> Result<Row> {
    let sizes = store.downloads()?;
    let size = sizes.iter().copied().sum();
    Ok(on_disk("Downloads", (sizes.len(), 0), size, size))
}

/// What containers wrote to their output.
fn log_row(store: &Store) -> Result<Row> {
    let containers = Containers::new(store);
    let (mut total, mut active, mut size, mut reclaimable) = (0, 0, Bytes(0), Bytes(0));
    for container in containers.list()? {
        let Ok(log) = std::fs::metadata(containers.log_path(&container)) else { continue };
        total += 1;
        size += Bytes(log.len());
        if containers.status(&container)?.state.is_live() {
            active += 1;
        } else {
            reclaimable += Bytes(log.len());
        }
    }
    Ok(on_disk("Logs", (total, active), size, reclaimable))
}

/// The database, and what is kept of containers besides their volumes and output.
fn configuration_row(store: &Store) -> Result<Row> {
    let containers = Containers::new(store);
    let (mut total, mut size) = (0, Bytes(0));
    for container in containers.list()? {
        let log = containers.log_path(&container);
        let files = std::fs::read_dir(log.parent().unwrap_or(&log)).into_iter().flatten().flatten();
        total += 1;
        size += files
            .filter(|file| file.path() != log)
            .filter_map(|file| file.metadata().ok())
            .map(|m| Bytes(m.len()))
            .sum();
    }
    let database = ["lamina.db", "lamina.db-wal", "lamina.db-shm"].map(|name| store.layout().root().join(name));
    size += database.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|m| Bytes(m.len())).sum();
    Ok(on_disk("Configuration", (total, total), size, Bytes(0)))
}

/// A row of what lies beside the pool.
fn on_disk(r#type: &'static str, (total, active): (usize, usize), size: Bytes, reclaimable: Bytes) -> Row {
    Row {
        r#type,
        total,
        active,
        size_bytes: Some(size),
        reclaimable_bytes: Some(reclaimable),
        own_bytes: Bytes(0),
        archive_bytes: Bytes(0),
    }
}

fn size(layers: &BTreeMap<ChainId, Layer>) -> Bytes {
    layers.values().filter_map(|layer| layer.info.size).sum()
}

fn container_row(store: &Store) -> Result<Row> {
    let containers = Containers::new(store);
    let all = containers.list()?;
    let (mut active, mut size, mut reclaimable, mut own) = (0, Some(Bytes(0)), Some(Bytes(0)), Bytes(0));
    let add = |sum: Option<Bytes>, more: Option<Bytes>| sum.zip(more).map(|(sum, more)| sum + more);
    for (container, sizes) in all.iter().zip(ps::sizes(&containers, &all)?) {
        let Some(sizes) = sizes else { continue };
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
