//! What a runtime compiled of the profile of system calls, kept for the next run: compiling takes a third of a short run.
//!
//! Invariant: it is kept under a name that tells from which profile and by which program it was made, and it is as that program
//! loaded it. Whoever does not take it compiles the profile, which is told besides.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    program::OciRuntime,
    run_directory::{BASE, RunDirectory},
    seccomp::profile,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::Digest,
};

/// See the module's comment. On /run it ends with the boot, and with it the kernel that it was made for.
#[derive(Debug)]
pub(super) struct Filter(PathBuf);

impl Filter {
    /// That which `runtime`, the program at `program`, makes of the profile; none if it takes none that is made.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn of(runtime: OciRuntime, program: &Path) -> Result<Option<Self>> {
        if !runtime.takes_filters() {
            return Ok(None);
        }
        let act = || "describe which system calls a container may make";
        let profile = profile().map_err(|error| Error::with_source(Kind::Invalid, act(), error))?;
        let about = fs::metadata(program).act(|| format!("look for {}", program.display()))?;
        let made_by = (about.dev(), about.ino(), about.size(), about.mtime(), about.mtime_nsec());
        let text = serde_json::to_vec(&(profile, made_by));
        let name = Digest::of(&text.map_err(|error| Error::with_source(Kind::Io, act(), error))?).hex();
        Ok(Some(Self(Path::new(BASE).join(format!("filter-{}", &name[..16])))))
    }

    /// The filter in base64, if one was kept.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn kept(&self) -> Result<Option<String>> {
        match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // To a runtime no instructions may be no filter.
            filter => Ok(Some(filter.act(|| format!("read {}", self.0.display()))?)
                .filter(|filter| !filter.is_empty())
                .map(|filter| STANDARD.encode(filter))),
        }
    }

    /// Keeps the one that was made for `run`; if its runtime left it there, and nobody was faster.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn keep(&self, run: &RunDirectory) -> Result<()> {
        match fs::hard_link(run.filter(), &self.0) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => Ok(()),
            linked => linked.act(|| format!("keep {} as {}", run.filter().display(), self.0.display())),
        }
    }
}
