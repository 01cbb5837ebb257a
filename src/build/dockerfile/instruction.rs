//! What the instructions of a stage say, each as a value.

use std::time::Duration;

use super::{here_doc::HereDoc, mount::RunMount};

/// One instruction. Words keep their variables, quotes and escapes until [`expand`](Self::expand) takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`: files, archives to unpack, URLs.
    Add(Transfer),
    /// `ARG`: names with their default values.
    Arg(Vec<(String, Option<String>)>),
    /// `CMD`.
    Cmd(Command),
    /// `COPY`: files of the context or of another stage or image.
    Copy(Transfer),
    /// `ENTRYPOINT`; an empty JSON array takes away the base image's.
    Entrypoint(Command),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: ports, each `PORT[-PORT][/PROTOCOL]`; not checked.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`: keys and values.
    Label(Vec<(String, String)>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the text of the trigger with its here-documents, well formed: see [`super::Dockerfile::trigger`].
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`: at least one word.
    Shell(Vec<String>),
    /// `STOPSIGNAL`: a name or a number; not checked.
    Stopsignal(String),
    /// `USER`: `USER[:GROUP]`.
    User(String),
    /// `VOLUME`: paths.
    Volume(Vec<String>),
    /// `WORKDIR`: a path, perhaps relative to the one before.
    Workdir(String),
}

/// A command line in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A line for the stage's shell.
    Shell(String),
    /// A program and its arguments, written as a JSON array.
    Exec(Vec<String>),
}

/// What `COPY` and `ADD` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// What is copied, in its order.
    pub sources: Vec<Source>,
    /// Where to; a directory if it ends with `/`.
    pub dest: String,
    /// `COPY --from`: a stage's name or number, or an image.
    pub from: Option<String>,
    /// `--chown=USER[:GROUP]`.
    pub chown: Option<String>,
    /// `--chmod`: a mode.
    pub chmod: Option<String>,
    /// `--link`: a layer of its own.
    pub link: bool,
    /// `COPY --parents`: the directories of the sources, too.
    pub parents: bool,
    /// `--exclude`: patterns as in `.dockerignore`.
    pub exclude: Vec<String>,
    /// `ADD --checksum`: the digest that a download must have.
    pub checksum: Option<String>,
    /// `ADD --keep-git-dir`.
    pub keep_git_dir: bool,
    /// `ADD --unpack`: whether archives are unpacked; if not given, local ones are and downloads are not.
    pub unpack: Option<bool>,
}

/// One source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path, a pattern of paths, or for `ADD` a URL.
    Path(String),
    /// A file that stands in the Dockerfile.
    HereDoc(HereDoc),
}

/// What `RUN` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command as written, with the `<<NAME` of its here-documents.
    pub command: Command,
    /// The here-documents in their order; their variables are the shell's.
    pub here_docs: Vec<HereDoc>,
    /// `--mount`. Fields may hold variables, so the list is empty until the instruction is expanded.
    pub mounts: Vec<RunMount>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<String>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<String>,
    /// The mounts as written.
    pub(super) mount_texts: Vec<String>,
}

/// What a `RUN` comes to, once its here-documents are put where they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A text for the stage's shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A file to make executable and run, for its first line names its interpreter (`#!`).
    Script {
        /// The file's name.
        name: String,
        /// The file's text.
        content: String,
    },
}

/// What `HEALTHCHECK` says; a value that is absent or zero is the engine's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: also not the base image's.
    None,
    /// `CMD`.
    Check {
        /// What tells the health.
        command: Command,
        /// Time between checks.
        interval: Option<Duration>,
        /// Time after which a check counts as failed.
        timeout: Option<Duration>,
        /// Time after the start in which failures do not count.
        start_period: Option<Duration>,
        /// Time between checks within the start period.
        start_interval: Option<Duration>,
        /// Failures in a row that make it unhealthy.
        retries: Option<u32>,
    },
}

impl Run {
    /// What is to be run. A here-document alone is itself the text or the script; next to a command it is the shell's.
    pub fn program(&self) -> Program {
        let line = match &self.command {
            Command::Exec(words) => return Program::Exec(words.clone()),
            Command::Shell(line) => line,
        };
        match self.here_docs.as_slice() {
            [document] if super::here_doc::Marker::parse(line).is_some() => {
                if document.content.starts_with("#!") {
                    return Program::Script { name: document.name.clone(), content: document.content.clone() };
                }
                Program::Shell(document.content.clone())
            }
            documents => Program::Shell(with_documents(line, documents)),
        }
    }
}

/// A line with its here-documents after it, as a shell or a Dockerfile has them.
pub(super) fn with_documents(line: &str, documents: &[HereDoc]) -> String {
    documents.iter().fold(line.to_owned(), |text, document| text + "\n" + &document.content + &document.name)
}
