//! `lamina build`: a Dockerfile to an image, step by step, each step an image.
//!
//! A step takes the image before it and makes the next: its configuration changed and, if the instruction writes files,
//! one layer more, which is a snapshot committed. That image is published at once under no name, so a build that is
//! killed or fails goes on from there, and the cache is nothing but a table of which step made which image.
//!
//! Invariant: nothing that a step writes is in the pool without either being published or having an owner that lives, and
//! no image that the build goes on from is removed until it ends.

mod archive;
mod cache;
mod changes;
mod copy;
pub mod dockerfile;
mod fingerprint;
pub mod ignore;
mod layer;
pub mod mount_cache;
pub mod pattern;
mod permissions;
mod run;
mod settings;
mod source;
mod stage;
mod target;
mod transfer;

pub use self::changes::apply as apply_changes;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs::File,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use jiff::Timestamp;

use self::{
    dockerfile::{Dockerfile, Instruction, Position, RunMount, Step},
    ignore::Ignore,
    stage::Stage,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::ImageId,
    image::{
        catalog::{Catalog, Image},
        reference::Reference,
        registry::{Connection, pull},
    },
    runtime::Network,
    store::{HeldImages, Store},
};

/// What the history of an image says beside each step made here.
const COMMENT: &str = "lamina.dockerfile.v0";

/// What a build is made from.
#[derive(Debug)]
pub struct Options {
    /// What to do.
    pub dockerfile: Dockerfile,
    /// What of the context does not count.
    pub ignore: Ignore,
    /// What to call the image.
    pub tags: Vec<Reference>,
    /// Values of build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to build; the last if there is none.
    pub target: Option<String>,
    /// Whether steps that were done before count.
    pub cache: bool,
    /// What `RUN` sees of the network.
    pub network: Network,
    /// How to get images that are not here.
    pub source: Box<dyn Images>,
    /// The time that everything made gets instead of the present (`SOURCE_DATE_EPOCH`).
    pub epoch: Option<Timestamp>,
}

/// Where images come from that are not here; tells of it in its own way.
pub trait Images: Debug {
    /// Gets one into the store, under this name.
    ///
    /// # Errors
    /// As [`pull`].
    fn get(&self, store: &Store, reference: &Reference) -> Result<Image>;
}

/// A registry, without a word.
impl Images for Connection {
    fn get(&self, store: &Store, reference: &Reference) -> Result<Image> {
        pull(store, reference, None, self, &()).map(|pulled| pulled.image)
    }
}

/// What happens while an image is built.
pub trait Events {
    /// A step begins: number `index` of `count`, as the Dockerfile has it.
    fn step(&mut self, index: usize, count: usize, text: &str);
    /// The step was done before.
    fn cached(&mut self);
    /// The image after the step.
    fn made(&mut self, image: ImageId);
    /// Something that the user should know and that is no error.
    fn note(&mut self, text: &str);
}

/// One build.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    store: &'a Store,
    options: &'a Options,
    context: BorrowedFd<'a>,
    started: Timestamp,
    /// The images that it goes on from.
    images: HeldImages,
    /// The stages that are done, by their place in the Dockerfile.
    done: BTreeMap<usize, Stage>,
}

/// Builds the image and names it.
///
/// # Errors
/// `Invalid` for a Dockerfile that cannot be, told with its place; those of the steps. Steps that were finished stay,
/// for the next build.
pub fn build(store: &Store, options: &Options, context: &Path, events: &mut dyn Events) -> Result<Image> {
    let act = || format!("open build context {}", context.display());
    let directory = File::open(context).act(act)?;
    if !directory.metadata().act(act)?.is_dir() {
        return Err(Error::new(Kind::Invalid, format!("{}: it is not a directory", act())));
    }
    let started = options.epoch.unwrap_or_else(Timestamp::now);
    let context = directory.as_fd();
    let images = store.held_images()?;
    let mut build = Build { store, options, context, started, images, done: BTreeMap::new() };
    let target = build.target()?;
    let needed = build.needed(target)?;
    let count = needed.iter().map(|index| 1 + options.dockerfile.stages[*index].steps.len()).sum();
    let mut at = 0;
    for index in needed {
        let stage = Stage::run(&build, index, &mut Progress { events: &mut *events, at: &mut at, count })?;
        build.done.insert(index, stage);
    }
    let unused = build.unused_args();
    if !unused.is_empty() {
        events.note(&format!("build arguments that no stage declares: {}", unused.join(", ")));
    }
    let stage = build.done.get(&target).ok_or_else(|| Error::new(Kind::Invalid, "the stage was not built"))?;
    let catalog = Catalog::new(store);
    let config = stage.config();
    let mut image = catalog.publish(config, options.tags.first())?;
    for tag in options.tags.iter().skip(1) {
        image = catalog.publish(config, Some(tag))?;
    }
    Ok(image)
}

/// Counts the steps.
struct Progress<'a> {
    events: &'a mut dyn Events,
    at: &'a mut usize,
    count: usize,
}

impl Progress<'_> {
    fn step(&mut self, text: &str) {
        *self.at += 1;
        self.events.step(*self.at, self.count, text);
    }
}

impl<'a> Build<'a> {
    fn dockerfile(&self) -> &'a Dockerfile {
        &self.options.dockerfile
    }

    /// An error of what stands at a place of the Dockerfile.
    fn at(&self, position: Position, error: Error) -> Error {
        error.within(format!("{}:{}:{}", self.dockerfile().name, position.line, position.column))
    }

    fn target(&self) -> Result<usize> {
        let last = self.dockerfile().stages.len().saturating_sub(1);
        match &self.options.target {
            None => Ok(last),
            Some(name) => self.stage_named(name, last + 1).ok_or_else(|| {
                let names: Vec<&str> =
                    self.dockerfile().stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
                let has = if names.is_empty() { "none has a name".to_owned() } else { names.join(", ") };
                Error::new(Kind::NotFound, format!("target stage '{name}' is not in the Dockerfile; stages: {has}"))
            }),
        }
    }

    /// The stage called `name`, or with that number, among the first `before`.
    fn stage_named(&self, name: &str, before: usize) -> Option<usize> {
        let lower = name.to_lowercase();
        let stages = self.dockerfile().stages.get(..before)?;
        let named = stages.iter().rposition(|stage| stage.name.as_deref() == Some(lower.as_str()));
        named.or_else(|| name.parse().ok().filter(|index| *index < before))
    }

    /// The stages that `target` is made from, itself the last. A stage can only name those above it, so there is no
    /// circle.
    fn needed(&self, target: usize) -> Result<BTreeSet<usize>> {
        let mut needed = BTreeSet::new();
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            if needed.insert(index) {
                open.extend(self.sources_of(index)?);
            }
        }
        Ok(needed)
    }

    fn sources_of(&self, index: usize) -> Result<Vec<usize>> {
        let stage = &self.dockerfile().stages[index];
        let base = self.base_of(index)?;
        let mut sources: Vec<usize> = self.stage_named(&base, index).into_iter().collect();
        for step in stage.steps.iter().chain(&self.triggers_of(index, &base)?) {
            for name in self.taken_from(step)? {
                if stage.name.as_deref() == Some(name.to_lowercase().as_str())
                    && self.stage_named(&name, index).is_none()
                {
                    return Err(self.dockerfile().error(step.position, format!("stage '{name}' takes from itself")));
                }
                sources.extend(self.stage_named(&name, index));
            }
        }
        Ok(sources)
    }

    /// The triggers of the base of a stage, which may take from other stages.
    fn triggers_of(&self, index: usize, base: &str) -> Result<Vec<Step>> {
        let triggers = match self.stage_named(base, index) {
            Some(stage) => {
                let steps = self.dockerfile().stages[stage].steps.iter();
                let triggers = steps.filter_map(|step| match &step.instruction {
                    Instruction::Onbuild(trigger) => Some(trigger.clone()),
                    _ => None,
                });
                triggers.collect()
            }
            None if base == "scratch" => Vec::new(),
            None => {
                let image = self.refuse_other_platform(index).and_then(|()| self.image(base));
                let image = image.map_err(|error| self.at(self.dockerfile().stages[index].position, error))?;
                settings::list(&image.config.runs()?, "OnBuild")
            }
        };
        triggers.iter().map(|trigger| Dockerfile::trigger("ONBUILD", trigger)).collect()
    }

    /// What `--from` and `--mount=from=` of a step name. They have no variables, other fields may.
    fn taken_from(&self, step: &Step) -> Result<Vec<String>> {
        Ok(match &step.instruction {
            Instruction::Copy(transfer) | Instruction::Add(transfer) => transfer.from.iter().cloned().collect(),
            Instruction::Run(_) => match self.dockerfile().expand(step, &|_| Some("0".to_owned()))? {
                Instruction::Run(run) => run.mounts.into_iter().filter_map(RunMount::into_from).collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        })
    }

    /// Arguments declared before the first stage, with their values.
    fn global_args(&self) -> Result<BTreeMap<String, String>> {
        let mut known = predefined();
        for step in &self.dockerfile().global_args {
            let expanded = self.dockerfile().expand(step, &|name| known.get(name).cloned())?;
            let Instruction::Arg(args) = expanded else { continue };
            for (name, default) in args {
                if let Some(value) = self.options.args.get(&name).cloned().or(default) {
                    known.insert(name, value);
                }
            }
        }
        Ok(known)
    }

    /// What a stage is `FROM`, with its variables replaced.
    fn base_of(&self, index: usize) -> Result<String> {
        let known = self.global_args()?;
        self.dockerfile().base(&self.dockerfile().stages[index], &|name| known.get(name).cloned())
    }

    fn unused_args(&self) -> Vec<String> {
        let mut declared = BTreeSet::new();
        let stages = self.dockerfile().stages.iter().flat_map(|stage| &stage.steps);
        for step in self.dockerfile().global_args.iter().chain(stages) {
            if let Instruction::Arg(args) = &step.instruction {
                declared.extend(args.iter().map(|(name, _)| name.as_str()));
            }
        }
        let unused = self.options.args.keys().filter(|name| !declared.contains(name.as_str()) && !is_proxy(name));
        unused.cloned().collect()
    }
}

/// What every `FROM` may use without declaring it.
fn predefined() -> BTreeMap<String, String> {
    let architecture = oci_spec::image::Arch::default().to_string();
    let platform = format!("linux/{architecture}");
    let mut all = BTreeMap::new();
    for side in ["BUILD", "TARGET"] {
        for (name, value) in
            [("PLATFORM", platform.as_str()), ("OS", "linux"), ("ARCH", &architecture), ("VARIANT", "")]
        {
            all.insert(format!("{side}{name}"), value.to_owned());
        }
    }
    all
}

/// Build arguments that need no `ARG` and are in no layer's history (Dockerfile reference, "Predefined ARGs").
fn is_proxy(name: &str) -> bool {
    ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"].contains(&name.to_lowercase().as_str())
}
