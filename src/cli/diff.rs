//! `lamina diff`.

use std::os::unix::ffi::OsStrExt as _;

use anyhow::Result;
use serde::Serialize;

use super::{Global, output, pool};
use crate::{
    container::Containers,
    driver::{Change, ChangeKind},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or ID
    container: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    kind: char,
    /// JSON has no bytes: what is not UTF-8 in a name is replaced here.
    path: String,
    /// All bytes of such a path, two hexadecimal digits each; left out where `path` says it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let changes = containers.changes(&containers.find(&self.container)?)?;
        if self.json {
            return output::json(&changes.iter().map(row).collect::<Vec<_>>());
        }
        for change in changes {
            let prefix = [letter(change.kind) as u8, b' ', b'/'];
            output::bytes(&[&prefix[..], &output::on_one_line(change.path.as_os_str().as_bytes())].concat())?;
        }
        Ok(())
    }
}

fn row(change: &Change) -> Row {
    let bytes = [b"/", change.path.as_os_str().as_bytes()].concat();
    let lossy = change.path.to_str().is_none();
    Row {
        kind: letter(change.kind),
        path: String::from_utf8_lossy(&bytes).into_owned(),
        path_hex: lossy.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

fn letter(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => 'A',
        ChangeKind::Changed => 'C',
        ChangeKind::Deleted => 'D',
    }
}
