//! What a runtime compiled of the profile of system calls, kept for the next run: compiling takes a third of a short run.
//!
//! Invariant: it is kept under a name that tells from which profile and by which program it was made, and it is as that program
//! loaded it. Whoever does not take it compiles the profile, which is told besides.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    program::OciRuntime,
    run_directory::{RunDirectory, filter_named},
    seccomp::profile,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::Digest,
};

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Filter {
    path: PathBuf,
    kept: Option<String>,
}

impl Filter {
    /// That which `runtime`, the program at `program`, makes of the profile; none if it takes none that is made, or if it
    /// cannot be told.
    pub(super) fn of(runtime: OciRuntime, program: &Path) -> Option<Self> {
        let found = runtime.takes_filters().then(|| name(program).and_then(|name| Self::at(filter_named(&name))));
        found?.map_err(tell).ok()
    }

    fn at(path: PathBuf) -> Result<Self> {
        let act = || format!("read {}", path.display());
        let kept = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).act(act),
            Ok(about) if !is_filter(&about) => {
                return Err(Error::new(Kind::Corrupt, format!("{}: that is no filter; remove it", act())));
            }
            Ok(_) => Some(STANDARD.encode(fs::read(&path).act(act)?)),
        };
        Ok(Self { path, kept })
    }

    /// The one that is kept, in base64.
    pub(super) fn kept(&self) -> Option<String> {
        self.kept.clone()
    }

    /// Keeps the one that was made for `run` if none was, if its runtime left it there, and if nobody was faster.
    pub(super) fn keep_or_tell(&self, run: &RunDirectory) {
        if self.kept.is_none() {
            let _told = self.keep(&run.filter()).map_err(tell);
        }
    }

    fn keep(&self, made: &Path) -> Result<()> {
        match fs::hard_link(made, &self.path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => Ok(()),
            linked => linked.act(|| format!("keep {} as {}", made.display(), self.path.display())),
        }
    }
}

/// Whether it is a file of some instructions (`struct sock_filter`, at most `BPF_MAXINSNS`): none may be no filter to a runtime.
fn is_filter(about: &Metadata) -> bool {
    const INSTRUCTION: u64 = 8;
    const MOST: u64 = 4096;
    about.is_file() && about.len().is_multiple_of(INSTRUCTION) && (1..=MOST).contains(&(about.len() / INSTRUCTION))
}

fn tell(error: Error) {
    tracing::warn!("{error}; the runtime compiles the profile of system calls each time");
}

/// What tells a profile, a program and a boot, and with that a kernel, from others.
fn name(program: &Path) -> Result<String> {
    const BOOT: &str = "/proc/sys/kernel/random/boot_id";
    let act = || "name the filter of system calls";
    let profile = profile().map_err(|error| Error::with_source(Kind::Invalid, act(), error))?;
    let boot = fs::read_to_string(BOOT).act(|| format!("read {BOOT}"))?;
    let about = fs::metadata(program).act(|| format!("look for {}", program.display()))?;
    // The time of change is the one that nobody can set.
    let file = (about.dev(), about.ino(), about.size(), about.ctime(), about.ctime_nsec());
    let text =
        serde_json::to_vec(&(profile, boot, file)).map_err(|error| Error::with_source(Kind::Io, act(), error))?;
    Ok(Digest::of(&text).hex()[..16].to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Filter, name};

    #[test]
    fn the_first_one_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let kept = || Filter::at(at("kept")).unwrap();
        kept().keep(&at("made")).unwrap();
        assert_eq!(kept().kept(), None);
        fs::write(at("made"), "12345678").unwrap();
        fs::write(at("late"), "abcdefgh").unwrap();
        let before = kept();
        before.keep(&at("made")).unwrap();
        before.keep(&at("late")).unwrap();
        assert_eq!(kept().kept().unwrap(), "MTIzNDU2Nzg=");
    }

    #[test]
    fn what_is_none_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        for length in [0, 7, 8 * 4097] {
            fs::write(&path, vec![0; length]).unwrap();
            Filter::at(path.clone()).unwrap_err();
        }
        Filter::at(directory.path().to_owned()).unwrap_err();
    }

    #[test]
    fn another_program_has_another() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("crun");
        fs::write(&program, "1").unwrap();
        let first = name(&program).unwrap();
        assert_eq!(name(&program).unwrap(), first);
        fs::write(&program, "22").unwrap();
        assert_ne!(name(&program).unwrap(), first);
        name(&directory.path().join("none")).unwrap_err();
    }
}
