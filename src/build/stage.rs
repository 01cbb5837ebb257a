//! One stage: from its base, step by step.

use std::collections::BTreeMap;

use super::{
    Build, Progress,
    cache::StepKey,
    dockerfile::{Dockerfile, Instruction, Step},
    layer::Draft,
    settings::{self, Settings},
};
use crate::{
    error::{Error, Kind, Result},
    image::{
        catalog::{Catalog, Image},
        config::{self, Config},
    },
    interrupt,
    runtime::DEFAULT_PATH,
};

/// A stage as far as it is built.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Its place in the Dockerfile.
    pub(super) index: usize,
    /// The image of the last step; `None` on `scratch` before the first.
    image: Option<Image>,
    config: Config,
    /// Arguments declared so far, in this stage or the one that it begins with, with their values.
    args: BTreeMap<String, String>,
    /// Whether this stage has a `CMD` of its own.
    has_cmd: bool,
    /// Whether a step had to be done: no later one is taken from the cache then.
    missed: bool,
}

impl Stage {
    /// Builds stage number `index`.
    pub(super) fn run(build: &Build<'_>, index: usize, progress: &mut Progress<'_>) -> Result<Self> {
        let plan = &build.dockerfile().stages[index];
        progress.step(&plan.text);
        let mut stage = Self::base(build, index).map_err(|error| build.at(plan.position, error))?;
        if let Some(image) = &stage.image {
            progress.events.made(image.id);
        }
        stage.triggers(build, progress)?;
        for step in &plan.steps {
            progress.step(&step.text);
            stage.step(build, step, progress).map_err(|error| build.at(step.position, error))?;
        }
        Ok(stage)
    }

    fn base(build: &Build<'_>, index: usize) -> Result<Self> {
        build.refuse_other_platform(index)?;
        let name = build.base_of(index)?;
        let (image, config, args) = if let Some(base) = build.stage_named(&name, index) {
            let stage = build.stage(base)?;
            (stage.image.clone(), stage.config.clone(), stage.args.clone())
        } else if name == "scratch" {
            (None, Config::empty()?, BTreeMap::new())
        } else {
            let image = build.image(&name)?;
            let config = image.config.clone();
            (Some(image), config, BTreeMap::new())
        };
        Ok(Self { index, image, config, args, has_cmd: false, missed: false })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// What the base wants done in every image made from it.
    fn triggers(&mut self, build: &Build<'_>, progress: &mut Progress<'_>) -> Result<()> {
        let triggers = settings::list(&self.config.runs()?, "OnBuild");
        if triggers.is_empty() {
            return Ok(());
        }
        progress.events.note(&format!("executing {} build triggers", triggers.len()));
        self.configure(build, progress, "clear ONBUILD", |settings| {
            settings.remove("OnBuild");
        })?;
        for trigger in triggers {
            let step = Dockerfile::trigger("ONBUILD", &trigger)?;
            self.step(build, &step, progress).map_err(|error| error.within(format!("ONBUILD {trigger}")))?;
        }
        Ok(())
    }

    fn step(&mut self, build: &Build<'_>, step: &Step, progress: &mut Progress<'_>) -> Result<()> {
        let settings = self.config.runs()?;
        // What an image does not say is what its commands see.
        let default = |name: &str| (name == "PATH").then(|| DEFAULT_PATH.to_owned());
        let lookup = |name: &str| {
            settings::env(&settings, name).or_else(|| self.args.get(name).cloned()).or_else(|| default(name))
        };
        let instruction = step.instruction.expand(&lookup, build.dockerfile().escape)?;
        match &instruction {
            Instruction::Run(run) => self.run_command(build, run, progress),
            Instruction::Copy(transfer) => self.transfer(build, transfer, false, progress),
            Instruction::Add(transfer) => self.transfer(build, transfer, true, progress),
            Instruction::Workdir(_) => self.workdir(build, &instruction, progress),
            Instruction::Arg(args) => {
                self.declare(build, args)?;
                self.configure(build, progress, &settings::shown(&instruction), |_| {})
            }
            Instruction::Maintainer(name) => {
                let (created_by, before) = (settings::shown(&instruction), self.config.clone());
                let key = self.key(build, &created_by);
                let step = config::Step { author: name, ..build.empty_step(&created_by) };
                self.cached_or(build, &key, progress, || build.publish(&key, &before.stepped(&step, |_| {})?))
            }
            instruction => self.settle(build, instruction, progress),
        }
    }

    /// An instruction that changes nothing but settings.
    fn settle(&mut self, build: &Build<'_>, instruction: &Instruction, progress: &mut Progress<'_>) -> Result<()> {
        let mut changed = self.config.runs()?;
        settings::apply(&mut changed, instruction, self.has_cmd)?;
        self.has_cmd |= matches!(instruction, Instruction::Cmd(_));
        self.configure(build, progress, &settings::shown(instruction), |settings| *settings = changed)
    }

    fn declare(&mut self, build: &Build<'_>, args: &[(String, Option<String>)]) -> Result<()> {
        let global = build.global_args()?;
        for (name, default) in args {
            let given = build.options.args.get(name).cloned();
            // Declared without a default it has the value that it had before the first stage.
            if let Some(value) = given.or_else(|| default.clone()).or_else(|| global.get(name).cloned()) {
                self.args.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// A step without files.
    fn configure(
        &mut self,
        build: &Build<'_>,
        progress: &mut Progress<'_>,
        created_by: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Result<()> {
        let key = self.key(build, created_by);
        let before = self.config.clone();
        self.cached_or(build, &key, progress, || build.configured(&key, &before, created_by, change))
    }

    /// A step that writes a layer.
    pub(super) fn write(
        &mut self,
        build: &Build<'_>,
        progress: &mut Progress<'_>,
        act: &str,
        created_by: &str,
        write: impl FnOnce(&Draft<'_>) -> Result<()>,
    ) -> Result<()> {
        let key = self.key(build, act);
        let before = self.config.clone();
        self.cached_or(build, &key, progress, || build.layer(&before, &key, created_by, write, |_| {}))
    }

    /// `WORKDIR` also makes the directory.
    fn workdir(&mut self, build: &Build<'_>, instruction: &Instruction, progress: &mut Progress<'_>) -> Result<()> {
        let mut changed = self.config.runs()?;
        settings::apply(&mut changed, instruction, self.has_cmd)?;
        let path = settings::text(&changed, "WorkingDir").to_owned();
        let created_by = settings::shown(&Instruction::Workdir(path.clone()));
        let key = self.key(build, &created_by);
        let before = self.config.clone();
        let user = settings::text(&changed, "User").to_owned();
        self.cached_or(build, &key, progress, || {
            let change = |settings: &mut Settings| *settings = changed;
            if build.has_directory(&before, &path)? {
                return build.configured(&key, &before, &created_by, change);
            }
            build.layer(&before, &key, &created_by, |draft| build.make_directory(draft, &path, &user), change)
        })
    }

    fn cached_or(
        &mut self,
        build: &Build<'_>,
        key: &StepKey,
        progress: &mut Progress<'_>,
        make: impl FnOnce() -> Result<Image>,
    ) -> Result<()> {
        let cached = if self.missed || !build.options.cache { None } else { build.cached(key)? };
        let image = match cached {
            Some(image) => {
                progress.events.cached();
                image
            }
            None => {
                self.missed = true;
                make()?
            }
        };
        progress.events.made(image.id);
        self.config = image.config.clone();
        self.image = Some(image);
        Ok(())
    }

    fn key(&self, build: &Build<'_>, act: &str) -> StepKey {
        let epoch = build.options.epoch.map(|epoch| format!("SOURCE_DATE_EPOCH={} ", epoch.as_second()));
        StepKey::new(self.image.as_ref().map(|image| image.id), &format!("{}{act}", epoch.unwrap_or_default()))
    }

    /// The environment of a command: the image's, and the arguments that it does not override.
    pub(super) fn environment(&self, build: &Build<'_>) -> Result<(Vec<String>, Vec<String>)> {
        let settings = self.config.runs()?;
        let env = settings::list(&settings, "Env");
        let args = self.args.iter().filter(|(name, _)| settings::env(&settings, name).is_none());
        let args: Vec<String> = args.map(|(name, value)| format!("{name}={value}")).collect();
        let proxies = build.options.args.iter().filter(|(name, _)| super::is_proxy(name));
        let proxies = proxies.map(|(name, value)| format!("{name}={value}"));
        Ok(([proxies.collect::<Vec<_>>(), args.clone(), env].concat(), args))
    }
}

impl Build<'_> {
    /// Publishes the image of a step without files.
    fn configured(
        &self,
        key: &StepKey,
        before: &Config,
        created_by: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Image> {
        self.publish(key, &before.stepped(&self.empty_step(created_by), change)?)
    }

    fn empty_step<'s>(&self, created_by: &'s str) -> config::Step<'s> {
        config::Step { created_by, comment: super::COMMENT, author: "", created: self.started, layer: None }
    }

    pub(super) fn stage(&self, index: usize) -> Result<&Stage> {
        let missing = || Error::new(Kind::NotFound, format!("stage {index} was not built"));
        self.done.get(&index).ok_or_else(missing)
    }

    /// An image of this store, or of a registry.
    pub(super) fn image(&self, name: &str) -> Result<Image> {
        loop {
            let found = match (Catalog::new(self.store).find_spelled_out(name), name.parse()) {
                (Err(missing), Ok(reference)) if missing.kind() == Kind::NotFound => {
                    let got = self.options.source.get(self.store, &reference);
                    got.map_err(|error| error.within(format!("{missing}; pull it")))
                }
                (found, _) => found,
            };
            // Removed at this moment it has no name any more, or another image has it.
            if let Some(image) = self.held(found?.id)? {
                return Ok(image);
            }
            interrupt::check()?;
        }
    }

    pub(super) fn refuse_other_platform(&self, index: usize) -> Result<()> {
        let known = self.global_args()?;
        let wanted = self.dockerfile().platform(&self.dockerfile().stages[index], &|name| known.get(name).cloned())?;
        let Some(wanted) = wanted else { return Ok(()) };
        let ours = known.get("TARGETPLATFORM").cloned().unwrap_or_default();
        // The variant of an architecture is a detail that images rarely tell.
        if wanted == ours || wanted.starts_with(&format!("{ours}/")) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Unsupported,
            format!("platform {wanted} cannot be built on this machine, which is {ours}"),
        ))
    }
}
