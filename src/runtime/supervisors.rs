//! The cgroup of all supervisors: what ends a service or a login ends no container that was started from there.
//!
//! systemd finds what belongs to a unit by cgroup, in the hierarchy of version 2, and where controllers are of version 1
//! in one of its own (systemd.kill(5), `KillMode=control-group`). It leaves alone what it has not made.

use std::fs;

use super::{cgroup, run_directory::RunDirectory};
use crate::{
    error::{Act as _, Result},
    fs::{MountEntry, mount_table},
};

/// Its name beside those of containers.
const NAME: &str = "supervisors";

/// Takes the supervisor of `run` out of its caller's cgroup. One that has ended is left alone.
///
/// The kernel's first such move in a while waits some milliseconds for a grace period (`cgroup_threadgroup_rwsem`,
/// kernel/cgroup/cgroup.c), and those that follow soon do not: so it is well spent while the runtime prepares for its own.
///
/// # Errors
/// The kernel's.
pub(super) fn take_in(run: &RunDirectory) -> Result<()> {
    let Some(supervisor) = run.supervisor()? else { return Ok(()) };
    for hierarchy in mount_table()?.into_iter().filter(finds_units) {
        let group = cgroup::directory(&hierarchy, NAME);
        fs::create_dir_all(&group).act(|| format!("make {}", group.display()))?;
        match fs::write(group.join("cgroup.procs"), supervisor.id().to_string()) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            moved => moved.act(|| format!("move process {} to {}", supervisor.id(), group.display()))?,
        }
    }
    Ok(())
}

fn finds_units(hierarchy: &MountEntry) -> bool {
    match hierarchy.fstype.as_str() {
        "cgroup2" => true,
        "cgroup" => hierarchy.target.ends_with("systemd"),
        _ => false,
    }
}
