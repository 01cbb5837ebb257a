//! Whether a container runs, and how it ended: found out each time, never kept.
//!
//! Invariant: no process of ours has to be alive, and none has to have ended well, for the answer to be true: the kernel
//! tells whether the container's processes live, and the file that its supervisor leaves how they ended.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
};

use jiff::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    io::Errno,
};

use super::{Container, Containers, home::Home};
use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
    runtime::{Cgroup, Process, RunDirectory, clear, runs_of},
};

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was never started, or what starts it has not come far.
    Created,
    /// Its processes run.
    Running,
    /// Its processes are stopped where they are.
    Paused,
    /// Its processes have ended.
    Exited,
}

impl State {
    /// Docker's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }

    /// Whether it has processes.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// The code of a container whose end nobody saw, as Docker has it.
pub const UNKNOWN_CODE: i32 = 255;

/// What there is to know of a container's last run.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// What it does.
    pub state: State,
    /// Its first process, while it lives.
    pub pid: Option<i32>,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// When it ended, if that was seen.
    pub finished: Option<Timestamp>,
    /// Its exit code, if its end was seen.
    pub code: Option<i32>,
    /// Whether memory ran out.
    pub out_of_memory: bool,
}

impl Status {
    /// The exit code that is shown.
    pub fn shown_code(&self) -> i32 {
        match self.state {
            State::Exited => self.code.unwrap_or(UNKNOWN_CODE),
            _ => 0,
        }
    }
}

impl Containers<'_> {
    /// Whether a command that ran or started it has still to learn how it ended.
    ///
    /// # Errors
    /// The system's.
    pub fn is_awaited(&self, container: &Container) -> Result<bool> {
        self.home(container).is_attended()
    }

    pub(super) fn home(&self, container: &Container) -> Home {
        Home::new(&self.store.layout().containers(), &container.id)
    }

    pub(super) fn run_directory(&self, container: &Container) -> RunDirectory {
        RunDirectory::new(&runs_of(self.store.layout().root()), container.id.as_str())
    }

    /// What stands for the host's file of this name (`hosts` and so on) in the container; it is made with the first start.
    pub fn file_of_host(&self, container: &Container, name: &str) -> Option<PathBuf> {
        let path = self.home(container).path().join(name);
        path.exists().then_some(path)
    }

    /// Where its output is kept.
    pub fn log_path(&self, container: &Container) -> PathBuf {
        self.home(container).log()
    }

    /// What the container does.
    ///
    /// # Errors
    /// When /proc, /run or the root directory cannot be read.
    pub fn status(&self, container: &Container) -> Result<Status> {
        let (home, run) = (self.home(container), self.run_directory(container));
        let init = run.init()?;
        if init.is_none() && run.was_made()? && run.supervisor()?.is_some() {
            // It has ended, and how is about to be written down. Before it was made, there is nothing to wait for.
            wait_for_end(&home, &run, Some(&PATIENCE))?;
        }
        let started = home.started()?;
        let exit = home.exit()?;
        let waits = init.as_ref().map_or(Ok(false), |init| run.waits_to_begin(init))?;
        let state = match (&init, started, exit) {
            (Some(_), Some(_), _) if !waits => {
                // The note is there before the processes are stopped for an instant and until they go on. Asked twice: that
                // may have ended between the two answers.
                let is_paused = || Ok::<_, Error>(Cgroup::new(run.id()).is_frozen()? && !run.is_still()?);
                if is_paused()? && is_paused()? { State::Paused } else { State::Running }
            }
            (None, Some(_), _) => State::Exited,
            // It is started again, and how it ended is true until then.
            (Some(_), Some(_), Some(_)) => State::Exited,
            _ => State::Created,
        };
        Ok(Status {
            state,
            pid: init.filter(|_| state.is_live()).map(|init| init.id()),
            started,
            finished: exit.map(|(_, time)| time),
            code: exit.map(|(code, _)| code),
            out_of_memory: home.out_of_memory() || state == State::Exited && ran_out_of_memory(&run)?,
        })
    }

    /// Takes away what is left of a run that has ended, but for what is to be known of it.
    pub(super) fn clear_ended(&self, container: &Container) -> Result<()> {
        let run = self.run_directory(container);
        if ran_out_of_memory(&run)? {
            self.home(container).note_out_of_memory()?;
        }
        clear(&run)
    }

    /// Its first process.
    ///
    /// # Errors
    /// `Invalid` if it does not run.
    pub(super) fn live(&self, container: &Container) -> Result<(Process, State)> {
        let state = self.status(container)?.state;
        match self.run_directory(container).init()? {
            Some(init) if state.is_live() => Ok((init, state)),
            _ => Err(Error::new(Kind::Invalid, format!("container {} is not running", container.name))),
        }
    }

    /// Waits until the container has ended, if it runs. Its exit code.
    ///
    /// # Errors
    /// `Interrupted`; the system's.
    pub fn wait(&self, container: &Container) -> Result<i32> {
        let home = self.home(container);
        // One that is removed by itself stays until its end is known here.
        let attended = home.attend()?;
        if self.status(container)?.state.is_live() {
            wait_for_end(&home, &self.run_directory(container), None)?;
        }
        let code = home.exit()?.map(|(code, _)| code);
        let state = self.status(container)?.state;
        drop(attended);
        // Removed by force meanwhile: killed, as Docker tells then.
        let is_gone = matches!(self.find(container.id.as_str()), Err(error) if error.kind() == Kind::NotFound);
        Ok(match state {
            State::Created if is_gone => code.unwrap_or(128 + libc::SIGKILL),
            State::Created => 0,
            _ => code.unwrap_or(UNKNOWN_CODE),
        })
    }
}

/// Whether memory ran out in a run of which something is left. The supervisor notes it, if it was not too early for that: it
/// begins to watch when the container begins.
fn ran_out_of_memory(run: &RunDirectory) -> Result<bool> {
    Ok(run.path().exists() && Cgroup::new(run.id()).ran_out_of_memory()?)
}

/// How long a supervisor may take to note an end that has come. One that nobody reads the output from may take for ever.
pub(super) const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// How often it is looked whether a signal came.
const LOOK_UP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How often, and how long each time, it is looked for the note of an end before a watch is set for it.
const GLANCES: u32 = 20;
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000 };

/// Waits until the end of the run is noted, or nobody is left who could note it; with a limit, no longer than that without
/// a sign. Tells whether it came so far.
pub(super) fn wait_for_end(home: &Home, run: &RunDirectory, limit: Option<&Timespec>) -> Result<bool> {
    // Most are noted by now or in a moment, and a watch costs up to a hundredth of a second when it is taken away
    // (synchronize_srcu).
    for _ in 0..GLANCES {
        let Some(process) = who_notes(home, run)? else { return Ok(true) };
        wait_for_any(&[process.fd().as_fd()], &GLANCE)?;
    }
    let act = || "watch for the end of the container";
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).act(act)?;
    let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::DELETE_SELF;
    match inotify::add_watch(&inotify, home.path(), events) {
        Err(Errno::NOENT) => return Ok(true),
        watched => watched.act(act)?,
    };
    // Looked at after the watch is set, so that nothing is missed between.
    while let Some(process) = who_notes(home, run)? {
        if !wait_for_any(&[inotify.as_fd(), process.fd().as_fd()], limit.unwrap_or(&LOOK_UP))? {
            if limit.is_some() {
                return Ok(false);
            }
            // A signal that came just before the call did not end it.
            interrupt::check()?;
        }
        // What happened is looked up, so the events themselves are only taken off the queue.
        let _ = rustix::io::read(&inotify, &mut [0_u8; 4096]);
    }
    Ok(true)
}

/// The process whose end, or that will note the end, of a run of which no end is noted; none if there is nothing to wait
/// for.
fn who_notes(home: &Home, run: &RunDirectory) -> Result<Option<Process>> {
    if home.exit()?.is_some() {
        return Ok(None);
    }
    run.supervisor()?.map_or_else(|| run.init(), |supervisor| Ok(Some(supervisor)))
}

/// Waits until one of them can be read; tells whether one can, or a signal came, which is no end of the waiting.
fn wait_for_any(fds: &[BorrowedFd<'_>], limit: &Timespec) -> Result<bool> {
    let mut ready: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    match poll(&mut ready, Some(limit)) {
        Err(Errno::INTR) => interrupt::check().map(|()| true),
        polled => polled.act(|| "wait for the end of the container").map(|number| number > 0),
    }
}
