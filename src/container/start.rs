//! A container's process is started.
//!
//! Invariant: the container's lock is held from before its volume is activated until its process waits to begin and
//! holds the mount, so that nothing takes the volume for abandoned, and only one command starts it.

use std::fs::File;

use super::{
    Container, Containers, Order,
    home::Home,
    settings::Settings,
    status::{State, UNKNOWN_CODE, wait_for_end},
};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    interrupt,
    runtime::{
        Command, End, Launch, Limits, Network, OciRuntime, RunDirectory, Session, Supervision, Supervisor, Wishes,
        clear,
    },
    store::Held,
};

/// How a watched container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// With this exit code.
    Exited(i32),
    /// The user left; it goes on.
    Detached,
    /// A signal came that is not the container's; it goes on.
    Signalled(i32),
}

/// A session with a container whose end is waited for.
#[derive(Debug)]
pub struct Watch {
    session: Option<Session>,
    home: Home,
    run: RunDirectory,
    /// As long as this lives, the container is not removed by itself.
    _attended: Option<File>,
}

impl Watch {
    /// Hands input, output and signals through until the container ends or the user leaves. As long as this value lives,
    /// the container is not removed by itself, so its user can do it without being in anybody's way.
    ///
    /// # Errors
    /// The system's; the container goes on.
    pub fn until_end(&mut self) -> Result<Watched> {
        // Taken, so that from its end on signals are this command's again.
        match self.session.take().map(|mut session| session.run()).transpose()? {
            Some(End::Detached) => return Ok(Watched::Detached),
            Some(End::Signalled(signal)) => return Ok(Watched::Signalled(signal)),
            Some(End::Closed) | None => {}
        }
        wait_for_end(&self.home, &self.run, None)?;
        let code = self.home.exit()?.map(|(code, _)| code);
        // Removed under us by force, or its end was not seen: as after SIGKILL, which Docker tells then.
        let code = code.unwrap_or(if self.home.path().exists() { UNKNOWN_CODE } else { 137 });
        Ok(Watched::Exited(code))
    }
}

/// What a container that is made to run has besides: its lock, and its supervisor, which waits for what it is to run. Without
/// them it is one that was never started.
#[derive(Debug)]
pub struct Ready<'store> {
    settings: Settings,
    supervisor: Supervisor,
    held: Held<'store>,
}

impl<'store> Containers<'store> {
    /// Starts the container; one that runs already is left alone. With wishes, its first output is in the session.
    ///
    /// # Errors
    /// `NoCommand` or `NotExecutable` for a program that cannot be run; `InUse` while it is mounted; the runtime's and driver's.
    pub fn start(&self, container: &Container, wishes: Option<Wishes>) -> Result<Option<Watch>> {
        let _lock = self.lock(container)?;
        let state = self.status(container)?.state;
        if state == State::Paused {
            return Err(Error::new(Kind::Invalid, "cannot start a paused container, try unpause instead"));
        }
        if state.is_live() {
            return wishes.map(|wishes| self.watch(container, wishes)).transpose();
        }
        if let Some(target) = self.mounted_at(container)? {
            let what = format!(
                "start container {0}: it is mounted at {1}; unmount it first with 'lamina umount {0}'",
                container.name,
                target.display()
            );
            return Err(Error::new(Kind::InUse, what));
        }
        self.refuse_second_mount(container).act(|| "start")?;
        let settings = self.settings(container)?;
        if settings.args().is_empty() {
            return Err(Error::new(Kind::Invalid, "no command specified"));
        }
        clear(&self.run_directory(container))?;
        let supervisor = self.call_supervisor(container, &settings)?;
        self.launch(supervisor, container, &settings, wishes)
    }

    /// Makes a container that is to run at once; its supervisor is called first, and begins meanwhile.
    ///
    /// # Errors
    /// As [`Containers::create_with`]; `MissingProgram`.
    pub fn create_to_run(&self, order: &Order<'_>) -> Result<(Container, Ready<'store>)> {
        let container = order.container()?;
        // Until it has a row, or the directories that are made before are gone.
        let _announced = self.store.announce()?;
        match self.make(&container, order, || self.call_supervisor(&container, order.settings)) {
            Ok((held, supervisor)) => Ok((container, Ready { settings: order.settings.clone(), supervisor, held })),
            Err(error) => Err(error.and_undo(self.home(&container).remove())),
        }
    }

    /// Runs what was made to run; as [`Containers::start`].
    ///
    /// # Errors
    /// As [`Containers::start`].
    pub fn run(&self, container: &Container, ready: Ready<'_>, wishes: Option<Wishes>) -> Result<Option<Watch>> {
        let Ready { settings, supervisor, held: _locked } = ready;
        self.launch(supervisor, container, &settings, wishes)
    }

    fn call_supervisor(&self, container: &Container, settings: &Settings) -> Result<Supervisor> {
        let home = self.home(container);
        home.make()?;
        let root = self.store.layout().root().display().to_string();
        let supervision = Supervision {
            run: self.run_directory(container),
            terminal: settings.terminal,
            stdin: settings.stdin,
            keep_stdin: settings.terminal || !settings.stdin_once,
            home: home.path(),
            log: home.log(),
            after: ["--root", &root, "exited", container.id.as_str()].map(str::to_owned).to_vec(),
        };
        supervision.begin()
    }

    /// With the container's lock held.
    fn launch(
        &self,
        supervisor: Supervisor,
        container: &Container,
        settings: &Settings,
        wishes: Option<Wishes>,
    ) -> Result<Option<Watch>> {
        let start = || {
            let home = self.home(container);
            let network = settings.network.unwrap_or(Network::None);
            let hostname = hostname(container, settings)?;
            home.prepare(&hostname, network)?;
            let launch = Launch {
                runtime: runtime(settings)?,
                command: self.command(container, settings, hostname)?,
                mount: self.store.mounts(&container.key())?,
                mount_points: home.mount_points(),
            };
            let launched = supervisor.launch(launch)?;
            // From here on the volume's device goes with the mount, whoever ends that.
            self.store.release(&container.key())?;
            crash::point(crash::Point::RunMade);
            let watch = wishes.map(|wishes| self.watch(container, wishes)).transpose()?;
            // A signal that came until now, and is not the container's, asks for what has not begun to be undone.
            interrupt::check()?;
            home.note_start()?;
            crash::point(crash::Point::RunNoted);
            launched.begin()?;
            crash::point(crash::Point::RunBegun);
            Ok(watch)
        };
        start().map_err(|error: Error| error.and_undo(self.store.release(&container.key())))
    }

    /// A session with a container that is made.
    fn watch(&self, container: &Container, wishes: Wishes) -> Result<Watch> {
        let (home, run) = (self.home(container), self.run_directory(container));
        let _attended = home.attend()?;
        let session = Session::connect(&run, wishes)?;
        if wishes.terminal {
            session.send_size()?;
        }
        Ok(Watch { session: Some(session), home, run, _attended })
    }

    /// A session with a container that runs.
    ///
    /// # Errors
    /// `Invalid` if it does not run or is paused.
    pub fn attach(&self, container: &Container, wishes: Wishes) -> Result<Watch> {
        let (_, state) = self.live(container)?;
        if state == State::Paused {
            return Err(Error::new(Kind::Invalid, "you cannot attach to a paused container, unpause it first"));
        }
        self.watch(container, wishes)
    }

    fn command(&self, container: &Container, settings: &Settings, hostname: String) -> Result<Command> {
        Ok(Command {
            args: settings.args(),
            env: environment(settings, &hostname, settings.terminal),
            cwd: settings.working_dir.clone(),
            user: settings.user.clone(),
            network: settings.network.unwrap_or(Network::None),
            mounts: self.mounts(container, settings, None)?,
            hostname,
            terminal: settings.terminal,
            read_only: settings.read_only,
            limits: Some(Limits {
                cgroup: container.id.to_string(),
                memory: settings.memory,
                milli_cpus: settings.milli_cpus,
            }),
        })
    }
}

/// The variables of a process in the container, but for those that it brings itself.
pub(super) fn environment(settings: &Settings, hostname: &str, terminal: bool) -> Vec<String> {
    let mut env = settings.env.clone();
    let mut add = |name: &str, value: &str| {
        if !env.iter().any(|pair| pair.split_once('=').is_some_and(|(known, _)| known == name)) {
            env.push(format!("{name}={value}"));
        }
    };
    add("HOSTNAME", hostname);
    if terminal {
        add("TERM", "xterm");
    }
    env
}

/// The name of the host that the container sees.
pub(super) fn hostname(container: &Container, settings: &Settings) -> Result<String> {
    if !settings.hostname.is_empty() {
        return Ok(settings.hostname.clone());
    }
    match settings.network {
        Some(Network::Host) => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        _ => Ok(container.id.short().to_owned()),
    }
}

/// The runtime that the container was made for.
pub(super) fn runtime(settings: &Settings) -> Result<OciRuntime> {
    match &settings.runtime {
        None => OciRuntime::find(),
        Some(name) => {
            let runtime: OciRuntime = name.parse()?;
            runtime.usable().map(|()| runtime)
        }
    }
}
