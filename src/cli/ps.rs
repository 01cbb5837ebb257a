//! `lamina ps`.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::{Global, human, output};
use crate::{
    container::{Container, Containers},
    id::ContainerId,
    store::Store,
    units::Bytes,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show all containers, not only those that are mounted
    #[arg(short, long)]
    all: bool,
    /// Show sizes
    #[arg(short, long)]
    size: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    id: ContainerId,
    name: String,
    image: String,
    created: String,
    mounted: bool,
    #[serde(flatten)]
    sizes: Option<SizeRow>,
}

#[derive(Serialize)]
struct SizeRow {
    size_rw_bytes: Bytes,
    size_virtual_bytes: Bytes,
    own_bytes: Bytes,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let rows = match global.store_if_any()? {
            Some(store) => self.rows(&store)?,
            None => Vec::new(),
        };
        if self.json { output::json(&rows) } else { self.print(rows) }
    }

    fn rows(&self, store: &Store) -> Result<Vec<Row>> {
        let containers = Containers::new(store);
        let mut rows = Vec::new();
        for container in containers.list()? {
            let mounted = containers.mounted_at(&container)?.is_some();
            if !self.all && !mounted {
                continue;
            }
            let name = container.name.clone();
            match self.row(&containers, container, mounted) {
                Ok(row) => rows.push(row),
                // Another command removed it while this one listed.
                Err(_) if containers.find(&name).is_err() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }

    fn row(&self, containers: &Containers<'_>, container: Container, mounted: bool) -> Result<Row> {
        let sizes = self.size.then(|| containers.sizes(&container)).transpose()?.map(|sizes| SizeRow {
            size_rw_bytes: sizes.rw,
            size_virtual_bytes: sizes.virtual_size,
            own_bytes: sizes.own,
        });
        let Container { id, name, reference, created, .. } = container;
        Ok(Row { id, name, image: reference, created, mounted, sizes })
    }

    fn print(&self, rows: Vec<Row>) -> Result<()> {
        let mut header = vec!["CONTAINER ID", "IMAGE", "CREATED", "STATUS", "NAMES"];
        if self.size {
            header.extend(["SIZE", "OWN BLOCKS"]);
        }
        let now = Timestamp::now();
        let cells = |row: Row| {
            let mut cells = vec![
                row.id.short().to_owned(),
                row.image,
                human::ago(Some(&row.created), now),
                if row.mounted { "Mounted" } else { "Created" }.to_owned(),
                row.name,
            ];
            if let Some(sizes) = row.sizes {
                let (rw, all) = (sizes.size_rw_bytes.docker(), sizes.size_virtual_bytes.docker());
                cells.extend([format!("{rw} (virtual {all})"), sizes.own_bytes.docker()]);
            }
            cells
        };
        output::table(&header, rows.into_iter().map(cells))
    }
}
