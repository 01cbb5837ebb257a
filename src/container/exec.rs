//! One more process in a container.

use super::{
    Container, Containers,
    start::{environment, hostname},
    status::State,
};
use crate::{
    error::{Error, Kind, Result},
    runtime::{Command, Exec, Exit, Keys},
};

/// What is to run.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=VALUE`, beside the container's own.
    pub env: Vec<String>,
    /// Where it starts; none for where the container did.
    pub working_dir: Option<String>,
    /// Who it runs as; none for whom the container does.
    pub user: Option<String>,
    /// Whether it has a terminal, which is this process's.
    pub terminal: bool,
    /// Whether it gets standard input.
    pub stdin: bool,
    /// Whether it goes on by itself.
    pub detach: bool,
    /// What leaves its terminal.
    pub keys: Keys,
}

impl Containers<'_> {
    /// Runs one more process in the container.
    ///
    /// # Errors
    /// `InUse` if the container does not run or is paused; `NoCommand` for a program that it has not, `NotExecutable`
    /// for one that may not be run, `NotFound` for a user that it has not; the runtime's.
    pub fn exec(&self, container: &Container, request: ExecRequest) -> Result<Exit> {
        let (init, state) = self.live(container).map_err(|error| error.as_kind(Kind::InUse))?;
        if state == State::Paused {
            let what = format!("container {} is paused, unpause the container before exec", container.name);
            return Err(Error::new(Kind::InUse, what));
        }
        if self.run_directory(container).is_still()? {
            // For the instant in which it is copied; a runtime takes it for paused then.
            drop(self.lock(container)?);
        }
        let settings = self.settings(container)?;
        let mut env = environment(&settings, &hostname(container, &settings)?, request.terminal);
        request.env.iter().for_each(|pair| super::settings::set(&mut env, pair));
        let exec = Exec {
            run: &self.run_directory(container),
            command: Command {
                args: request.args,
                env,
                cwd: request.working_dir.unwrap_or(settings.working_dir),
                user: request.user.unwrap_or(settings.user),
                terminal: request.terminal,
                ..Command::default()
            },
            stdin: request.stdin,
            detach: request.detach,
            keys: request.keys,
        };
        exec.run(&init).or_else(|error| match init.lives()? {
            true => Err(error),
            false => Err(error.as_kind(Kind::InUse).within(format!("container {} has ended", container.name))),
        })
    }
}
