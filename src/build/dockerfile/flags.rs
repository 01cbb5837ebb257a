//! The flags of instructions: `--name=value` before the arguments.

use super::{lines::Line, nearest, words};
use crate::error::Result;

/// What may follow a flag's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// A value, once.
    Text,
    /// A value, any number of times.
    Texts,
    /// Nothing, `true` or `false`.
    Switch,
}

use Takes::{Switch, Text, Texts};

/// The flags that an instruction has, as the Dockerfile reference lists them.
fn known(keyword: &str) -> &'static [(&'static str, Takes)] {
    match keyword {
        "ADD" => &[
            ("chown", Text),
            ("chmod", Text),
            ("link", Switch),
            ("exclude", Texts),
            ("checksum", Text),
            ("keep-git-dir", Switch),
            ("unpack", Switch),
        ],
        "COPY" => &[
            ("chown", Text),
            ("chmod", Text),
            ("link", Switch),
            ("exclude", Texts),
            ("from", Text),
            ("parents", Switch),
        ],
        "FROM" => &[("platform", Text)],
        "HEALTHCHECK" => &[
            ("interval", Text),
            ("timeout", Text),
            ("start-period", Text),
            ("start-interval", Text),
            ("retries", Text),
        ],
        "RUN" => &[("mount", Texts), ("network", Text), ("security", Text)],
        _ => &[],
    }
}

struct Flag {
    offset: usize,
    name: String,
    value: Option<String>,
}

/// An instruction's flags, which it has and whose values are of the right kind.
pub(super) struct Flags(Vec<Flag>);

impl Flags {
    /// Reads the flags that begin at an offset of the line; also tells where the arguments begin.
    pub(super) fn read(line: &Line<'_>, from: usize, keyword: &str) -> Result<(Self, usize)> {
        let (found, end) = split(&line.text, from);
        let mut flags = Self(Vec::new());
        for flag in found {
            flags.check(&flag, keyword).map_err(|what| line.error(flag.offset, what))?;
            flags.0.push(flag);
        }
        Ok((flags, end))
    }

    fn check(&self, flag: &Flag, keyword: &str) -> Result<(), String> {
        let known = known(keyword);
        let name = &flag.name;
        let Some((_, takes)) = known.iter().find(|(known, _)| known == name) else {
            let (name, known) = (format!("--{name}"), known.iter().map(|(name, _)| format!("--{name}")));
            let known: Vec<String> = known.collect();
            let hint = nearest::hint(&name, known.iter().map(String::as_str));
            return Err(format!("{keyword} has no flag '{name}'{hint}"));
        };
        if *takes != Texts && self.value(name).is_some() {
            return Err(format!("{keyword} has the flag '--{name}' twice"));
        }
        match (takes, flag.value.as_deref()) {
            (Text | Texts, None) => Err(format!("the flag '--{name}' needs a value: '--{name}=VALUE'")),
            (Switch, Some(value)) if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") => {
                Err(format!("the flag '--{name}' is true or false, not '{value}'"))
            }
            _ => Ok(()),
        }
    }

    fn value(&self, name: &str) -> Option<&Option<String>> {
        self.0.iter().find(|flag| flag.name == name).map(|flag| &flag.value)
    }

    /// The value of a flag; an empty one is none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.value(name).cloned().flatten().filter(|value| !value.is_empty())
    }

    /// All values of a flag, and where each stands.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = (usize, &str)> {
        self.0
            .iter()
            .filter(move |flag| flag.name == name)
            .filter_map(|flag| flag.value.as_deref().map(|value| (flag.offset, value)))
    }

    /// Whether a switch is on or off, if it is given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value.as_ref().is_none_or(|value| value.eq_ignore_ascii_case("true")))
    }

    /// Where a flag stands, for errors about its value.
    pub(super) fn offset(&self, name: &str) -> usize {
        self.0.iter().find(|flag| flag.name == name).map_or(0, |flag| flag.offset)
    }
}

/// Words that begin with `--`, up to the first that does not or to a lone `--`.
fn split(text: &str, from: usize) -> (Vec<Flag>, usize) {
    let mut flags = Vec::new();
    let mut at = from;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, at);
        }
        let (word, length) = words::unquoted(&text[at..]);
        let offset = at;
        at += length;
        let Some(word) = word.strip_prefix("--").filter(|word| !word.is_empty()) else {
            return (flags, at + text[at..].len() - text[at..].trim_start().len());
        };
        flags.push(match word.split_once('=') {
            Some((name, value)) => Flag { offset, name: name.to_owned(), value: Some(value.to_owned()) },
            None => Flag { offset, name: word.to_owned(), value: None },
        });
    }
}
