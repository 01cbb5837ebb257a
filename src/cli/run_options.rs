//! How a container is to run: the options that `run` and `create` share.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    container::{Overrides, Settings, Tmpfs, VolumeMount, checked_name, parse_volume, signal_of},
    error::{Error, Kind},
    runtime::{Network, OciRuntime},
    units::Bytes,
};

/// Docker's `-h` is no help here.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct RunOptions {
    /// Name of the container; one is made up if none is given
    #[arg(long, value_parser = checked_name)]
    pub(super) name: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Remove it when it has ended
    #[arg(long)]
    pub(super) rm: bool,
    /// Set a variable; without a value it gets the one that it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Where the process starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who it runs as, names and numbers as the image knows them
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The program, instead of the image's; its arguments are those after IMAGE
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// The network: only a loopback device, or the host's
    #[arg(long, alias = "net", value_name = "none|host", default_value = "none", value_parser = network)]
    network: Network,
    /// Show a directory of the host, or a volume
    #[arg(short, long, value_name = "[/HOST:|VOLUME:]/DIR[:ro]", value_parser = parse_volume)]
    volume: Vec<VolumeMount>,
    /// Have a directory in memory
    #[arg(long, value_name = "DIR[:OPTIONS]", value_parser = tmpfs)]
    tmpfs: Vec<Tmpfs>,
    /// size=SIZE: how much it may write to its own layer, as 10G or 512M
    #[arg(long, value_name = "size=SIZE", value_parser = size_option)]
    pub(super) storage_opt: Option<Bytes>,
    /// The most memory, at least 6M
    #[arg(short, long, value_parser = memory)]
    memory: Option<Bytes>,
    /// The most processor time, as a number of processors: 1.5
    #[arg(long, value_parser = milli_cpus)]
    cpus: Option<u64>,
    /// The host's name inside
    #[arg(short = 'h', long, value_parser = hostname)]
    hostname: Option<String>,
    /// Which OCI runtime
    #[arg(long, value_name = "crun|runc", value_parser = runtime)]
    runtime: Option<String>,
    /// What asks the process to stop
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    stop_signal: Option<String>,
    /// How long it has to stop before it is killed
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u64>,
    /// Write the container's ID into a new file
    #[arg(long, value_name = "FILE")]
    pub(super) cidfile: Option<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Reference or ID of the image
    pub(super) image: String,
    /// Arguments, or program and arguments if the image has no entrypoint
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl RunOptions {
    /// What they say, for a container that is attached to from its beginning or not.
    pub(super) fn overrides(&self, attached: bool) -> Result<Overrides> {
        Ok(Overrides {
            entrypoint: self.entrypoint.clone(),
            cmd: self.command.clone(),
            env: self.variables()?,
            working_dir: self.workdir.clone(),
            user: self.user.clone(),
            stop_signal: self.stop_signal.clone(),
            rest: Settings {
                hostname: self.hostname.clone().unwrap_or_default(),
                terminal: self.tty,
                stdin: self.interactive,
                stdin_once: self.interactive && attached,
                network: Some(self.network),
                read_only: self.read_only,
                // Docker's words for no limit.
                memory: self.memory.filter(|memory| *memory > Bytes(0)),
                milli_cpus: self.cpus.filter(|cpus| *cpus > 0),
                runtime: self.runtime.clone(),
                auto_remove: self.rm,
                stop_timeout: self.stop_timeout,
                volumes: self.volume.clone(),
                tmpfs: self.tmpfs.clone(),
                ..Settings::default()
            },
        })
    }

    /// Those of files first, so that the command line has the last word.
    fn variables(&self) -> Result<Vec<String>> {
        let mut pairs = Vec::new();
        for path in &self.env_file {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
            for line in lines {
                pairs.extend(variable(line).with_context(|| format!("read {}", path.display()))?);
            }
        }
        pairs.extend(variables(&self.env)?);
        Ok(pairs)
    }
}

/// `NAME=VALUE`, or `NAME` for the value here, if there is one.
fn variable(text: &str) -> Result<Option<String>> {
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    if name.is_empty() || name.contains(char::is_whitespace) {
        let what = format!("invalid environment variable: {}", text.escape_debug());
        return Err(Error::new(Kind::Invalid, what).into());
    }
    if text.contains('=') {
        return Ok(Some(text.to_owned()));
    }
    Ok(std::env::var(name).ok().map(|value| format!("{name}={value}")))
}

/// Those of a command line. A name that has no value here takes the image's away, as Docker's.
pub(super) fn variables(texts: &[String]) -> Result<Vec<String>> {
    texts.iter().map(|text| Ok(variable(text)?.unwrap_or_else(|| text.clone()))).collect()
}

type Parsed<T> = std::result::Result<T, Error>;

fn network(text: &str) -> Parsed<Network> {
    match text {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => Err(Error::new(Kind::Invalid, format!("network '{other}' is not one of none, host"))),
    }
}

/// Options of a directory in memory (tmpfs(5), mount(8)).
const TMPFS_VALUES: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];
const TMPFS_FLAGS: [&str; 10] = ["ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "relatime"];

fn is_tmpfs_option(option: &str) -> bool {
    let size = |value: &str| {
        let digits = value.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', '%']);
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) && value.len() <= digits.len() + 1
    };
    match option.split_once('=') {
        None => TMPFS_FLAGS.contains(&option),
        Some((name, value)) => TMPFS_VALUES.contains(&name) && size(value),
    }
}

fn tmpfs(text: &str) -> Parsed<Tmpfs> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err(Error::new(Kind::Invalid, format!("'{target}' is not an absolute path")));
    }
    let options: Vec<String> = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    if let Some(bad) = options.iter().find(|option| !is_tmpfs_option(option)) {
        let known = TMPFS_VALUES.iter().map(|name| format!("{name}=")).chain(TMPFS_FLAGS.map(str::to_owned));
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(Error::new(Kind::Invalid, format!("invalid tmpfs option '{bad}'; it is one of {known}")));
    }
    Ok(Tmpfs { target: target.to_owned(), options })
}

/// The smallest limit: what a file system needs for itself would be most of less.
const SMALLEST: Bytes = Bytes::mib(16);

/// Reads `size=SIZE`.
fn size_option(text: &str) -> Parsed<Bytes> {
    let invalid = |what: String| Err(Error::new(Kind::Invalid, what));
    let Some(size) = text.strip_prefix("size=") else {
        return invalid(format!("storage option '{text}' is not size=SIZE"));
    };
    match size.parse::<Bytes>()? {
        size if size < SMALLEST => invalid(format!("size={size} is too small; the smallest is {SMALLEST}")),
        size => Ok(size),
    }
}

/// Docker's lower limit: below it a runtime cannot even start.
fn memory(text: &str) -> Parsed<Bytes> {
    let size: Bytes = text.parse()?;
    if size == Bytes(0) || size >= Bytes::mib(6) {
        Ok(size)
    } else {
        Err(Error::new(Kind::Invalid, "minimum memory limit allowed is 6MB"))
    }
}

fn milli_cpus(text: &str) -> Parsed<u64> {
    let bad = || Error::new(Kind::Invalid, format!("'{text}' is not a number of processors such as 0.5 or 2"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    let thousandths = format!("{fraction:0<3}").get(..3).and_then(|text| text.parse::<u64>().ok());
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(1000));
    let milli = whole.zip(thousandths).and_then(|(whole, rest)| whole.checked_add(rest)).ok_or_else(bad)?;
    // The kernel counts no less than a thousandth of a second in a period of a tenth.
    let most = std::thread::available_parallelism().map_or(u64::MAX, |count| count.get() as u64 * 1000);
    match milli {
        0 | 10.. if milli <= most => Ok(milli),
        10.. => {
            let what = format!("there are only {} processors here, and '{text}' is more", most / 1000);
            Err(Error::new(Kind::Invalid, what))
        }
        _ => Err(Error::new(Kind::Invalid, "the fewest processors are 0.01")),
    }
}

/// What sethostname(2) and RFC 1123 allow.
fn hostname(text: &str) -> Parsed<String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !text.is_empty() && text.len() <= 63 && text.chars().all(fine) && !text.starts_with('-') {
        return Ok(text.to_owned());
    }
    Err(Error::new(Kind::Invalid, format!("invalid hostname format: {}", text.escape_debug())))
}

fn runtime(text: &str) -> Parsed<String> {
    text.parse::<OciRuntime>().map(|_| text.to_owned())
}

fn signal(text: &str) -> Parsed<String> {
    signal_of(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{hostname, memory, milli_cpus, tmpfs, variable};

    #[test]
    fn values_are_checked_where_they_are_given() {
        assert_eq!(
            (milli_cpus("1.5").unwrap(), milli_cpus("2").unwrap(), milli_cpus("0.05").unwrap()),
            (1500, 2000, 50)
        );
        for bad in ["", "x", "-1", "0.001", "1.", ".5", "1e3"] {
            assert!(milli_cpus(bad).is_err(), "{bad}");
        }
        assert!(memory("5M").is_err() && memory("6M").is_ok() && memory("0").is_ok() && memory("x").is_err());
        assert!(hostname("a-b.c").is_ok() && hostname("").is_err() && hostname("a b").is_err());
        assert_eq!(tmpfs("/t:size=1m,mode=700").unwrap().options, ["size=1m", "mode=700"]);
        assert!(tmpfs("t").is_err());
        assert_eq!(variable("A=b=c").unwrap().unwrap(), "A=b=c");
        assert_eq!(variable("LAMINA_NOT_SET").unwrap(), None);
        assert!(variable("=x").is_err());
    }
}
