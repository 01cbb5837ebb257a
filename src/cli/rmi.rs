//! `lamina rmi`.

use anyhow::Result;

use super::{Global, for_each, output, pool};
use crate::image::catalog::Catalog;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References or IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        for_each(&self.images, |name| {
            let removed = Catalog::new(&store).remove(name)?;
            for reference in removed.untagged {
                output::line(format_args!("Untagged: {reference}"))?;
            }
            for id in removed.deleted {
                output::line(format_args!("Deleted: {id}"))?;
            }
            Ok(())
        })
    }
}
