//! `lamina volume ...`.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use super::{
    Global, confirm,
    filter::{Condition, Filter, label},
    for_each, inspect, output, pool,
};
use crate::{
    error::Kind,
    store::Store,
    volume::{Volume, Volumes},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a volume and print its name; one that is there already stays as it is
    Create(CreateArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show everything about volumes, as JSON in Docker's form
    Inspect(inspect::Shared),
    /// Remove volumes that no container has
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove the anonymous volumes that no container has
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// Name of the volume; without one it is anonymous
    name: Option<String>,
    /// Note this with it; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
pub(super) struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// Show only those for which this holds: dangling=true|false, name=PART, label=KEY[=VALUE], driver=local
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Condition>,
    /// Print JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    /// One that is not there is no failure
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Remove those with a name, too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    asked: confirm::Asked,
}

#[derive(Serialize)]
struct View {
    name: String,
    driver: &'static str,
    mountpoint: PathBuf,
    anonymous: bool,
    labels: BTreeMap<String, String>,
    created: String,
    containers: Vec<String>,
}

impl Verb {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Create(args) => args.run(global),
            Self::Ls(args) => args.run(global),
            Self::Inspect(args) => args.run(global, Some(inspect::What::Volume)),
            Self::Rm(args) => args.run(global),
            Self::Prune(args) => args.run(global),
        }
    }
}

fn view(volumes: Volumes<'_>, volume: Volume) -> Result<View> {
    Ok(View {
        mountpoint: volumes.path(&volume),
        containers: volumes.users(&volume)?,
        name: volume.name,
        driver: "local",
        anonymous: volume.anonymous,
        labels: volume.labels,
        created: volume.created,
    })
}

impl CreateArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = global.store()?;
        let labels = self.label.iter().cloned().collect();
        output::line(Volumes::of(&store).create(self.name.as_deref(), &labels)?.name)
    }
}

impl LsArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let views = match global.store_if_any()? {
            Some(store) => self.views(&store)?,
            None => Vec::new(),
        };
        if self.json {
            return output::json(&views);
        }
        if self.quiet {
            return views.iter().try_for_each(|view| output::line(&view.name));
        }
        let cells = |view: &View| vec![view.driver.to_owned(), view.name.clone()];
        output::table(&["DRIVER", "VOLUME NAME"], views.iter().map(cells))
    }

    fn views(&self, store: &Store) -> Result<Vec<View>> {
        let filter = Filter::new(&self.filter, &["dangling", "name", "label", "driver"])?;
        let names = filter.patterns("name")?;
        let dangling = filter.truth("dangling")?;
        let volumes = Volumes::of(store);
        let mut views = Vec::new();
        for volume in volumes.list()? {
            let view = view(volumes, volume)?;
            let fits = dangling.is_none_or(|dangling| dangling == view.containers.is_empty())
                && (names.is_empty() || names.iter().any(|name| name.is_match(&view.name)))
                && filter.any("driver", |driver| *driver == view.driver)
                && filter.labels(&view.labels);
            views.extend(fits.then_some(view));
        }
        Ok(views)
    }
}

impl RmArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let volumes = Volumes::of(&store);
        for_each(&self.volumes, |name| {
            match volumes.find(name).and_then(|volume| volumes.remove(&volume)) {
                Err(error) if self.force && error.kind() == Kind::NotFound => {}
                removed => removed?,
            }
            output::line(name)
        })
    }
}

impl PruneArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let which = if self.all { "all volumes" } else { "the anonymous volumes" };
        let warning = format!("This removes {which} that no container has.");
        if !self.asked.agreed("volume prune", &warning)? {
            return Ok(());
        }
        let size = prune(&store, self.all)?;
        output::line(format_args!("Total reclaimed space: {}", size.docker()))
    }
}

/// Removes and tells; what it took is returned.
pub(super) fn prune(store: &Store, all: bool) -> Result<crate::units::Bytes> {
    let pruned = Volumes::of(store).prune(all)?;
    if !pruned.removed.is_empty() {
        output::line("Deleted Volumes:")?;
        pruned.removed.iter().try_for_each(output::line)?;
        output::line("")?;
    }
    Ok(pruned.size)
}
