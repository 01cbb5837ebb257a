//! The beginning of a container's program, read while the runtime makes the container.
//!
//! A snapshot on btrfs or on a thin pool shares no page cache with what it was made of, so the first run of a program in each
//! container reads it from the disk.

use std::{
    num::NonZeroU64,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, Mode, OFlags, ResolveFlags, fadvise, openat2};

use super::bundle::{Command, DEFAULT_PATH};
use crate::fs::open_regular;

/// Most programs are not longer; of others it is enough to begin with.
const LENGTH: NonZeroU64 = NonZeroU64::new(2 << 20).unwrap();

/// Asks the kernel to read ahead the program that `command` runs in the tree at `root`. A hint: what hinders it hinders the
/// runtime, which tells.
pub(super) fn read_ahead(root: BorrowedFd<'_>, command: &Command) {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let open = |path: &PathBuf| openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok();
    let found = places(command).iter().find_map(open);
    if let Some(Ok(Some(program))) = found.map(|found| open_regular(&found)) {
        let _ = fadvise(&program, 0, Some(LENGTH), Advice::WillNeed);
    }
}

/// Where its program may lie, as execvp(3) looks for it.
fn places(command: &Command) -> Vec<PathBuf> {
    let Some(name) = command.args.first() else { return Vec::new() };
    if name.contains('/') {
        return vec![Path::new(&command.cwd).join(name)];
    }
    let path = command.env.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':').map(|directory| Path::new(directory).join(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Command, places};

    #[test]
    fn a_program_is_looked_for_as_the_runtime_does() {
        let of = |name: &str, env: &[&str]| {
            let env = env.iter().map(|pair| (*pair).to_owned()).collect();
            places(&Command { args: vec![name.to_owned()], env, cwd: "/app".to_owned(), ..Command::default() })
        };
        assert_eq!(of("./run", &[]), [PathBuf::from("/app/./run")]);
        assert_eq!(of("/bin/sh", &[]), [PathBuf::from("/bin/sh")]);
        assert_eq!(of("sh", &["PATH=/a:/b"]), [PathBuf::from("/a/sh"), PathBuf::from("/b/sh")]);
        assert!(of("sh", &[]).contains(&PathBuf::from("/bin/sh")));
        assert!(places(&Command::default()).is_empty());
    }
}
