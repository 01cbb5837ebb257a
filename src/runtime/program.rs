//! Which OCI runtime this host can use.

use std::str::FromStr;

use super::cgroup;
use crate::{
    error::{Error, Kind, Result},
    program::{CRUN, Program, RUNC},
};

/// A runtime that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OciRuntime(Program);

impl OciRuntime {
    /// Those that there are, crun first, which starts faster; each with why it cannot be used on this host, if so.
    pub fn all() -> [(Self, Option<Error>); 2] {
        [CRUN, RUNC].map(|program| (Self(program), Self(program).usable().err()))
    }

    /// The first that is installed and works on this host.
    ///
    /// # Errors
    /// `MissingProgram` with what to install.
    pub fn find() -> Result<Self> {
        let mut reasons = Vec::new();
        for (runtime, unusable) in Self::all() {
            match unusable {
                None => return Ok(runtime),
                Some(reason) => reasons.push(reason.to_string()),
            }
        }
        Err(Error::new(Kind::MissingProgram, format!("no OCI runtime for this host: {}", reasons.join("; "))))
    }

    /// Whether it is installed and works on this host, as far as can be told without a run.
    ///
    /// # Errors
    /// `MissingProgram` with what to install; `Unsupported`.
    pub fn usable(self) -> Result<()> {
        self.0.find()?;
        if self.0 == CRUN && has_hybrid_cgroups() {
            let what = "crun refuses hosts that mount both versions of cgroups, as this one does (/sys/fs/cgroup/unified \
                        beside version 1); use runc";
            return Err(Error::new(Kind::Unsupported, what));
        }
        Ok(())
    }

    /// The program.
    pub fn program(self) -> Program {
        self.0
    }

    /// What the process that it has made waits for at its fifo `exec.fifo`, before it begins.
    pub(super) fn waits_for(self) -> Waits {
        if self.0 == CRUN { Waits::Writer } else { Waits::Reader }
    }

    /// Whether it takes the profile of system calls compiled ([`bundle::FILTER`](super::bundle::FILTER)).
    pub(super) fn takes_filters(self) -> bool {
        self.0 == CRUN
    }

    /// Options before the verb that keep a short-lived container out of cgroups, where the runtime can.
    pub(super) fn without_cgroups(self) -> &'static [&'static str] {
        if self.0 == CRUN { &["--cgroup-manager=disabled"] } else { &[] }
    }
}

/// What a process that is made waits for before it begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waits {
    /// Somebody who reads what it writes (runc, `handleFifo` in libcontainer).
    Reader,
    /// Somebody who writes what it reads (crun, `libcrun_status_write_exec_fifo`).
    Writer,
}

/// By its name, for those who choose one.
impl FromStr for OciRuntime {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = [CRUN, RUNC].into_iter().find(|program| program.name == name);
        known.map(Self).ok_or_else(|| Error::new(Kind::Invalid, format!("runtime '{name}' is not one of crun, runc")))
    }
}

/// Whether cgroups of version 1 are mounted with version 2 beside them.
fn has_hybrid_cgroups() -> bool {
    !cgroup::is_unified() && cgroup::is_v2("/sys/fs/cgroup/unified")
}
