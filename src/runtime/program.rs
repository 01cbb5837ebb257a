//! Which OCI runtime this host can use.

use std::path::Path;

use rustix::fs::statfs;

use crate::{
    error::{Act as _, Error, Kind, Result},
    program::{CRUN, Program, RUNC},
};

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

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
        let hybrid = has_hybrid_cgroups()?;
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

    /// Options before the verb that keep a short-lived container out of cgroups, where the runtime can.
    pub(super) fn without_cgroups(self) -> &'static [&'static str] {
        if self.0 == CRUN { &["--cgroup-manager=disabled"] } else { &[] }
    }
}

/// Whether cgroups of version 1 are mounted with version 2 beside them.
fn has_hybrid_cgroups() -> Result<bool> {
    let is_v2 = |path: &str| {
        if !Path::new(path).exists() {
            return Ok(false);
        }
        let found = statfs(path).act(|| format!("look at {path}"))?;
        Ok(u64::try_from(found.f_type).is_ok_and(|magic| magic == CGROUP2_MAGIC))
    };
    Ok(!is_v2("/sys/fs/cgroup")? && is_v2("/sys/fs/cgroup/unified")?)
}
