//! `lamina create`.

use anyhow::{Context as _, Result};

use super::{Global, output, pool, run, run_options::RunOptions};
use crate::container::{Containers, Order};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: RunOptions,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let make = |order: &Order<'_>| Ok((Containers::new(&store).create_with(order)?, ()));
        let (container, ()) = run::create(&store, &self.options, true, false, make)?;
        output::line(&container.id).with_context(|| format!("container {} is made", container.id))
    }
}
