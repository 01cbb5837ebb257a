//! A command in a root file system, by an OCI runtime: the bundle that says how it runs, and the program that runs it.
//!
//! Two ways: [`run`] a command to its end, of which nothing outlives this process (`RUN` of a build); and [`Launch`] a
//! container, which goes on under a supervisor when this process ends.
//!
//! Invariant of both: the root file system is mounted in a mount namespace of its own, where no other process sees it;
//! with the last process in it goes the mount. What [`run`] runs is in a PID namespace that the kernel ends when this
//! process dies, however it dies (`PR_SET_PDEATHSIG`).

mod attach;
mod bundle;
mod cgroup;
mod clear;
mod detach;
mod enter;
mod exec;
mod filter;
mod job;
mod launch;
mod launched;
mod limits;
mod made_points;
mod mount_points;
mod process;
mod program;
mod pty;
mod read_ahead;
mod run_directory;
mod seccomp;
mod supervisors;
mod terminal;
mod umask;
mod user;
mod workplace;

pub use attach::{End, Session, Wishes};
pub use bundle::{Command, DEFAULT_PATH, MASKED, Mount, MountKind, Network, READ_ONLY};
pub use cgroup::Cgroup;
pub use clear::clear;
pub use detach::Keys;
pub use enter::{ENTER, OWN_MOUNTS, enter, write_config};
pub use exec::Exec;
pub use launch::{Launch, Supervision, Supervisor};
pub use launched::Launched;
pub use limits::Limits;
pub use made_points::{made_mount_points, make_mount_points};
pub use mount_points::make_bare_points;
pub use process::{Exit, refusal_code, run};
pub use program::OciRuntime;
pub use run_directory::{RunDirectory, runs_in, runs_of};
pub use terminal::ensure_terminal;
pub use user::owner_of;
pub use workplace::Workplace;

pub use crate::sys::process::Process;
