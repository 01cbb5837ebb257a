//! `lamina run`, `lamina start` and `lamina attach`: a container's process, and this terminal for it.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use super::{Global, for_each, output, pool, run_options::RunOptions};
use crate::{
    container::{Container, Containers, Order, Removal, Settings, Watch, Watched},
    error::{Act as _, Error, Kind},
    image::catalog::Catalog,
    runtime::{Keys, Wishes, ensure_terminal, refusal_code},
    store::Store,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do not wait for its end; print its ID
    #[arg(short, long)]
    detach: bool,
    /// Which keys leave its terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: Keys,
    #[command(flatten)]
    options: RunOptions,
}

#[derive(Debug, clap::Args)]
pub(super) struct StartArgs {
    /// Show its output and wait for its end
    #[arg(short, long)]
    attach: bool,
    /// Hand standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Which keys leave its terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: Keys,
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct AttachArgs {
    /// Do not hand standard input on
    #[arg(long)]
    no_stdin: bool,
    /// Which keys leave its terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: Keys,
    /// Name or ID
    container: String,
}

/// Docker's exit code for a command that was not run by our own fault.
const FAILED: u8 = 125;

/// A failure before the command ran, as an exit code.
pub(super) fn failure_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(not_run(error).unwrap_or(FAILED))
}

/// The exit code for a command that the runtime refused to run.
pub(super) fn not_run(error: &anyhow::Error) -> Option<u8> {
    refusal_code(error.downcast_ref::<Error>()?.kind())
}

/// A process's exit code as this process's.
pub(super) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Makes a container by `make`, whose ID goes to a file if one was asked for.
pub(super) fn create<T>(
    store: &Store,
    options: &RunOptions,
    attached: bool,
    needs_command: bool,
    make: impl FnOnce(&Order<'_>) -> crate::Result<(Container, T)>,
) -> Result<(Container, T)> {
    let image = Catalog::new(store).find(&options.image)?;
    let settings = Settings::of(&image.config, options.overrides(attached)?)?;
    // Without a command it can be mounted all the same, if it was not made to run.
    if needs_command && settings.args().is_empty() {
        return Err(Error::new(Kind::Invalid, "no command specified").into());
    }
    let file = options.cidfile.as_ref().map(|path| {
        let new = File::options().write(true).create_new(true).open(path);
        new.with_context(|| format!("make the container ID file {}", path.display()))
    });
    let file = file.transpose()?;
    let order = Order {
        image: &image,
        reference: &options.image,
        name: options.name.as_deref(),
        settings: &settings,
        limit: options.storage_opt,
    };
    let (container, with) = make(&order).map_err(|error| {
        let removed = options.cidfile.as_ref().map_or(Ok(()), std::fs::remove_file);
        error.and_undo(removed.act(|| "remove the container ID file"))
    })?;
    if let Some(mut file) = file {
        file.write_all(container.id.as_str().as_bytes()).context("write the container ID file")?;
    }
    Ok((container, with))
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode> {
        let attached = !self.detach;
        let (terminal, keys) = (self.options.tty, self.detach_keys);
        let wishes = Wishes { stdin: self.options.interactive, terminal, signals: !terminal, keys };
        if attached && self.options.tty && self.options.interactive {
            ensure_terminal()?;
        }
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let make = |order: &Order<'_>| containers.create_to_run(order);
        let (container, ready) = create(&store, &self.options, attached, true, make)?;
        let started = containers.run(&container, ready, attached.then_some(wishes));
        let watch = match started {
            Ok(watch) => watch,
            Err(error) => {
                let removed =
                    if self.options.rm { gone(containers.remove(&container, Removal::BY_ITSELF)) } else { Ok(()) };
                return Err(error.and_undo(removed).into());
            }
        };
        let Some(mut watch) = watch else {
            output::line(&container.id).with_context(|| format!("container {} runs", container.id))?;
            return Ok(ExitCode::SUCCESS);
        };
        let watched = watched(&containers, &container, &mut watch)?;
        if let (Watched::Exited(_), true) = (watched, self.options.rm) {
            gone(containers.remove(&container, Removal::BY_ITSELF))?;
        }
        Ok(code_of(watched))
    }
}

/// Its supervisor removes it too, and may have been faster.
fn gone(removed: crate::Result<()>) -> crate::Result<()> {
    match removed {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        removed => removed,
    }
}

fn code_of(watched: Watched) -> ExitCode {
    match watched {
        Watched::Exited(code) => exit_code(code),
        Watched::Detached => ExitCode::SUCCESS,
        Watched::Signalled(signal) => exit_code(128 + signal),
    }
}

impl StartArgs {
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        if !self.attach && !self.interactive {
            for_each(&self.containers, |name| {
                containers.start(&containers.find(name)?, None)?;
                output::line(name)
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        let [name] = self.containers.as_slice() else {
            return Err(Error::new(Kind::Invalid, "you cannot start and attach multiple containers at once").into());
        };
        let container = containers.find(name)?;
        let wishes = wishes(&containers, &container, self.interactive, self.detach_keys)?;
        match containers.start(&container, Some(wishes))? {
            Some(watch) => finish(&containers, &container, watch),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}

impl AttachArgs {
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let container = containers.find(&self.container)?;
        let wishes = wishes(&containers, &container, !self.no_stdin, self.detach_keys)?;
        let watch = containers.attach(&container, wishes)?;
        finish(&containers, &container, watch)
    }
}

/// What a session with a container that is there already can do.
fn wishes(containers: &Containers<'_>, container: &Container, input: bool, keys: Keys) -> Result<Wishes> {
    let settings = containers.settings(container)?;
    let stdin = input && settings.stdin;
    if stdin && settings.terminal {
        ensure_terminal()?;
    }
    let terminal = settings.terminal && io::stdout().is_terminal();
    Ok(Wishes { stdin, terminal, signals: !settings.terminal, keys })
}

/// Its end. One that goes on when a signal ends this command alone, or nobody reads its output any more, is told.
fn watched(containers: &Containers<'_>, container: &Container, watch: &mut Watch) -> Result<Watched> {
    let watched = watch.until_end();
    let lives = || containers.status(container).is_ok_and(|status| status.state.is_live());
    let name = &container.name;
    match &watched {
        Ok(Watched::Signalled(_)) if lives() => {
            output::tell(format_args!("lamina: a signal ended this command; container {name} goes on"))
        }
        Err(error) if error.kind() == Kind::Unread && lives() => {
            output::tell(format_args!("lamina: nobody reads the output of container {name} any more; it goes on"));
        }
        _ => {}
    }
    Ok(watched?)
}

fn finish(containers: &Containers<'_>, container: &Container, mut watch: Watch) -> Result<ExitCode> {
    let watched = watched(containers, container, &mut watch)?;
    if matches!(watched, Watched::Exited(_))
        && containers.settings(container).is_ok_and(|settings| settings.auto_remove)
    {
        gone(containers.remove(container, Removal::BY_ITSELF))?;
    }
    Ok(code_of(watched))
}
