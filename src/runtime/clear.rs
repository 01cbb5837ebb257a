//! The end of a run: of what runs, and of what it has on /run and in cgroups.

use std::time::Duration;

use super::{cgroup::Cgroup, run_directory::RunDirectory};
use crate::{
    error::{Error, Kind, Result},
    sys::process::Process,
};

/// How long the kernel may take to end a process that was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends what runs in the container and removes what it has on /run and its cgroup. Idempotent. How it ended is noted
/// before by its supervisor, if anybody is to know: that is ended, too, lest it notes it when the next run has begun. What
/// it calls in the end goes on, which may be this process.
///
/// # Errors
/// `InUse` for a process that does not end.
pub fn clear(run: &RunDirectory) -> Result<()> {
    if let Some(init) = run.init()? {
        // In a PID namespace everything ends with the first process.
        init.signal(libc::SIGKILL)?;
    }
    // This command has the container's ID among its words, too, and may have a number that was another's.
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let other = |process: Option<Process>| process.filter(|process| process.id() != own);
    let supervisor = other(run.supervisor()?);
    supervisor.as_ref().map_or(Ok(()), |supervisor| supervisor.signal(libc::SIGKILL))?;
    // It makes the cgroup, so it ends before that is removed.
    if let Some(runtime) = other(run.runtime()?) {
        runtime.signal(libc::SIGKILL)?;
        wait_for("runtime", run, &runtime)?;
    }
    Cgroup::new(run.id()).remove()?;
    supervisor.map_or(Ok(()), |supervisor| wait_for("supervisor", run, &supervisor))?;
    run.remove()
}

fn wait_for(what: &str, run: &RunDirectory, killed: &Process) -> Result<()> {
    if killed.has_ended_after(PATIENCE)? {
        return Ok(());
    }
    let what =
        format!("the {what} of container {:.12}, process {}, was killed and does not end", run.id(), killed.id());
    Err(Error::new(Kind::InUse, what))
}
