//! From a line to what it says: keyword, flags, arguments. The rules are those of BuildKit's instructions/parse.go.

use std::{fmt::Display, time::Duration};

use super::{
    duration,
    flags::Flags,
    here_doc::Marker,
    instruction::{Command, Healthcheck, Instruction, Run, Source, Transfer, with_documents},
    lines::Line,
    mount::RunMount,
    nearest, words,
};
use crate::error::{Error, Result};

const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The shortest interval that the engine takes, a millisecond as in moby's `MinimumDuration`.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// What a line is.
pub(super) enum Statement {
    From(From),
    Step(Instruction),
}

/// `FROM`: begins a stage.
pub(super) struct From {
    pub(super) base: String,
    pub(super) platform: Option<String>,
    pub(super) name: Option<String>,
}

/// Reads the instruction that begins at an offset of the line.
pub(super) fn statement(line: &Line<'_>, start: usize, escape: char) -> Result<Statement> {
    let text = &line.text[start..];
    let word = &text[..text.find(char::is_whitespace).unwrap_or(text.len())];
    let keyword = word.to_uppercase();
    if !INSTRUCTIONS.contains(&keyword.as_str()) {
        let hint = nearest::hint(word, INSTRUCTIONS);
        return Err(line.error(start, format!("unknown instruction '{word}'{hint}")));
    }
    let (flags, at) = Flags::read(line, start + word.len(), &keyword)?;
    let call = Call { line, escape, keyword: &keyword, start, flags, at };
    if keyword == "FROM" { call.from().map(Statement::From) } else { call.instruction().map(Statement::Step) }
}

/// An instruction in pieces.
struct Call<'a> {
    line: &'a Line<'a>,
    escape: char,
    keyword: &'a str,
    /// Where the keyword stands in the line.
    start: usize,
    flags: Flags,
    /// Where the arguments begin in the line.
    at: usize,
}

impl Call<'_> {
    fn instruction(&self) -> Result<Instruction> {
        Ok(match self.keyword {
            "ADD" => Instruction::Add(self.transfer()?),
            "ARG" => Instruction::Arg(self.arguments()?),
            "CMD" => Instruction::Cmd(self.command(self.at)?),
            "COPY" => Instruction::Copy(self.transfer()?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command(self.at)?),
            "ENV" => Instruction::Env(self.pairs()?),
            "EXPOSE" => Instruction::Expose(self.list()?),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "MAINTAINER" => Instruction::Maintainer(self.whole()?),
            "ONBUILD" => Instruction::Onbuild(self.trigger()?),
            "RUN" => Instruction::Run(self.run()?),
            "SHELL" => Instruction::Shell(self.shell()?),
            "STOPSIGNAL" => Instruction::Stopsignal(self.whole()?),
            "USER" => Instruction::User(self.whole()?),
            "VOLUME" => Instruction::Volume(self.volumes()?),
            _ => Instruction::Workdir(self.whole()?),
        })
    }

    /// The arguments as written.
    fn rest(&self) -> &str {
        &self.line.text[self.at..]
    }

    /// An error that points at the instruction.
    fn error(&self, what: impl Display) -> Error {
        self.line.error(self.start, what)
    }

    fn need(&self, number: &str) -> Error {
        self.error(format!("{} needs {number}", self.keyword))
    }

    /// All that follows as one argument.
    fn whole(&self) -> Result<String> {
        if self.rest().is_empty() { Err(self.need("an argument")) } else { Ok(self.rest().to_owned()) }
    }

    fn list(&self) -> Result<Vec<String>> {
        self.whole()?;
        Ok(words::plain(self.rest()).map(|(_, word)| word.to_owned()).collect())
    }

    /// The arguments as a JSON array, if they are one.
    fn json(&self, at: usize) -> Result<Option<Vec<String>>> {
        words::json(&self.line.text[at..]).transpose().map_err(|what| self.line.error(at, what))
    }

    fn command(&self, at: usize) -> Result<Command> {
        let text = &self.line.text[at..];
        if text.is_empty() {
            return Err(self.need("a command"));
        }
        Ok(self.json(at)?.map_or_else(|| Command::Shell(text.to_owned()), Command::Exec))
    }

    fn from(&self) -> Result<From> {
        let words: Vec<_> = words::plain(self.rest()).collect();
        let (base, name) = match words.as_slice() {
            [(_, base)] => (*base, None),
            [(_, base), (_, keyword), name] if keyword.eq_ignore_ascii_case("AS") => (*base, Some(name)),
            _ => return Err(self.need("an image, or an image, AS and a name")),
        };
        let name = name.map(|(at, name)| {
            let lower = name.to_lowercase();
            let reason = "a stage's name begins with a letter and goes on with letters, digits, '-', '_' and '.'";
            let error = || self.line.error(self.at + at, format!("bad stage name '{name}': {reason}"));
            if is_stage_name(&lower) { Ok(lower) } else { Err(error()) }
        });
        Ok(From { base: base.to_owned(), platform: self.flags.text("platform"), name: name.transpose()? })
    }

    fn arguments(&self) -> Result<Vec<(String, Option<String>)>> {
        self.whole()?;
        let (words, _) = words::quoted(self.rest(), self.escape);
        let argument = |(at, word): (usize, &str)| match word.split_once('=') {
            Some(("", _)) => Err(self.line.error(self.at + at, "a name of ARG is blank")),
            Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
            None => Ok((word.to_owned(), None)),
        };
        words.into_iter().map(argument).collect()
    }

    /// `name=value ...`, or in the old form `name value`, where the value is all the rest.
    fn pairs(&self) -> Result<Vec<(String, String)>> {
        self.whole()?;
        let (words, _) = words::quoted(self.rest(), self.escape);
        if words.first().is_some_and(|(_, first)| !first.contains('=')) {
            let (name, value) = self.rest().split_once(char::is_whitespace).ok_or_else(|| self.need("a value"))?;
            return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
        }
        let pair = |(at, word): (usize, &str)| match word.split_once('=') {
            Some(("", _)) => Err(self.line.error(self.at + at, format!("a name of {} is blank", self.keyword))),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(self.line.error(self.at + at, format!("'{word}' has no '=': {} is NAME=VALUE", self.keyword))),
        };
        words.into_iter().map(pair).collect()
    }

    fn volumes(&self) -> Result<Vec<String>> {
        let paths = match self.json(self.at)? {
            Some(paths) => paths.iter().map(|path| path.trim().to_owned()).collect(),
            None => self.list()?,
        };
        if paths.is_empty() || paths.iter().any(String::is_empty) {
            return Err(self.need("paths that are not empty"));
        }
        Ok(paths)
    }

    fn shell(&self) -> Result<Vec<String>> {
        let words = self.json(self.at)?.filter(|words| !words.is_empty());
        words.ok_or_else(|| self.need("a JSON array of words: SHELL [\"/bin/sh\", \"-c\"]"))
    }

    /// The trigger is read here to find its mistakes, and again by the build that it triggers in.
    fn trigger(&self) -> Result<String> {
        self.whole()?;
        let word = self.rest().split_whitespace().next().unwrap_or_default().to_uppercase();
        if let "ONBUILD" | "FROM" | "MAINTAINER" = word.as_str() {
            return Err(self.line.error(self.at, format!("{word} cannot be a trigger of ONBUILD")));
        }
        statement(self.line, self.at, self.escape)?;
        Ok(with_documents(self.rest(), &self.line.here_docs))
    }

    fn run(&self) -> Result<Run> {
        let command = self.command(self.at)?;
        if let Command::Exec(words) = &command
            && words.is_empty()
        {
            return Err(self.need("a command"));
        }
        for (at, text) in self.flags.texts("mount").filter(|(_, text)| !text.contains('$')) {
            RunMount::parse(text, |value| Ok(value.to_owned())).map_err(|error| self.line.error(at, error))?;
        }
        Ok(Run {
            command,
            here_docs: self.line.here_docs.clone(),
            mounts: Vec::new(),
            network: self.choice("network", &["default", "none", "host"])?,
            security: self.choice("security", &["sandbox", "insecure"])?,
            mount_texts: self.flags.texts("mount").map(|(_, text)| text.to_owned()).collect(),
        })
    }

    fn choice(&self, flag: &str, choices: &[&str]) -> Result<Option<String>> {
        let Some(value) = self.flags.text(flag).filter(|value| !choices.contains(&value.as_str())) else {
            return Ok(self.flags.text(flag));
        };
        let hint = nearest::hint(&value, choices.iter().copied());
        let known = choices.join("', '");
        Err(self.line.error(self.flags.offset(flag), format!("'--{flag}' is one of '{known}', not '{value}'{hint}")))
    }

    fn transfer(&self) -> Result<Transfer> {
        let mut sources = match self.json(self.at)? {
            Some(paths) => paths.into_iter().map(Source::Path).collect(),
            None => self.sources()?,
        };
        let dest = match sources.pop() {
            Some(Source::Path(dest)) if !sources.is_empty() => dest,
            Some(Source::HereDoc(_)) => return Err(self.error("a here-document cannot be a destination")),
            _ => return Err(self.need("a source and a destination")),
        };
        let from = self.flags.text("from");
        if from.as_ref().is_some_and(|from| from.contains('$')) {
            let what = "'--from' has no variables; name a stage with FROM ... AS instead";
            return Err(self.line.error(self.flags.offset("from"), what));
        }
        Ok(Transfer {
            sources,
            dest,
            from,
            chown: self.flags.text("chown"),
            chmod: self.flags.text("chmod"),
            link: self.flags.switch("link").unwrap_or(false),
            parents: self.flags.switch("parents").unwrap_or(false),
            exclude: self.flags.texts("exclude").map(|(_, pattern)| pattern.to_owned()).collect(),
            checksum: self.flags.text("checksum"),
            keep_git_dir: self.flags.switch("keep-git-dir").unwrap_or(false),
            unpack: self.flags.switch("unpack"),
        })
    }

    /// The words of `COPY` and `ADD`, the last being the destination.
    fn sources(&self) -> Result<Vec<Source>> {
        if self.line.here_docs.is_empty() {
            return Ok(words::plain(self.rest()).map(|(_, word)| Source::Path(word.to_owned())).collect());
        }
        let (words, _) = words::quoted(self.rest(), '\\');
        let mut documents = self.line.here_docs.iter();
        let source = |(_, word): (usize, &str)| match Marker::parse(word).and_then(|_| documents.next()) {
            Some(document) => Source::HereDoc(document.clone()),
            None => Source::Path(word.to_owned()),
        };
        let sources = words.into_iter().map(source).collect();
        match documents.next() {
            Some(document) => Err(self.error(format!("here-document '{}': no space may follow '<<'", document.name))),
            None => Ok(sources),
        }
    }

    fn healthcheck(&self) -> Result<Healthcheck> {
        let rest = self.rest();
        let word = rest.split_whitespace().next().unwrap_or_default();
        let after = rest[word.len()..].trim_start();
        match word.to_uppercase().as_str() {
            "NONE" if after.is_empty() => Ok(Healthcheck::None),
            "NONE" => Err(self.error("HEALTHCHECK NONE has no arguments")),
            "CMD" => {
                let command = self.command(self.line.text.len() - after.len())?;
                if command == Command::Exec(Vec::new()) {
                    return Err(self.need("a command"));
                }
                Ok(Healthcheck::Check {
                    command,
                    interval: self.interval("interval")?,
                    timeout: self.interval("timeout")?,
                    start_period: self.interval("start-period")?,
                    start_interval: self.interval("start-interval")?,
                    retries: self.retries()?,
                })
            }
            _ => Err(self.need("CMD and a command, or NONE")),
        }
    }

    fn interval(&self, flag: &str) -> Result<Option<Duration>> {
        let Some(text) = self.flags.text(flag) else { return Ok(None) };
        match duration::parse(&text) {
            Some(Duration::ZERO) => Ok(None),
            Some(interval) if interval >= SHORTEST_INTERVAL => Ok(Some(interval)),
            _ => {
                let what = format!("'--{flag}={text}' is no duration of 1ms or more, such as '1m30s'");
                Err(self.line.error(self.flags.offset(flag), what))
            }
        }
    }

    fn retries(&self) -> Result<Option<u32>> {
        let Some(text) = self.flags.text("retries") else { return Ok(None) };
        match text.parse::<u32>() {
            Ok(number) if i32::try_from(number).is_ok() => Ok(Some(number).filter(|number| *number > 0)),
            _ => {
                let what = format!("'--retries={text}' is no number from 0 to {}", i32::MAX);
                Err(self.line.error(self.flags.offset("retries"), what))
            }
        }
    }
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}
