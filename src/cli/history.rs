//! `lamina history`.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::{Global, human, output, pool};
use crate::{
    id::{DiffId, ImageId},
    image::catalog::Catalog,
    units::Bytes,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Reference or ID
    image: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Print only IDs
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

#[derive(Serialize)]
struct Row {
    /// The image's ID on the first line; the other lines were images only where they were built.
    id: String,
    created: Option<String>,
    created_by: String,
    size_bytes: Bytes,
    comment: String,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let rows = self.rows(global)?;
        if self.json {
            return output::json(&rows);
        }
        if self.quiet {
            return rows.iter().try_for_each(|row| output::line(self.id(&row.id)));
        }
        let now = Timestamp::now();
        let row = |row: Row| {
            // A row is one line, and what an image says must not steer the terminal.
            let by = row.created_by.replace(char::is_control, " ");
            let by = if self.no_trunc { by } else { output::cut(&by, 45) };
            let created = human::ago(row.created.as_deref(), now);
            vec![self.id(&row.id).to_owned(), created, by, row.size_bytes.docker(), row.comment]
        };
        output::table(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], rows.into_iter().map(row))
    }

    fn id<'a>(&self, id: &'a str) -> &'a str {
        id.strip_prefix("sha256:").filter(|_| !self.no_trunc).map_or(id, |hex| &hex[..12])
    }

    /// The newest first.
    fn rows(&self, global: &Global) -> Result<Vec<Row>> {
        let store = pool::existing(global)?;
        let catalog = Catalog::new(&store);
        let image = catalog.find(&self.image)?;
        let layers = catalog.layers(&image)?;
        let size = |diff: DiffId| layers.iter().find(|layer| layer.diff_id == diff).and_then(|layer| layer.info.size);
        let steps = image.config.history()?;
        // Those that builds here left between their steps are known, as Docker shows them.
        let ids: BTreeMap<usize, ImageId> = catalog.line_of(&image)?.into_iter().collect();
        let rows = steps.into_iter().enumerate().rev().map(|(index, step)| Row {
            id: ids.get(&(index + 1)).map_or_else(|| "<missing>".to_owned(), ToString::to_string),
            created: step.created,
            created_by: step.created_by,
            size_bytes: step.diff_id.and_then(size).unwrap_or_default(),
            comment: step.comment,
        });
        Ok(rows.collect())
    }
}
