//! A command in a root file system, by an OCI runtime: the bundle that says how it runs, and the program that runs it.
//!
//! Invariant: nothing outlives this process. The root file system is mounted in a mount namespace of its own, where no
//! other process sees it, and the runtime runs in a PID namespace that the kernel ends when this process dies, however
//! it dies (`PR_SET_PDEATHSIG`); with the last process goes the mount.

mod bundle;
mod mount_points;
mod process;
mod program;
mod user;
mod workplace;

pub use bundle::{Command, DEFAULT_PATH, Mount, Network};
pub use process::{Exit, run};
pub use program::OciRuntime;
pub use user::owner_of;
pub use workplace::Workplace;
