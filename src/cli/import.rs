//! `lamina import`.

use std::{fs::File, io::Read, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{
    Global,
    input::Input,
    output,
    progress::{self, Counted},
};
use crate::{
    error::Act as _,
    image::{import::import, reference::Reference},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A root file system tar, plain, gzip or zstd; '-' is standard input
    #[arg(value_name = "TAR|-")]
    tar: PathBuf,
    /// What to call the image
    #[arg(value_name = "REF")]
    reference: Reference,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let (input, length): (Box<dyn Read + Send>, _) = if self.tar.as_os_str() == "-" {
            (Box::new(Input::new()?), None)
        } else {
            let file = File::open(&self.tar).act(|| format!("open {}", self.tar.display()))?;
            let length = file.metadata().act(|| format!("look at {}", self.tar.display()))?.len();
            (Box::new(file), Some(length).filter(|length| *length > 0))
        };
        let store = global.store()?;
        let counted = Counted::new(input, progress::bytes("importing", length));
        let source = self.tar.display().to_string();
        let image = import(&store, counted, &self.reference, &source)
            .with_context(|| format!("import {source} as {}", self.reference))?;
        output::line(image.id).with_context(|| format!("image {} is made", image.id))
    }
}
