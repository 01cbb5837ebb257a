//! Which fields of which instructions expand: those that the Dockerfile reference lists, and the flags that BuildKit
//! expands besides. Commands and triggers are left to the shell, and to the build that runs them.

use super::{
    expand::Expander,
    here_doc::HereDoc,
    instruction::{Instruction, Run, Source, Transfer},
    mount::RunMount,
};
use crate::error::Result;

impl Instruction {
    /// The instruction with its variables replaced and its quotes taken off. `lookup` tells the values from before the
    /// instruction, `escape` is the file's escape character.
    ///
    /// # Errors
    /// [`Invalid`](crate::Kind::Invalid), without a position: see [`super::Dockerfile::expand`].
    pub fn expand(&self, lookup: &dyn Fn(&str) -> Option<String>, escape: char) -> Result<Self> {
        let words = Expander::new(lookup, escape);
        Ok(match self {
            Self::Add(transfer) => Self::Add(expand_transfer(transfer, &words, lookup)?),
            Self::Copy(transfer) => Self::Copy(expand_transfer(transfer, &words, lookup)?),
            Self::Arg(arguments) => Self::Arg(expand_arguments(arguments, &words)?),
            Self::Env(pairs) => Self::Env(expand_pairs(pairs, &words)?),
            Self::Label(pairs) => Self::Label(expand_pairs(pairs, &words)?),
            Self::Expose(ports) => {
                let ports = ports.iter().map(|port| words.words(port)).collect::<Result<Vec<_>>>()?;
                Self::Expose(ports.concat())
            }
            Self::Run(run) => Self::Run(expand_run(run, &words)?),
            Self::Stopsignal(signal) => Self::Stopsignal(words.word(signal)?),
            Self::User(user) => Self::User(words.word(user)?),
            Self::Volume(paths) => Self::Volume(expand_all(paths, &words)?),
            Self::Workdir(path) => Self::Workdir(words.word(path)?),
            Self::Cmd(_)
            | Self::Entrypoint(_)
            | Self::Healthcheck(_)
            | Self::Maintainer(_)
            | Self::Onbuild(_)
            | Self::Shell(_) => self.clone(),
        })
    }
}

fn expand_all(texts: &[String], words: &Expander<'_>) -> Result<Vec<String>> {
    texts.iter().map(|text| words.word(text)).collect()
}

fn expand_option(text: Option<&String>, words: &Expander<'_>) -> Result<Option<String>> {
    text.map(|text| words.word(text)).transpose()
}

fn expand_pairs(pairs: &[(String, String)], words: &Expander<'_>) -> Result<Vec<(String, String)>> {
    pairs.iter().map(|(name, value)| Ok((words.word(name)?, words.word(value)?))).collect()
}

fn expand_arguments(
    arguments: &[(String, Option<String>)],
    words: &Expander<'_>,
) -> Result<Vec<(String, Option<String>)>> {
    arguments.iter().map(|(name, value)| Ok((words.word(name)?, expand_option(value.as_ref(), words)?))).collect()
}

fn expand_transfer(
    transfer: &Transfer,
    words: &Expander<'_>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Transfer> {
    let documents = Expander::here_document(lookup);
    let source = |source: &Source| {
        Ok(match source {
            Source::Path(path) => Source::Path(words.word(path)?),
            Source::HereDoc(document) if document.expand => {
                Source::HereDoc(HereDoc { content: documents.word(&document.content)?, ..document.clone() })
            }
            literal @ Source::HereDoc(_) => literal.clone(),
        })
    };
    Ok(Transfer {
        sources: transfer.sources.iter().map(source).collect::<Result<_>>()?,
        dest: words.word(&transfer.dest)?,
        chown: expand_option(transfer.chown.as_ref(), words)?,
        chmod: expand_option(transfer.chmod.as_ref(), words)?,
        checksum: expand_option(transfer.checksum.as_ref(), words)?,
        exclude: expand_all(&transfer.exclude, words)?,
        ..transfer.clone()
    })
}

fn expand_run(run: &Run, words: &Expander<'_>) -> Result<Run> {
    let mounts = run.mount_texts.iter().map(|text| RunMount::parse(text, |value| words.word(value)));
    Ok(Run { mounts: mounts.collect::<Result<_>>()?, ..run.clone() })
}
