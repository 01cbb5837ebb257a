//! `lamina inspect`: everything about containers, images and volumes, in Docker's form.
//!
//! Invariant: every key that Docker's clients read is there and means the same, with Docker's word for 'nothing' where
//! Lamina has nothing. What only Lamina knows is in `GraphDriver.Data`, and of volumes in `Status`, where Docker has
//! what a driver tells of its own.

mod container;
mod graph;
mod host_config;
mod image;
mod network;
mod volume;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::{Map, Value};

use super::{Global, output, pool};
use crate::{
    error::{Error, Kind},
    store::Store,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    shared: Shared,
    /// Look only among these
    #[arg(long, value_name = "TYPE")]
    r#type: Option<What>,
}

/// Also of `container inspect` and the like, which look among one kind of things.
#[derive(Debug, clap::Args)]
pub(super) struct Shared {
    /// Names or IDs of containers, references or IDs of images, names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Show the sizes of containers too: SizeRw and SizeRootFs
    #[arg(short, long)]
    size: bool,
    /// 'json' for one line; templates are for 'jq'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON, which is what this prints anyway
    #[arg(long)]
    json: bool,
}

/// What may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    Container,
    Image,
    Volume,
}

impl What {
    /// In the order in which a name is looked for, as Docker's.
    const ALL: [Self; 3] = [Self::Container, Self::Image, Self::Volume];

    const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
        }
    }
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        self.shared.run(global, self.r#type)
    }
}

impl Shared {
    /// Prints what was found, tells what was not, and fails then.
    pub(super) fn run(&self, global: &Global, only: Option<What>) -> Result<()> {
        let in_one_line = self.in_one_line()?;
        let store = pool::existing(global)?;
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for name in &self.names {
            match self.find(&store, name, only) {
                Ok(view) => found.push(view),
                Err(error) => failures.push(error),
            }
        }
        if in_one_line {
            output::line(Value::from(found))?
        } else {
            output::json(&found)?
        }
        match failures.pop() {
            None => Ok(()),
            Some(error) if failures.is_empty() => Err(error),
            Some(last) => {
                failures.iter().chain([&last]).for_each(|error| output::tell(format_args!("lamina: {error:#}")));
                bail!("{} of {} were not shown", failures.len() + 1, self.names.len())
            }
        }
    }

    fn in_one_line(&self) -> Result<bool> {
        match self.format.as_deref() {
            None => Ok(false),
            Some("json") => Ok(true),
            Some(template) => bail!(
                "--format '{}': Go templates are not supported; take a part by 'lamina inspect NAME | jq -r .[0].State.Status'",
                template.escape_debug()
            ),
        }
    }

    fn find(&self, store: &Store, name: &str, only: Option<What>) -> Result<Value> {
        for what in What::ALL.into_iter().filter(|what| only.is_none_or(|only| only == *what)) {
            let view = match what {
                What::Container => container::view(store, name, self.size),
                What::Image => image::view(store, name),
                What::Volume => volume::view(store, name),
            };
            if let Some(view) = view? {
                return Ok(view);
            }
        }
        let kind = only.map_or("object", What::name);
        Err(Error::new(Kind::NotFound, format!("no such {kind}: {name}")).into())
    }
}

/// What was found; nothing if there is no such thing.
fn if_any<T>(found: crate::Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Docker's word for no time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Objects put together, the later over the earlier.
fn merged(parts: impl IntoIterator<Item = Value>) -> Map<String, Value> {
    let mut all = Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    all
}

/// What a container runs with when nobody says anything: Docker's `Config`, the whole of it.
fn config_defaults() -> Value {
    serde_json::json!({
        "Hostname": "", "Domainname": "", "User": "",
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": null, "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null,
        "OnBuild": null, "Labels": null,
    })
}
