//! A container's process is asked to stop, killed, paused.
//!
//! Invariant: whoever waits for its end waits for what is noted of it, too; a frozen process is let go on, so that it can end.

use std::time::{Duration, Instant};

use super::{
    Container, Containers,
    removal::gone_is_well,
    status::{PATIENCE, State, UNKNOWN_CODE, wait_for_end},
};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    interrupt,
    runtime::{Cgroup, Process},
};

/// Seconds that a container has to stop when nobody says otherwise, as Docker's.
const STOP_SECONDS: u64 = 10;

/// How often it is looked whether a signal came.
const LOOK_UP: Duration = Duration::from_secs(1);

impl Containers<'_> {
    /// Sends a signal to the container's first process, and waits for its end if it is one that nothing outlives.
    ///
    /// # Errors
    /// `Invalid` if it does not run; `InUse` if it does not end.
    pub fn kill(&self, container: &Container, signal: i32) -> Result<()> {
        let (init, _) = self.live(container).map_err(|error| error.within("cannot kill container"))?;
        init.signal(signal)?;
        if signal != libc::SIGKILL {
            return Ok(());
        }
        let settle = || {
            self.wait_while_still(container)?;
            self.thaw(container)?;
            self.settled(container, &init)
        };
        gone_is_well(settle())
    }

    /// While a command that holds the lock has stopped the processes to copy what they write, nobody else lets them go
    /// on. Without the lock.
    fn wait_while_still(&self, container: &Container) -> Result<()> {
        if self.run_directory(container).is_still()? { self.lock(container).map(drop) } else { Ok(()) }
    }

    /// A frozen process dies of no signal where cgroups are of version 1.
    fn thaw(&self, container: &Container) -> Result<()> {
        let cgroup = Cgroup::new(container.id.as_str());
        if cgroup.is_frozen()? { cgroup.freeze(false) } else { Ok(()) }
    }

    /// Asks the container to stop, and after so long kills it. One that does not run is left alone.
    ///
    /// # Errors
    /// `InUse` if it does not end even so; `Interrupted`, when it was asked and is not killed; the system's.
    pub fn stop(&self, container: &Container, seconds: Option<u64>) -> Result<()> {
        let stop = || {
            let init = match self.live_or_none(container)? {
                None if self.run_directory(container).path().exists() => {
                    // Somebody is about to start it, or to take away what ran.
                    drop(self.lock(container)?);
                    self.live_or_none(container)?
                }
                init => init,
            };
            init.map_or(Ok(()), |init| self.stop_live(container, &init, seconds))
        };
        // One that goes by itself may have done so before all of this is done.
        gone_is_well(stop())
    }

    fn live_or_none(&self, container: &Container) -> Result<Option<Process>> {
        match self.live(container) {
            Err(error) if error.kind() == Kind::Invalid => Ok(None),
            live => live.map(|(init, _)| Some(init)),
        }
    }

    fn stop_live(&self, container: &Container, init: &Process, seconds: Option<u64>) -> Result<()> {
        let settings = self.settings(container)?;
        init.signal(settings.stop_signal()?)?;
        self.wait_while_still(container)?;
        self.thaw(container)?;
        crash::point(crash::Point::StopAsked);
        let patience = seconds.or(settings.stop_timeout).unwrap_or(STOP_SECONDS);
        if !ends_within(container, init, Duration::from_secs(patience))? {
            init.signal(libc::SIGKILL)?;
            self.thaw(container)?;
        }
        self.settled(container, init)?;
        self.note_end(container, init)
    }

    /// Notes how `init` ended, which this command watched, if its supervisor is no more that should have.
    fn note_end(&self, container: &Container, init: &Process) -> Result<()> {
        let (home, run) = (self.home(container), self.run_directory(container));
        let is_unknown = || Ok::<_, Error>(home.exit()?.is_none() && run.supervisor()?.is_none());
        if !is_unknown()? {
            return Ok(());
        }
        // Nobody starts it again meanwhile. Whoever has it already knows no more.
        let Some(_lock) = self.try_lock(container)? else { return Ok(()) };
        if is_unknown()? && run.init()?.is_none() && home.path().exists() {
            home.note_exit(init.exit_code()?.unwrap_or(UNKNOWN_CODE))?;
        }
        Ok(())
    }

    /// Stops the container and starts it. One that goes by itself when it has ended stays meanwhile.
    ///
    /// # Errors
    /// Those of both.
    pub fn restart(&self, container: &Container, seconds: Option<u64>) -> Result<()> {
        let home = self.home(container);
        home.make()?;
        let _restarted = home.restart()?;
        self.stop(container, seconds)?;
        let started = self.start(container, None).map(drop);
        started.act(|| format!("container {} was stopped, and is not started again", container.name))
    }

    /// Kills the container's processes if it has any, and waits for their end.
    pub(super) fn end(&self, container: &Container) -> Result<()> {
        let Some(init) = self.run_directory(container).init()? else { return Ok(()) };
        init.signal(libc::SIGKILL)?;
        self.thaw(container)?;
        self.settled(container, &init)
    }

    /// Waits until the killed `init` has ended and that is noted.
    fn settled(&self, container: &Container, init: &Process) -> Result<()> {
        if !init.has_ended_after(Duration::from_secs(PATIENCE.tv_sec.unsigned_abs()))? {
            let what = format!(
                "process {} of container {} was killed and does not end: it waits for the kernel, for a device or a \
                 network file system that does not answer",
                init.id(),
                container.name
            );
            return Err(Error::new(Kind::InUse, what));
        }
        let run = self.run_directory(container);
        if wait_for_end(&self.home(container), &run, Some(&PATIENCE))? {
            return Ok(());
        }
        // It cannot hand its output on, and would wait for that for ever.
        run.supervisor()?.map_or(Ok(()), |supervisor| supervisor.signal(libc::SIGKILL))
    }

    /// Stops its processes where they are, or lets them go on.
    ///
    /// # Errors
    /// `Invalid` if it does not run, or if it is so already; `Unsupported` without a cgroup freezer.
    pub fn pause(&self, container: &Container, paused: bool) -> Result<()> {
        // No command stops it for an instant meanwhile, and lets it go on then.
        let _lock = self.lock(container)?;
        let (_, state) = self.live(container)?;
        if paused == (state == State::Paused) {
            let word = if paused { "already" } else { "not" };
            return Err(Error::new(Kind::Invalid, format!("container {} is {word} paused", container.name)));
        }
        Cgroup::new(container.id.as_str()).freeze(paused)
    }

    /// The IDs of its processes.
    ///
    /// # Errors
    /// `Invalid` if it does not run.
    pub fn processes(&self, container: &Container) -> Result<Vec<i32>> {
        self.live(container)?;
        Cgroup::new(container.id.as_str()).processes()
    }
}

/// Waits for the end of one that was asked to stop.
fn ends_within(container: &Container, init: &Process, most: Duration) -> Result<bool> {
    let begun = Instant::now();
    loop {
        let left = most.saturating_sub(begun.elapsed());
        // A signal that comes just before the call does not end it.
        if init.ends_within(left.min(LOOK_UP))? {
            return Ok(true);
        }
        if interrupt::asked() {
            let what = format!("interrupted; container {} was asked to stop, and has not ended yet", container.name);
            return Err(Error::new(Kind::Interrupted, what));
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}
