//! `lamina create`.

use anyhow::{Context as _, Result};

use super::{Global, output, pool};
use crate::{
    container::{Containers, checked_name},
    error::{Error, Kind},
    image::catalog::Catalog,
    units::Bytes,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the container; one is made up if none is given
    #[arg(long, value_parser = checked_name)]
    name: Option<String>,
    /// size=SIZE: how much the container may write, as 10G or 512M
    #[arg(long, value_name = "size=SIZE", value_parser = size_option)]
    storage_opt: Option<Bytes>,
    /// Reference or ID of the image
    image: String,
}

/// The smallest limit: what a file system needs for itself would be most of less.
const SMALLEST: Bytes = Bytes::mib(16);

/// Reads `size=SIZE`.
pub(super) fn size_option(text: &str) -> Result<Bytes, Error> {
    let invalid = |what: String| Err(Error::new(Kind::Invalid, what));
    let Some(size) = text.strip_prefix("size=") else {
        return invalid(format!("storage option '{text}' is not size=SIZE"));
    };
    match size.parse::<Bytes>()? {
        size if size < SMALLEST => invalid(format!("size={size} is too small; the smallest is {SMALLEST}")),
        size => Ok(size),
    }
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let image = Catalog::new(&store).find(&self.image)?;
        let (name, limit) = (self.name.as_deref(), self.storage_opt);
        let container = Containers::new(&store).create_limited(&image, &self.image, name, limit)?;
        output::line(&container.id).with_context(|| format!("container {} is made", container.id))
    }
}
