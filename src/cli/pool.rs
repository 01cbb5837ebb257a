//! `lamina pool ...`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use super::{Global, output};
use crate::{
    container::{self, Containers},
    driver::{DriverKind, PoolStatus, Space},
    error::{Error, Kind},
    fs::BlockFs,
    store::{PoolOptions, SnapshotKind, Store, no_pool},
    units::Bytes,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make the pool
    Create(CreateArgs),
    /// Show how full the pool is and how it does
    Status(StatusArgs),
    /// Enlarge the pool, online
    Grow(GrowArgs),
    /// Take the pool down: nothing stays mounted, active or attached
    Down,
    /// Bring the pool up; every other command does this by itself
    Up,
    /// Destroy the pool with all images and containers
    Destroy(DestroyArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// Mechanism: thin or btrfs share blocks; overlay shares files and vfs nothing, for comparison
    #[arg(long, value_name = "thin|btrfs|overlay|vfs")]
    driver: Option<DriverKind>,
    /// Space for data of a thin or btrfs pool; a backing file is sparse and takes it only as it fills [default: 100G]
    #[arg(long)]
    size: Option<Bytes>,
    /// Unit in which a thin pool shares blocks, a multiple of 64K [default: 64K]
    #[arg(long)]
    chunk: Option<Bytes>,
    /// File system on thin volumes [default: ext4]
    #[arg(long, value_name = "ext4|xfs")]
    fs: Option<BlockFs>,
    /// Backing file or block device for data
    #[arg(long, value_name = "FILE|BLOCKDEV")]
    data: Option<PathBuf>,
    /// Backing file or block device for a thin pool's metadata
    #[arg(long, value_name = "FILE|BLOCKDEV")]
    metadata: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct GrowArgs {
    /// The new size of the data space
    size: Bytes,
}

#[derive(Debug, clap::Args)]
pub(super) struct DestroyArgs {
    /// Really: all images and containers are removed
    #[arg(long, required = true)]
    yes: bool,
}

impl Verb {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Create(args) => args.run(global),
            Self::Status(args) => args.run(global),
            Self::Grow(args) => grow(global, args.size),
            Self::Down => {
                let was_up = Store::close_pool(&global.root, &|| refuse_if_running(global, "take the pool down"))?;
                output::tell(format_args!("lamina: the pool {}", if was_up { "is down" } else { "was down already" }));
                Ok(())
            }
            Self::Up => {
                existing(global)?;
                output::tell(format_args!("lamina: the pool is up"));
                Ok(())
            }
            Self::Destroy(_) => {
                let refuse = || refuse_if_running(global, "destroy the pool");
                Store::destroy_pool(&global.root, &refuse, &|| container::forget_all(&global.root))?;
                output::tell(format_args!("lamina: the pool is destroyed"));
                Ok(())
            }
        }
    }
}

/// Asked of /run alone, since the pool may be down, and its database gone.
fn refuse_if_running(global: &Global, act: &str) -> crate::Result<()> {
    match container::running(&global.root)?.as_slice() {
        [] => Ok(()),
        [first, more @ ..] => {
            let what = format!(
                "{act}: container {first:.12} runs{}; stop it first with 'lamina stop'",
                if more.is_empty() { String::new() } else { format!(", and {} more", more.len()) }
            );
            Err(Error::new(Kind::InUse, what))
        }
    }
}

/// The store of a pool that must be there.
pub(super) fn existing(global: &Global) -> Result<Store> {
    Ok(global.store_if_any()?.ok_or_else(|| no_pool(&global.root))?)
}

impl CreateArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let options = PoolOptions {
            driver: self.driver,
            size: self.size,
            chunk: self.chunk,
            fs: self.fs,
            data: self.data.clone(),
            metadata: self.metadata.clone(),
        };
        let made = Store::create_pool(&global.root, &options)?;
        output::tell(format_args!("lamina: made {made}"));
        Ok(())
    }
}

#[derive(Serialize)]
struct Status {
    driver: DriverKind,
    #[serde(flatten)]
    pool: PoolStatus,
    layers: usize,
    containers: usize,
}

impl StatusArgs {
    fn run(&self, global: &Global) -> Result<()> {
        let store = existing(global)?;
        let layers = store.walk()?.iter().filter(|info| info.kind == SnapshotKind::Committed).count();
        let status = Status {
            driver: store.driver().kind(),
            pool: store.status()?,
            layers,
            containers: Containers::new(&store).list()?.len(),
        };
        if self.json {
            return output::json(&status);
        }
        let space = |space: Space| format!("{} of {} used, {} free", space.used, space.total, space.free());
        output::line(format_args!("Driver:      {}", status.driver))?;
        output::line(format_args!("Health:      {:?}", status.pool.health))?;
        output::line(format_args!("Chunk:       {}", status.pool.chunk))?;
        output::line(format_args!("Data:        {}", space(status.pool.data)))?;
        output::line(format_args!("Metadata:    {}", space(status.pool.metadata)))?;
        if let Some(free) = status.pool.backing_free {
            output::line(format_args!("Disk below:  {free} free"))?;
        }
        output::line(format_args!("Layers:      {}", status.layers))?;
        output::line(format_args!("Containers:  {}", status.containers))
    }
}

fn grow(global: &Global, size: Bytes) -> Result<()> {
    let store = existing(global)?;
    store.grow(size)?;
    output::tell(format_args!("lamina: the pool has {size} now"));
    Ok(())
}
