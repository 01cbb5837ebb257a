//! What instructions without files change: how a container of the image runs.
//!
//! The names are Docker's (moby, image/spec v1.2), of which the OCI image-spec has most.

use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use super::{
    dockerfile::{Command, Healthcheck, Instruction},
    target::absolute,
};
use crate::error::{Error, Kind, Result};

/// The object `config` of an image configuration.
pub(super) type Settings = Map<String, Value>;

/// What a shell form is given to, unless `SHELL` says otherwise.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Changes the settings as `instruction`, whose variables are replaced, says.
///
/// # Errors
/// `Invalid` for a port or a signal that is none.
pub(super) fn apply(settings: &mut Settings, instruction: &Instruction, has_cmd: bool) -> Result<()> {
    match instruction {
        Instruction::Env(pairs) => pairs.iter().for_each(|(name, value)| set_env(settings, name, value)),
        Instruction::Label(pairs) => {
            pairs.iter().for_each(|(name, value)| insert(settings, "Labels", name, value.as_str().into()))
        }
        Instruction::Expose(ports) => {
            for port in ports.iter().map(|port| exposed(port)).collect::<Result<Vec<_>>>()?.concat() {
                insert(settings, "ExposedPorts", &port, json!({}));
            }
        }
        Instruction::Volume(paths) => paths.iter().for_each(|path| insert(settings, "Volumes", path, json!({}))),
        Instruction::Cmd(command) => set(settings, "Cmd", argv(settings, command)),
        Instruction::Entrypoint(command) => {
            set(settings, "Entrypoint", argv(settings, command));
            // The base's command was meant for another program.
            if !has_cmd {
                settings.remove("Cmd");
            }
        }
        Instruction::User(user) => set(settings, "User", user.as_str()),
        Instruction::Workdir(path) => {
            let path = absolute(text(settings, "WorkingDir"), path).to_string_lossy().into_owned();
            set(settings, "WorkingDir", path);
        }
        Instruction::Shell(shell) => set(settings, "Shell", shell.clone()),
        Instruction::Stopsignal(signal) if !is_signal(signal) => {
            return Err(Error::new(Kind::Invalid, format!("invalid signal: {}", signal.escape_debug())));
        }
        Instruction::Stopsignal(signal) => set(settings, "StopSignal", signal.as_str()),
        Instruction::Healthcheck(check) => set(settings, "Healthcheck", health(check)),
        Instruction::Onbuild(trigger) => match settings.entry("OnBuild").or_insert_with(|| json!([])) {
            Value::Array(triggers) => triggers.push(trigger.as_str().into()),
            other => *other = json!([trigger]),
        },
        _ => {}
    }
    Ok(())
}

/// An instruction without files as the history shows it, variables replaced.
pub(super) fn shown(instruction: &Instruction) -> String {
    let pairs = |pairs: &[(String, String)]| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let command = |command: &Command| match command {
        Command::Shell(line) => line.clone(),
        Command::Exec(args) => json!(args).to_string(),
    };
    match instruction {
        Instruction::Env(env) => format!("ENV {}", pairs(env)),
        Instruction::Label(labels) => format!("LABEL {}", pairs(labels)),
        Instruction::Expose(ports) => format!("EXPOSE {}", ports.join(" ")),
        Instruction::Volume(paths) => format!("VOLUME {}", json!(paths)),
        Instruction::Cmd(cmd) => format!("CMD {}", command(cmd)),
        Instruction::Entrypoint(entrypoint) => format!("ENTRYPOINT {}", command(entrypoint)),
        Instruction::User(user) => format!("USER {user}"),
        Instruction::Workdir(path) => format!("WORKDIR {path}"),
        Instruction::Shell(shell) => format!("SHELL {}", json!(shell)),
        Instruction::Stopsignal(signal) => format!("STOPSIGNAL {signal}"),
        Instruction::Onbuild(trigger) => format!("ONBUILD {trigger}"),
        Instruction::Healthcheck(check) => format!("HEALTHCHECK {}", health(check)),
        Instruction::Maintainer(name) => format!("MAINTAINER {name}"),
        Instruction::Arg(args) => {
            let shown = args.iter().map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            format!("ARG {}", shown.collect::<Vec<_>>().join(" "))
        }
        // What writes files tells more than what is written, and shows itself.
        Instruction::Add(_) => "ADD".to_owned(),
        Instruction::Copy(_) => "COPY".to_owned(),
        Instruction::Run(_) => "RUN".to_owned(),
    }
}

fn set(settings: &mut Settings, key: &str, value: impl Into<Value>) {
    settings.insert(key.to_owned(), value.into());
}

/// Adds to an object among the settings.
fn insert(settings: &mut Settings, key: &str, name: &str, value: Value) {
    match settings.entry(key).or_insert_with(|| json!({})) {
        Value::Object(object) => {
            object.insert(name.to_owned(), value);
        }
        other => *other = Value::Object(Map::from_iter([(name.to_owned(), value)])),
    }
}

/// A text among the settings; empty if there is none.
pub(super) fn text<'s>(settings: &'s Settings, key: &str) -> &'s str {
    settings.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A list of texts among the settings.
pub(super) fn list(settings: &Settings, key: &str) -> Vec<String> {
    let values = settings.get(key).and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The value of a variable of the environment.
pub(super) fn env(settings: &Settings, name: &str) -> Option<String> {
    let pairs = settings.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn set_env(settings: &mut Settings, name: &str, value: &str) {
    let mut pairs = list(settings, "Env");
    let pair = format!("{name}={value}");
    match pairs.iter_mut().find(|pair| pair.split_once('=').is_some_and(|(key, _)| key == name)) {
        Some(old) => *old = pair,
        None => pairs.push(pair),
    }
    set(settings, "Env", pairs);
}

/// The shell of this image.
pub(super) fn shell(settings: &Settings) -> Vec<String> {
    let shell = list(settings, "Shell");
    if shell.is_empty() { SHELL.map(str::to_owned).to_vec() } else { shell }
}

/// Program and arguments: a shell form goes to the shell.
pub(super) fn argv(settings: &Settings, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(args) => args.clone(),
        Command::Shell(line) => {
            let mut args = shell(settings);
            args.push(line.clone());
            args
        }
    }
}

fn health(check: &Healthcheck) -> Value {
    let Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } = check else {
        return json!({ "Test": ["NONE"] });
    };
    let test = match command {
        Command::Exec(args) => [&["CMD".to_owned()], args.as_slice()].concat(),
        // Whoever runs it asks the image for its shell.
        Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    let mut value = Map::from_iter([("Test".to_owned(), json!(test))]);
    let times = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
    ];
    for (key, time) in times {
        if let Some(time) = time {
            value.insert(key.to_owned(), json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
        }
    }
    if let Some(retries) = retries {
        value.insert("Retries".to_owned(), json!(retries));
    }
    value.into()
}

/// Whether it is a signal by its number, or by its name with or without `SIG`; `RTMIN+3` is one, too.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return number > 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |start: &str, sign: char, most: u32| {
        let rest = name.strip_prefix(start);
        let number = rest.and_then(|rest| rest.strip_prefix(sign)).and_then(|number| number.parse::<u32>().ok());
        rest == Some("") || number.is_some_and(|number| (1..=most).contains(&number))
    };
    // Docker's names of old and of new (moby/sys/signal).
    ["CLD", "IOT", "POLL", "STKFLT", "UNUSED"].contains(&name)
        || format!("SIG{name}").parse::<Signal>().is_ok()
        || real_time("RTMIN", '+', 15)
        || real_time("RTMAX", '-', 14)
}

/// The ports of one argument of `EXPOSE`, each with its protocol.
fn exposed(text: &str) -> Result<Vec<String>> {
    let invalid = || Error::new(Kind::Invalid, format!("invalid containerPort: {}", text.escape_debug()));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(invalid());
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::{Settings, apply, env, exposed, is_signal, list, text};
    use crate::build::dockerfile::{Command, Instruction};

    #[test]
    fn instructions_change_what_they_say() {
        let mut settings = Settings::new();
        let mut does = |instruction: Instruction| apply(&mut settings, &instruction, false).unwrap();
        does(Instruction::Env(vec![("A".into(), "1".into()), ("B".into(), "2=3".into())]));
        does(Instruction::Env(vec![("A".into(), "4".into())]));
        does(Instruction::Workdir("/a".into()));
        does(Instruction::Workdir("b/../c".into()));
        does(Instruction::Shell(vec!["/bin/bash".into(), "-c".into()]));
        does(Instruction::Cmd(Command::Shell("x y".into())));
        does(Instruction::Volume(vec!["/data".into()]));
        assert_eq!(list(&settings, "Env"), ["A=4", "B=2=3"]);
        assert_eq!(env(&settings, "B").unwrap(), "2=3");
        assert_eq!(text(&settings, "WorkingDir"), "/a/c");
        assert_eq!(list(&settings, "Cmd"), ["/bin/bash", "-c", "x y"]);
        assert_eq!(settings["Volumes"]["/data"], serde_json::json!({}));
        apply(&mut settings, &Instruction::Entrypoint(Command::Exec(vec!["e".into()])), false).unwrap();
        assert_eq!(list(&settings, "Cmd"), Vec::<String>::new());
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for good in ["9", "SIGTERM", "quit", "sigkill", "RTMIN", "SIGRTMIN+3", "RTMAX-14", "POLL"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "-1", "FOO", "SIG", "RTMIN-1", "RTMIN+16", "TERM "] {
            assert!(!is_signal(bad), "{bad}");
        }
    }

    #[test]
    fn ports_have_protocols_and_ranges() {
        assert_eq!(exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(exposed("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(exposed("7-9").unwrap(), ["7/tcp", "8/tcp", "9/tcp"]);
        for bad in ["", "x", "70000", "9-7", "80/icmp"] {
            assert!(exposed(bad).is_err(), "{bad}");
        }
    }
}
