//! `lamina commit`.

use anyhow::Result;

use super::{Global, output, pool};
use crate::{
    build::apply_changes,
    container::{Containers, Note},
    image::{catalog::Catalog, reference::Reference},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A remark, which the history shows
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// Who made it
    #[arg(short, long, value_name = "NAME", default_value = "")]
    author: String,
    /// Apply a Dockerfile instruction to the new image: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
    /// STOPSIGNAL, USER, VOLUME or WORKDIR; may be given several times
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Name or ID
    container: String,
    /// What to call the new image
    #[arg(value_name = "REF")]
    reference: Option<Reference>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let container = containers.find(&self.container)?;
        let mut note = Note { message: self.message.clone(), author: self.author.clone(), runs: None };
        if !self.change.is_empty() {
            let mut runs = Catalog::new(&store).find(&container.image.to_string())?.config.runs()?;
            apply_changes(&mut runs, &self.change)?;
            note.runs = Some(runs);
        }
        output::line(containers.commit(&container, self.reference.as_ref(), note)?.id)
    }
}
