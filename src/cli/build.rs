//! `lamina build`.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use jiff::Timestamp;

use super::{Global, input::Input, output, pull, registry::Reach};
use crate::{
    build::{Events, Images, Options, build, dockerfile::Dockerfile, ignore::Ignore},
    error::{self, Act as _, Error, Kind},
    id::ImageId,
    image::{catalog::Image, reference::Reference, registry::Connection},
    runtime::Network,
    store::Store,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to call the image; may be given several times
    #[arg(short, long = "tag", value_name = "REF")]
    tags: Vec<Reference>,
    /// The Dockerfile; '-' is standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The value of a build argument; NAME alone takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    args: Vec<String>,
    /// Build this stage and what it needs
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Do every step anew
    #[arg(long)]
    no_cache: bool,
    /// What RUN sees of the network
    #[arg(long, default_value = "host")]
    network: NetworkName,
    /// How to show the steps: both ways are Docker's lines, as the steps are done one after the other
    #[arg(long, default_value = "auto")]
    progress: Progress,
    /// Print only the image's ID
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
    /// The directory that COPY and ADD take files from
    context: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Progress {
    Auto,
    Plain,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NetworkName {
    None,
    Host,
}

/// Docker's words, on standard error.
struct Told {
    quiet: bool,
}

impl Events for Told {
    fn step(&mut self, index: usize, count: usize, text: &str) {
        self.say(format_args!("Step {index}/{count} : {text}"));
    }

    fn cached(&mut self) {
        self.say(format_args!(" ---> Using cache"));
    }

    fn made(&mut self, image: ImageId) {
        self.say(format_args!(" ---> {}", image.0.short()));
    }

    fn note(&mut self, text: &str) {
        self.say(format_args!("# {text}"));
    }
}

/// Registries, told of as `pull` does.
#[derive(Debug)]
struct Registries {
    connection: Connection,
    quiet: bool,
}

impl Images for Registries {
    fn get(&self, store: &Store, reference: &Reference) -> error::Result<Image> {
        pull::told(store, reference, None, &self.connection, self.quiet).map(|pulled| pulled.image)
    }
}

impl Told {
    fn say(&self, text: std::fmt::Arguments<'_>) {
        if !self.quiet {
            output::tell(format_args!("{text}"));
        }
    }
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let options = self.options()?;
        let store = global.store()?;
        let mut told = match self.progress {
            Progress::Auto | Progress::Plain => Told { quiet: self.quiet },
        };
        let image = build(&store, &options, &self.context, &mut told)?;
        told.say(format_args!("Successfully built {}", image.id.0.short()));
        for tag in &self.tags {
            told.say(format_args!("Successfully tagged {tag}"));
        }
        output::line(image.id).with_context(|| format!("image {} is built", image.id))
    }

    fn options(&self) -> Result<Options> {
        let file = self.file.clone().unwrap_or_else(|| self.context.join("Dockerfile"));
        let text = if file.as_os_str() == "-" {
            io::read_to_string(Input::new()?).act(|| "read the Dockerfile from standard input")?
        } else {
            fs::read_to_string(&file).act(|| format!("read {}", file.display()))?
        };
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        Ok(Options {
            dockerfile: Dockerfile::parse(&name, &text)?,
            ignore: ignore(&self.context, &file)?,
            tags: self.tags.clone(),
            args: self.build_args()?,
            target: self.target.clone(),
            cache: !self.no_cache,
            network: match self.network {
                NetworkName::None => Network::None,
                NetworkName::Host => Network::Host,
            },
            source: Box::new(Registries { connection: self.reach.connection(), quiet: self.quiet }),
            epoch: epoch()?,
        })
    }

    fn build_args(&self) -> Result<BTreeMap<String, String>> {
        let mut args = BTreeMap::new();
        for arg in &self.args {
            match arg.split_once('=') {
                Some(("", _)) => {
                    return Err(Error::new(Kind::Invalid, format!("--build-arg {arg}: the name is empty")).into());
                }
                Some((name, value)) => args.insert(name.to_owned(), value.to_owned()),
                None => env::var(arg).ok().and_then(|value| args.insert(arg.clone(), value)),
            };
        }
        Ok(args)
    }
}

/// The list beside the Dockerfile counts more than that of the context, as in BuildKit.
fn ignore(context: &Path, file: &Path) -> Result<Ignore> {
    let mut own = file.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        match fs::read(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            bytes => {
                let bytes = bytes.act(|| format!("read {}", path.display()))?;
                return Ignore::parse(&bytes).with_context(|| format!("read {}", path.display()));
            }
        }
    }
    Ok(Ignore::parse(b"")?)
}

/// The time that replaces the present (reproducible-builds.org/specs/source-date-epoch).
fn epoch() -> Result<Option<Timestamp>> {
    let Some(text) = env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds =
        text.to_str().and_then(|text| text.parse().ok()).and_then(|seconds| Timestamp::from_second(seconds).ok());
    match seconds {
        Some(time) => Ok(Some(time)),
        None => Err(Error::new(
            Kind::Invalid,
            format!("SOURCE_DATE_EPOCH={} is not a number of seconds since 1970", text.to_string_lossy()),
        )
        .into()),
    }
}
