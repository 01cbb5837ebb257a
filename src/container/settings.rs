//! How a container runs: what its image says, and what the user said instead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::signal::signal_of;
use crate::{
    error::{Error, Kind, Result},
    image::config::Config,
    runtime::Network,
    units::Bytes,
};

/// What a container has in a directory of its own that is not in its volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// What is there.
    pub source: Source,
    /// Where, an absolute path inside.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether a volume is not filled with what the image has there.
    #[serde(default)]
    pub no_copy: bool,
}

/// Where such a directory comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A path of the host.
    Host(String),
    /// A volume with a name.
    Named(String),
    /// A volume that only this container knows.
    Anonymous,
}

/// A directory in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where, an absolute path inside.
    pub target: String,
    /// Mount options.
    pub options: Vec<String>,
}

/// See the module's comment. Kept as JSON; what is missing there is as by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The program and its first arguments, if the image or the user names one.
    pub entrypoint: Vec<String>,
    /// Further arguments; without an entrypoint the program is among them.
    pub cmd: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// `user[:group]`.
    pub user: String,
    /// The host's name inside; empty for the beginning of the ID.
    pub hostname: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether it has a standard input.
    pub stdin: bool,
    /// Whether that ends when the one who is attached goes.
    pub stdin_once: bool,
    /// Its network.
    pub network: Option<Network>,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// The most memory.
    pub memory: Option<Bytes>,
    /// Processors, in thousandths.
    pub milli_cpus: Option<u64>,
    /// The OCI runtime; none for the first that works.
    pub runtime: Option<String>,
    /// Whether it is removed when it has ended.
    pub auto_remove: bool,
    /// What asks it to stop; none for SIGTERM.
    pub stop_signal: Option<String>,
    /// Seconds that it has to stop.
    pub stop_timeout: Option<u64>,
    /// Volumes and directories of the host.
    pub volumes: Vec<VolumeMount>,
    /// Directories in memory.
    pub tmpfs: Vec<Tmpfs>,
}

/// What the user says instead of the image.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The program, with which the image's arguments have nothing to do.
    pub entrypoint: Option<String>,
    /// The arguments; empty for the image's.
    pub cmd: Vec<String>,
    /// `NAME=VALUE`, over the image's; `NAME` takes the image's away.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// What asks it to stop.
    pub stop_signal: Option<String>,
    /// All that no image says.
    pub rest: Settings,
}

/// The object `config` of an image configuration, as far as it matters here (moby, image/spec v1.2).
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct OfImage {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, Value>>,
}

/// One way to write a place inside, so that two ways are not two places: without `.`, `..` and more than one slash.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    // What is not absolute is refused as it is.
    if path.starts_with('/') { format!("/{}", parts.join("/")) } else { path.to_owned() }
}

impl Settings {
    /// The settings of a container of the image with this configuration.
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be read, a directory that is not absolute, or an unknown signal.
    pub fn of(config: &Config, wanted: Overrides) -> Result<Self> {
        let image: OfImage = serde_json::from_value(Value::Object(config.runs()?))
            .map_err(|error| Error::with_source(Kind::Invalid, "read how a container of the image runs", error))?;
        let (entrypoint, image_cmd) = match wanted.entrypoint {
            Some(program) => (Some(program).into_iter().filter(|program| !program.is_empty()).collect(), Vec::new()),
            None => (image.entrypoint.unwrap_or_default(), image.cmd.unwrap_or_default()),
        };
        let mut settings = Self {
            entrypoint,
            cmd: if wanted.cmd.is_empty() { image_cmd } else { wanted.cmd },
            env: image.env.unwrap_or_default(),
            working_dir: wanted.working_dir.or(image.working_dir).unwrap_or_default(),
            user: wanted.user.or(image.user).unwrap_or_default(),
            stop_signal: wanted.stop_signal.or(image.stop_signal),
            ..wanted.rest
        };
        wanted.env.iter().for_each(|pair| set(&mut settings.env, pair));
        let places = settings.volumes.iter_mut().map(|volume| &mut volume.target);
        places
            .chain(settings.tmpfs.iter_mut().map(|tmpfs| &mut tmpfs.target))
            .for_each(|target| *target = clean(target));
        for target in image.volumes.unwrap_or_default().into_keys().map(|target| clean(&target)) {
            if !settings.targets().any(|taken| taken == target) {
                settings.volumes.push(VolumeMount {
                    source: Source::Anonymous,
                    target,
                    read_only: false,
                    no_copy: false,
                });
            }
        }
        settings.check()?;
        Ok(settings)
    }

    /// The places of all that is not its own volume.
    pub(super) fn targets(&self) -> impl Iterator<Item = &str> {
        let volumes = self.volumes.iter().map(|volume| volume.target.as_str());
        volumes.chain(self.tmpfs.iter().map(|tmpfs| tmpfs.target.as_str()))
    }

    fn check(&self) -> Result<()> {
        let invalid = |what: String| Err(Error::new(Kind::Invalid, what));
        if !self.working_dir.is_empty() && !self.working_dir.starts_with('/') {
            let directory = self.working_dir.escape_debug();
            return invalid(format!("the working directory '{directory}' is invalid, it needs to be an absolute path"));
        }
        let mut targets: Vec<&str> = self.targets().collect();
        targets.sort_unstable();
        if let Some([target, _]) = targets.windows(2).find(|pair| pair.first() == pair.last()) {
            return invalid(format!("duplicate mount point: {target}"));
        }
        if let Some(target) = targets.iter().find(|target| !target.starts_with('/') || **target == "/") {
            return invalid(format!("invalid mount path: '{target}' must be absolute, and not '/'"));
        }
        if let Some(signal) = &self.stop_signal {
            signal_of(signal)?;
        }
        Ok(())
    }

    /// Program and arguments.
    pub fn args(&self) -> Vec<String> {
        [self.entrypoint.as_slice(), self.cmd.as_slice()].concat()
    }

    /// The signal that asks it to stop.
    ///
    /// # Errors
    /// `Invalid` for one that there is not.
    pub fn stop_signal(&self) -> Result<i32> {
        self.stop_signal.as_deref().map_or(Ok(libc::SIGTERM), signal_of)
    }
}

/// Adds a variable, or gives it another value; a name alone takes it away.
pub(super) fn set(env: &mut Vec<String>, pair: &str) {
    let name = |pair: &str| pair.split_once('=').map_or(pair, |(name, _)| name).to_owned();
    if !pair.contains('=') {
        return env.retain(|old| name(old) != pair);
    }
    match env.iter_mut().find(|old| name(old) == name(pair)) {
        Some(old) => pair.clone_into(old),
        None => env.push(pair.to_owned()),
    }
}

#[cfg(test)]
mod tests {

    use super::{Overrides, Settings, Source};
    use crate::image::config::Config;

    fn config(runs: &str) -> Config {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{runs}}}"#
        );
        Config::parse(text.into_bytes()).unwrap()
    }

    #[test]
    fn the_user_overrules_the_image() {
        let image = config(
            r#"{"Entrypoint":["e"],"Cmd":["c"],"Env":["A=1","B=2"],"WorkingDir":"/w","User":"u","StopSignal":"SIGINT","Volumes":{"/v":{}}}"#,
        );
        let plain = Settings::of(&image, Overrides::default()).unwrap();
        assert_eq!((plain.args(), plain.working_dir.as_str()), (vec!["e".to_owned(), "c".to_owned()], "/w"));
        assert_eq!((plain.stop_signal().unwrap(), &plain.volumes[0].source), (libc::SIGINT, &Source::Anonymous));
        let wanted = Overrides {
            cmd: vec!["x".into()],
            env: vec!["B=3".into(), "C=".into(), "A".into(), "NONE".into()],
            ..Overrides::default()
        };
        let changed = Settings::of(&image, wanted).unwrap();
        assert_eq!((changed.args(), changed.env), (vec!["e".into(), "x".into()], vec!["B=3".into(), "C=".into()]));
        let wanted = Overrides { entrypoint: Some("p".into()), ..Overrides::default() };
        assert_eq!(Settings::of(&image, wanted).unwrap().args(), ["p"], "the image's arguments were for its program");
        let wanted = Overrides { working_dir: Some("w".into()), ..Overrides::default() };
        assert!(Settings::of(&image, wanted).unwrap_err().to_string().contains("absolute"));
    }
}
