//! A Dockerfile as values: [`Dockerfile::parse`] reads it, [`Dockerfile::expand`] replaces an instruction's variables.
//!
//! Text becomes lines (`lines`, `here_doc`), a line becomes an instruction (`parse`, `flags`, `mount`), and just before
//! it is carried out its words are expanded (`expansion`, `expand`). Every error reads `NAME:LINE:COLUMN: what`.

mod duration;
mod expand;
mod expansion;
mod flags;
mod glob;
mod here_doc;
mod instruction;
mod lines;
mod mount;
mod nearest;
mod parse;
#[cfg(test)]
mod tests;
mod words;

use std::fmt::Display;

pub use self::{
    expand::Expander,
    here_doc::HereDoc,
    instruction::{Command, Healthcheck, Instruction, Program, Run, Source, Transfer},
    mount::{RunMount, Sharing},
};
use self::{
    lines::{Line, Lines},
    parse::Statement,
};
use crate::error::{Error, Result};

/// A Dockerfile that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// What errors call the file.
    pub name: String,
    /// The `ARG` instructions before the first `FROM`; only `FROM` sees their values.
    pub global_args: Vec<Step>,
    /// At least one stage.
    pub stages: Vec<Stage>,
    /// The escape character: `\`, or `` ` `` by directive.
    pub escape: char,
}

/// A `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in lower case as Docker makes it. Names may repeat: the last stage before a use counts.
    pub name: Option<String>,
    /// The image or stage that it begins with, not expanded: see [`Dockerfile::base`].
    pub base: String,
    /// `--platform`, not expanded: see [`Dockerfile::platform`].
    pub platform: Option<String>,
    /// Where `FROM` stands.
    pub position: Position,
    /// The source text of `FROM` on one line.
    pub text: String,
    /// The instructions up to the next `FROM`.
    pub steps: Vec<Step>,
}

/// An instruction and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it begins.
    pub position: Position,
    /// Its source text joined on one line, without here-documents, as Docker shows it.
    pub text: String,
    /// What it says, not expanded.
    pub instruction: Instruction,
}

/// A place in the file; lines and columns count from 1, a column is a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

impl Dockerfile {
    /// Reads a Dockerfile; `name` is what errors call it.
    ///
    /// # Errors
    /// [`Invalid`](crate::Kind::Invalid), at the first mistake: `NAME:LINE:COLUMN: what`.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut lines = Lines::new(name, text)?;
        let mut file =
            Self { name: name.to_owned(), global_args: Vec::new(), stages: Vec::new(), escape: lines.escape };
        while let Some(line) = lines.read()? {
            file.add(&line)?;
        }
        if file.stages.is_empty() {
            return Err(file.error(Position { line: 1, column: 1 }, "no stage: a Dockerfile needs a FROM"));
        }
        Ok(file)
    }

    fn add(&mut self, line: &Line<'_>) -> Result<()> {
        let (position, text) = (line.position(0), line.text.clone());
        match (parse::statement(line, 0, self.escape)?, self.stages.last_mut()) {
            (Statement::From(parse::From { base, platform, name }), _) => {
                self.stages.push(Stage { name, base, platform, position, text, steps: Vec::new() });
            }
            (Statement::Step(instruction), Some(stage)) => stage.steps.push(Step { position, text, instruction }),
            (Statement::Step(instruction @ Instruction::Arg(_)), None) => {
                self.global_args.push(Step { position, text, instruction });
            }
            (Statement::Step(_), None) => {
                return Err(line.error(0, "before the first FROM there is only ARG"));
            }
        }
        Ok(())
    }

    /// Reads the trigger of an `ONBUILD`, as an image's configuration keeps it; `name` is what errors call it. Its escape
    /// character is the backslash.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); also if it is not exactly one instruction that can be a trigger.
    pub fn trigger(name: &str, text: &str) -> Result<Step> {
        // Read as what it was, so that what may not follow ONBUILD is refused by the same rule.
        let whole = format!("ONBUILD {text}");
        let mut lines = Lines::new(name, &whole)?;
        let at = Position { line: 1, column: 1 };
        let Some(line) = lines.read()? else { return Err(lines::error(name, at, "the trigger is empty")) };
        parse::statement(&line, 0, '\\')?;
        if let Some(line) = lines.read()? {
            return Err(line.error(0, "a trigger is one instruction"));
        }
        let start = line.text.len() - line.text["ONBUILD".len()..].trim_start().len();
        match parse::statement(&line, start, '\\')? {
            Statement::Step(instruction) => Ok(Step { position: at, text: line.text[start..].to_owned(), instruction }),
            Statement::From(_) => Err(line.error(start, "FROM cannot be a trigger of ONBUILD")),
        }
    }

    /// An instruction with its variables replaced and its quotes taken off; see [`Instruction::expand`].
    ///
    /// # Errors
    /// [`Invalid`](crate::Kind::Invalid), at the step's position.
    pub fn expand(&self, step: &Step, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Instruction> {
        step.instruction.expand(lookup, self.escape).map_err(|error| self.error(step.position, error))
    }

    /// What a stage begins with: an image, an earlier stage, or `scratch`. `lookup` knows the global arguments only.
    ///
    /// # Errors
    /// [`Invalid`](crate::Kind::Invalid), at the stage's position, also if nothing is left of the name.
    pub fn base(&self, stage: &Stage, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
        match self.word(stage, &stage.base, lookup)? {
            base if base.is_empty() => {
                Err(self.error(stage.position, format!("the base '{}' comes to an empty name", stage.base)))
            }
            base => Ok(base),
        }
    }

    /// The platform that a stage asks for, if it does. `lookup` knows the global arguments only.
    ///
    /// # Errors
    /// [`Invalid`](crate::Kind::Invalid), at the stage's position.
    pub fn platform(&self, stage: &Stage, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>> {
        let platform = stage.platform.as_ref().map(|platform| self.word(stage, platform, lookup)).transpose()?;
        Ok(platform.filter(|platform| !platform.is_empty()))
    }

    fn word(&self, stage: &Stage, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
        Expander::new(lookup, self.escape).word(text).map_err(|error| self.error(stage.position, error))
    }

    /// An error that points into the file: `NAME:LINE:COLUMN: what`.
    pub fn error(&self, at: Position, what: impl Display) -> Error {
        lines::error(&self.name, at, what)
    }
}
