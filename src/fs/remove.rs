//! Removal of a whole tree.
//!
//! Invariant: nothing outside the named entry is touched, whatever lies in it: symlinks are removed, not followed.

use std::{
    ffi::{CStr, CString},
    io, mem,
    os::fd::BorrowedFd,
    path::Path,
    vec,
};

use rustix::{
    fs::{AtFlags, unlinkat},
    io::Errno,
};

use super::{
    descent::{Descent, names},
    entry::{Place, is_dir},
};
use crate::error::{Act as _, Result};

/// Removes the entry `name` of `dir` with all below it; nothing there is success. What is mounted below is not entered. Does not ask for interruption: it is
/// what undoes interrupted work.
///
/// # Errors
/// The kernel's reason; `InUse` for what has something mounted on it; what could be removed before is gone.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let place = Place { dir, name };
    let Some(stat) = place.stat()? else { return Ok(()) };
    if !is_dir(&stat) {
        return unlink(dir, name, AtFlags::empty());
    }
    let mut descent = Descent::new(dir)?;
    // Of each open directory its own name and the names in it that are left.
    let mut levels: Vec<(CString, vec::IntoIter<CString>)> = Vec::new();
    let mut next = Some(name.to_owned());
    while let Some(name) = next.take() {
        if let Err(error) = unlink(descent.here(), &name, AtFlags::empty()) {
            // Linux says EISDIR, POSIX and some file systems EPERM.
            if !matches!(error.errno(), Some(libc::EISDIR | libc::EPERM)) || !holds_dir(&descent, &name)? {
                return Err(error);
            }
            descent.enter_unmounted(&name)?;
            levels.push((name, names(descent.here())?.into_iter()));
        }
        while let Some((own, left)) = levels.last_mut() {
            next = left.next();
            if next.is_some() {
                break;
            }
            let own = mem::take(own);
            levels.pop();
            descent.leave()?;
            unlink(descent.here(), &own, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

/// The outcome of the removal of what need not be there.
///
/// # Errors
/// Those of the removal but that one.
pub fn if_there(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// How often a directory is tried to be removed again into which a file has come.
const TRIES: u32 = 100;

/// Removes a directory into which processes that are about to end may put a last file. Nothing there is success.
///
/// # Errors
/// The system's; `ENOTEMPTY` if it goes on and on.
pub fn remove_while_filled(directory: &Path) -> io::Result<()> {
    let mut tries = 0..TRIES;
    loop {
        match if_there(std::fs::remove_dir_all(directory)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) && tries.next().is_some() => {}
            removed => return removed,
        }
    }
}

fn holds_dir(descent: &Descent, name: &CStr) -> Result<bool> {
    Ok(Place { dir: descent.here(), name }.stat()?.is_some_and(|stat| is_dir(&stat)))
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<()> {
    match unlinkat(dir, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        other => other.act(|| format!("remove '{}'", name.to_string_lossy().escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::remove_tree;
    use std::{
        fs::{self, File},
        os::{fd::AsFd as _, unix::fs::symlink},
    };

    #[test]
    fn everything_goes_but_what_links_point_at() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("gone/a/b/c")).unwrap();
        fs::create_dir(at("stays")).unwrap();
        fs::write(at("stays/file"), "x").unwrap();
        fs::write(at("gone/a/file"), "x").unwrap();
        symlink("../stays", at("gone/link")).unwrap();
        symlink("../../stays", at("gone/a/link")).unwrap();
        let dir = File::open(root.path()).unwrap();
        for _ in 0..2 {
            remove_tree(dir.as_fd(), c"gone").unwrap();
            assert!(!at("gone").exists());
        }
        assert!(at("stays/file").exists());
        remove_tree(dir.as_fd(), c"never-was").unwrap();
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let root = tempfile::tempdir().unwrap();
        let top = File::open(root.path()).unwrap();
        let mut dir = top.try_clone().unwrap();
        for _ in 0..300 {
            let name = "d".repeat(60);
            rustix::fs::mkdirat(&dir, &*name, 0o755.into()).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY;
            dir = rustix::fs::openat(&dir, &*name, flags, rustix::fs::Mode::empty()).unwrap().into();
        }
        let name = std::ffi::CString::new("d".repeat(60)).unwrap();
        remove_tree(top.as_fd(), &name).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
