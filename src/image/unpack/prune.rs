//! Removal inside the tree: all of something that makes way, or only what earlier layers had.
//!
//! Invariant: nothing is followed; a directory is only entered through its parent's descriptor and `O_NOFOLLOW`.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, BorrowedFd},
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags},
    io::{Errno, Result},
};

use super::{
    node,
    placed::Placed,
    tree::{DIRECTORY, Dir},
};
use crate::{error::Act as _, fs::remove_tree};

/// Removes `name` and everything below it. Missing is success.
pub(super) fn all(parent: BorrowedFd<'_>, name: &[u8]) -> crate::error::Result<()> {
    let name = CString::new(name).map_err(std::io::Error::from).act(|| "remove a name with a zero in it")?;
    remove_tree(parent, &name)
}

/// Removes `name` in `dir` as far as it is not this layer's. Missing is success.
pub(super) fn lower(placed: &Placed, dir: &Dir, name: &[u8]) -> Result<()> {
    let kept = placed.has(dir.ino, name);
    if !kept {
        match fs::unlinkat(&dir.fd, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Err(Errno::NOENT) => return Ok(()),
            done => return done,
        }
    }
    let fd = match fs::openat(&dir.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        // This layer's file, with nothing of earlier layers below it.
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        fd => Dir::new(fd?, placed)?,
    };
    if fd.ours {
        return Ok(());
    }
    lower_content(placed, &fd)?;
    if kept {
        return fd.close();
    }
    match fs::unlinkat(&dir.fd, name, AtFlags::REMOVEDIR) {
        // It holds something of this layer that has no member for its directory: that directory is then one that was
        // made on the way.
        Err(Errno::NOTEMPTY) => {
            node::plain(&fd.fd)?;
            fd.close()
        }
        done => done,
    }
}

/// Removes everything in `dir` that is not this layer's.
pub(super) fn lower_content(placed: &Placed, dir: &Dir) -> Result<()> {
    each(dir.fd.as_fd(), |child| lower(placed, dir, child))
}

/// Runs `act` on every name in the directory, which may remove it. Nothing is open for reading meanwhile: one descriptor
/// for each level is enough of the thousand that a process has.
fn each(dir: BorrowedFd<'_>, mut act: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(dir)? {
        names.push(entry?.file_name().to_owned());
    }
    names.iter().map(|name| name.to_bytes()).filter(|name| !matches!(*name, b"." | b"..")).try_for_each(&mut act)
}
