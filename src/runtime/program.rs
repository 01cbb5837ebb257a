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
    /// The first that is installed and works on this host: crun, which starts faster, then runc. crun refuses hosts
    /// that mount both versions of cgroups.
    ///
    /// # Errors
    /// `MissingProgram` with what to install.
    pub fn find() -> Result<Self> {
        let hybrid = has_hybrid_cgroups();
        let usable = [CRUN, RUNC].into_iter().filter(|program| !(hybrid && *program == CRUN));
        usable.into_iter().find(|program| program.find().is_ok()).map(Self).ok_or_else(|| {
            let what = if hybrid {
                "no OCI runtime for a host with both versions of cgroups; install one with 'apt-get install runc'"
            } else {
                "no OCI runtime is installed; install one with 'apt-get install crun' or 'apt-get install runc'"
            };
            Error::new(Kind::MissingProgram, what)
        })
    }

    /// The program.
    pub fn program(self) -> Program {
        self.0
    }

    /// Whether its `start` does no more than to read what the waiting process writes.
    pub(super) fn begins_by_reading(self) -> bool {
        self.0 == RUNC
    }

    /// Options before the verb that keep a short-lived container out of cgroups, where the runtime can.
    pub(super) fn without_cgroups(self) -> &'static [&'static str] {
        if self.0 == CRUN { &["--cgroup-manager=disabled"] } else { &[] }
    }
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
