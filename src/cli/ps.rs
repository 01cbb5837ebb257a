//! `lamina ps`.

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde::Serialize;

use super::{Global, human, output};
use crate::{
    container::{Container, Containers, Sizes, State, Status},
    error::Kind,
    id::ContainerId,
    store::Store,
    units::Bytes,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show all containers, not only those that run or are mounted
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
    /// Program and arguments.
    command: Vec<String>,
    created: String,
    state: &'static str,
    /// In Docker's words.
    status: String,
    pid: Option<i32>,
    /// Of one that has ended, if that was seen.
    exit_code: Option<i32>,
    mounted: bool,
    #[serde(flatten)]
    sizes: Option<SizeRow>,
}

/// `null` where it could not be found out.
#[derive(Serialize)]
pub(super) struct SizeRow {
    pub(super) size_rw_bytes: Option<Bytes>,
    pub(super) size_virtual_bytes: Option<Bytes>,
    pub(super) own_bytes: Bytes,
}

/// The sizes of a container; why one could not be found out is told. `None` for one that was removed since it was listed.
pub(super) fn sizes(containers: &Containers<'_>, container: &Container) -> Result<Option<SizeRow>> {
    match containers.sizes(container) {
        Ok(Sizes { rw, image, own }) => {
            // A pool too full to hold a container still must be listed all the more.
            let rw = rw.inspect_err(|error| eprintln!("lamina: size of container {}: {error}", container.name)).ok();
            let size_virtual_bytes = rw.map(|rw| image + rw);
            Ok(Some(SizeRow { size_rw_bytes: rw, size_virtual_bytes, own_bytes: own }))
        }
        Err(_) if containers.find(container.id.as_str()).is_err_and(|error| error.kind() == Kind::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Args {
    /// All containers with their sizes.
    pub(super) fn everything() -> Self {
        Self { all: true, size: true, json: false }
    }

    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let rows = match global.store_if_any()? {
            Some(store) => self.rows(&store)?,
            None => Vec::new(),
        };
        let unknown =
            rows.iter().filter_map(|row| row.sizes.as_ref()).filter(|sizes| sizes.size_rw_bytes.is_none()).count();
        if self.json { output::json(&rows) } else { self.print(rows) }?;
        match unknown {
            0 => Ok(()),
            _ => bail!("the sizes of {unknown} containers could not be found out"),
        }
    }

    fn rows(&self, store: &Store) -> Result<Vec<Row>> {
        let containers = Containers::new(store);
        containers.sweep_or_tell();
        let now = Timestamp::now();
        let mut rows = Vec::new();
        for container in containers.list()? {
            let Some((status, command)) = gone(containers.status(&container).and_then(|status| {
                let command = containers.settings(&container)?.args();
                Ok((status, command))
            }))?
            else {
                continue;
            };
            let mounted = gone(containers.seen_at(&container))?.flatten().is_some();
            if !self.all && !mounted && !status.state.is_live() {
                continue;
            }
            let sizes = if self.size { sizes(&containers, &container)? } else { None };
            if self.size && sizes.is_none() {
                continue;
            }
            let Container { id, name, reference, created, .. } = container;
            rows.push(Row {
                id,
                name,
                image: reference,
                command,
                created,
                state: status.state.name(),
                status: shown(&status, mounted, now),
                pid: status.pid,
                exit_code: status.code.filter(|_| status.state == State::Exited),
                mounted,
                sizes,
            });
        }
        Ok(rows)
    }

    fn print(&self, rows: Vec<Row>) -> Result<()> {
        let mut header = vec!["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
        if self.size {
            header.extend(["SIZE", "OWN BLOCKS"]);
        }
        let now = Timestamp::now();
        let cells = |row: Row| {
            let mut cells = vec![
                row.id.short().to_owned(),
                row.image,
                output::cut(&format!("{:?}", row.command.join(" ")), 20),
                human::ago(Some(&row.created), now),
                row.status,
                // Containers have no ports of their own; the column is Docker's.
                String::new(),
                row.name,
            ];
            if let Some(sizes) = row.sizes {
                let shown = |size: Option<Bytes>| size.map_or_else(|| "?".to_owned(), |size| size.docker().to_string());
                let (rw, all) = (shown(sizes.size_rw_bytes), shown(sizes.size_virtual_bytes));
                cells.extend([format!("{rw} (virtual {all})"), sizes.own_bytes.docker()]);
            }
            cells
        };
        output::table(&header, rows.into_iter().map(cells))
    }
}

/// Docker's STATUS.
fn shown(status: &Status, mounted: bool, now: Timestamp) -> String {
    let up = || format!("Up {}", status.started.map_or_else(String::new, |then| human::since(then, now)));
    match status.state {
        State::Created if mounted => "Mounted".to_owned(),
        State::Created => "Created".to_owned(),
        State::Running => up(),
        State::Paused => format!("{} (Paused)", up()),
        State::Exited => {
            let ago = status.finished.map_or_else(String::new, |then| format!(" {} ago", human::since(then, now)));
            format!("Exited ({}){ago}", status.shown_code())
        }
    }
}

/// Nothing of a container that was removed since it was listed.
fn gone<T>(looked: crate::Result<T>) -> Result<Option<T>> {
    match looked {
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        looked => Ok(Some(looked?)),
    }
}
