//! `lamina ps`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use jiff::Timestamp;
use regex::Regex;
use serde::Serialize;

use super::{
    Global,
    filter::{Condition, Filter},
    human, output,
};
use crate::{
    container::{Container, Containers, Sizes, State, Status},
    error::Kind,
    id::{ChainId, ContainerId, ImageId},
    image::catalog::{Catalog, Image},
    store::Store,
    units::Bytes,
    volume::Volumes,
};

/// What `--filter` knows.
const FILTERS: [&str; 9] = ["id", "name", "ancestor", "status", "exited", "label", "volume", "before", "since"];

/// What `--filter status=` knows.
const STATES: [&str; 5] = ["created", "mounted", "running", "paused", "exited"];

#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// Show all containers, not only those that run or are mounted
    #[arg(short, long)]
    all: bool,
    /// Show sizes
    #[arg(short, long)]
    size: bool,
    /// Print IDs only
    #[arg(short, long, conflicts_with = "size")]
    quiet: bool,
    /// Do not shorten IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show only those for which this holds: id=, name=REGEX, ancestor=IMAGE, status=created|mounted|running|paused|exited,
    /// exited=CODE, label=KEY[=VALUE], volume=NAME|DIR, before=CONTAINER, since=CONTAINER
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Condition>,
    /// Show the N newest, whatever they do
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Show the newest, whatever it does
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "quiet")]
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

/// The sizes of containers; why one could not be found out is told. `None` for one that was removed since it was listed.
pub(super) fn sizes(containers: &Containers<'_>, listed: &[Container]) -> Result<Vec<Option<SizeRow>>> {
    let row = |(container, sizes): (&Container, Option<Sizes>)| {
        let Sizes { rw, image, own } = sizes?;
        // A pool too full to hold a container still must be listed all the more.
        let rw = rw
            .inspect_err(|error| output::tell(format_args!("lamina: size of container {}: {error}", container.name)))
            .ok();
        let size_virtual_bytes = rw.map(|rw| image + rw);
        Some(SizeRow { size_rw_bytes: rw, size_virtual_bytes, own_bytes: own })
    };
    Ok(listed.iter().zip(containers.all_sizes(listed)?).map(row).collect())
}

impl Args {
    /// All containers with their sizes.
    pub(super) fn everything() -> Self {
        Self { all: true, size: true, ..Self::default() }
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
        let wanted = self.wanted(store)?;
        let listed: Vec<Container> = wanted.iter().map(|seen| seen.container.clone()).collect();
        let sizes = if self.size { sizes(&containers, &listed)? } else { listed.iter().map(|_| None).collect() };
        let rows = wanted.into_iter().zip(sizes).map(|(seen, sizes)| seen.row(sizes, now));
        Ok(rows.filter(|row| !self.size || row.sizes.is_some()).collect())
    }

    /// The containers to show.
    fn wanted(&self, store: &Store) -> Result<Vec<Seen>> {
        let filter = Filter::new(&self.filter, &FILTERS)?;
        filter.values_of("status", &STATES)?;
        let containers = Containers::new(store);
        let context = Context::new(store, &filter)?;
        let last = self.last.or(self.latest.then_some(1));
        // A status that was asked for is shown, as Docker does.
        let asked = |name: &str| !filter.values(name).is_empty();
        let all = self.all || last.is_some() || asked("status") || asked("exited");
        let codes = filter.numbers("exited")?;
        let mut wanted = Vec::new();
        for container in containers.list()? {
            if last.is_some_and(|last| wanted.len() == last) {
                break;
            }
            if !context.fits(&filter, &container)? {
                continue;
            }
            let Some(seen) = gone(Seen::of(&containers, container))? else { continue };
            let live = seen.mounted || seen.status.state.is_live();
            let ended_so = codes.is_empty() || seen.exit_code().is_some_and(|code| codes.contains(&code));
            if (all || live) && ended_so && filter.any("status", |wanted| *wanted == seen.word()) {
                wanted.push(seen);
            }
        }
        Ok(wanted)
    }

    fn print(&self, rows: Vec<Row>) -> Result<()> {
        let shown_id = |id: &ContainerId| if self.no_trunc { id.to_string() } else { id.short().to_owned() };
        if self.quiet {
            return rows.iter().try_for_each(|row| output::line(shown_id(&row.id)));
        }
        let mut header = vec!["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
        if self.size {
            header.extend(["SIZE", "OWN BLOCKS"]);
        }
        let now = Timestamp::now();
        let shown_command = |args: &[String]| {
            let command = command_line(args);
            if self.no_trunc { command } else { output::cut(&command, 20) }
        };
        let cells = |row: Row| {
            let mut cells = vec![
                shown_id(&row.id),
                row.image,
                format!("{:?}", shown_command(&row.command)),
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

/// A container and what it does.
struct Seen {
    container: Container,
    status: Status,
    command: Vec<String>,
    mounted: bool,
}

impl Seen {
    fn of(containers: &Containers<'_>, container: Container) -> crate::Result<Self> {
        let (status, command) = (containers.status(&container)?, containers.settings(&container)?.args());
        let mounted = containers.seen_at(&container)?.is_some();
        Ok(Self { container, status, command, mounted })
    }

    /// What `--filter status=` calls it.
    fn word(&self) -> &'static str {
        if self.mounted && self.status.state == State::Created { "mounted" } else { self.status.state.name() }
    }

    fn exit_code(&self) -> Option<i32> {
        (self.status.state == State::Exited).then(|| self.status.shown_code())
    }

    fn row(self, sizes: Option<SizeRow>, now: Timestamp) -> Row {
        let Self { container: Container { id, name, reference, created, .. }, status, command, mounted } = self;
        Row {
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
        }
    }
}

/// What the conditions refer to, looked up once.
struct Context<'a> {
    store: &'a Store,
    /// Images that were asked for, by their uppermost layers.
    ancestors: Vec<(ImageId, Option<ChainId>)>,
    images: BTreeMap<ImageId, Image>,
    /// Times between which a container was made.
    before: Option<String>,
    since: Option<String>,
    names: Vec<Regex>,
}

impl<'a> Context<'a> {
    fn new(store: &'a Store, filter: &Filter<'_>) -> Result<Self> {
        let catalog = Catalog::new(store);
        let containers = Containers::new(store);
        let top = |image: Image| (image.id, ChainId::chain(image.config.diff_ids()).last().copied());
        let ancestors = filter.values("ancestor").iter().map(|name| Ok(top(catalog.find(name)?)));
        let by_image = !filter.values("ancestor").is_empty() || !filter.values("label").is_empty();
        let images = if by_image { catalog.list()? } else { Vec::new() };
        let time = |name: &str| -> Result<Option<String>> {
            Ok(filter.values(name).last().map(|name| containers.find(name)).transpose()?.map(|found| found.created))
        };
        Ok(Self {
            store,
            ancestors: ancestors.collect::<Result<_>>()?,
            images: images.into_iter().map(|image| (image.id, image)).collect(),
            before: time("before")?,
            since: time("since")?,
            names: filter.patterns("name")?,
        })
    }

    fn fits(&self, filter: &Filter<'_>, container: &Container) -> Result<bool> {
        let named = filter.any("id", |id| container.id.as_str().starts_with(*id))
            && (self.names.is_empty() || self.names.iter().any(|name| is_called(name, &container.name)));
        let timed = self.before.as_ref().is_none_or(|time| container.created < *time)
            && self.since.as_ref().is_none_or(|time| container.created > *time);
        Ok(named
            && timed
            && self.descends(container)
            && self.labelled(filter, container)?
            && self.has(filter, container)?)
    }

    /// Whether the container's image is one that was asked for, or has its layers below.
    fn descends(&self, container: &Container) -> bool {
        let chain = || {
            let image = self.images.get(&container.image);
            image.map(|image| ChainId::chain(image.config.diff_ids())).unwrap_or_default()
        };
        self.ancestors.is_empty()
            || self
                .ancestors
                .iter()
                .any(|(id, top)| *id == container.image || top.is_some_and(|top| chain().contains(&top)))
    }

    fn labelled(&self, filter: &Filter<'_>, container: &Container) -> Result<bool> {
        if filter.values("label").is_empty() {
            return Ok(true);
        }
        let Some(image) = self.images.get(&container.image) else { return Ok(false) };
        Ok(filter.labels(&image.config.labels()?))
    }

    fn has(&self, filter: &Filter<'_>, container: &Container) -> Result<bool> {
        if filter.values("volume").is_empty() {
            return Ok(true);
        }
        let attached = Volumes::of(self.store).attached(&container.id)?;
        Ok(filter.any("volume", |wanted| {
            attached.iter().any(|attached| attached.volume.name == **wanted || attached.target == **wanted)
        }))
    }
}

/// Docker's names begin with a slash, which a pattern may have or not.
fn is_called(pattern: &Regex, name: &str) -> bool {
    pattern.is_match(name) || pattern.is_match(&format!("/{name}"))
}

/// Docker's COMMAND: the program, and arguments with a blank in them in quotes.
fn command_line(args: &[String]) -> String {
    let quoted = args.iter().enumerate().map(|(at, arg)| match at {
        1.. if arg.contains(' ') => format!("'{arg}'"),
        _ => arg.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
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
