//! Removal inside the tree: all of something that makes way, or only what earlier layers had.
//!
//! Invariant: nothing is followed; a directory is only entered through its parent's descriptor and `O_NOFOLLOW`.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, BorrowedFd},
    vec,
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, Timespec},
    io::Errno,
};

use super::{
    node,
    placed::Placed,
    tree::{DIRECTORY, Dir, restore_mtime},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{Descent, names, remove_tree},
    image::shown,
};

/// Removes `name` and everything below it. Missing is success.
pub(super) fn all(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    remove_tree(parent, &c_name(name)?)
}

/// What people copy takes no mount away: the kernel would let it, wherever else that is mounted.
pub(super) fn refuse_mount(dir: &Dir, name: &[u8]) -> Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = fs::statx(&dir.fd, name, flags, StatxFlags::TYPE).act(|| "look at what is there")?;
    if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        let what = "device or resource busy: a file from outside is mounted there; write to that file itself";
        return Err(Error::new(Kind::InUse, what));
    }
    Ok(())
}

/// Removes `name` in `dir` as far as it is not this layer's. Missing is success.
pub(super) fn lower(placed: &Placed, dir: &Dir, name: &[u8]) -> Result<()> {
    empty(placed, dir, vec![c_name(name)?])
}

/// Removes everything in `dir` that is not this layer's.
pub(super) fn lower_content(placed: &Placed, dir: &Dir) -> Result<()> {
    empty(placed, dir, names(dir.fd.as_fd())?)
}

/// A directory that is being emptied.
struct Level {
    ino: u64,
    left: vec::IntoIter<CString>,
    /// `None` for the first.
    entered: Option<Entered>,
}

struct Entered {
    name: CString,
    /// This layer has a member for it.
    kept: bool,
    mtime: Timespec,
}

fn empty(placed: &Placed, dir: &Dir, names: Vec<CString>) -> Result<()> {
    let mut descent = Descent::new(dir.fd.as_fd())?;
    let mut levels = vec![Level { ino: dir.ino, left: names.into_iter(), entered: None }];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.left.next() {
            let kept = placed.has(level.ino, name.to_bytes());
            levels.extend(remove_or_enter(placed, &mut descent, name, kept)?);
        } else if let Some(entered) = levels.pop().and_then(|level| level.entered) {
            leave(&mut descent, &entered)?;
        }
    }
    Ok(())
}

/// Removes `name`; a directory that may hold something of earlier layers is entered instead.
fn remove_or_enter(placed: &Placed, descent: &mut Descent, name: CString, kept: bool) -> Result<Option<Level>> {
    if !kept {
        match fs::unlinkat(descent.here(), &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Ok(()) | Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno).act(|| format!("remove {}", shown(name.to_bytes()))),
        }
    }
    match descent.enter(&name) {
        // This layer's file, with nothing of earlier layers below it.
        Err(error) if matches!(error.errno(), Some(libc::ENOTDIR | libc::ELOOP)) => return Ok(None),
        entered => entered?,
    }
    let stat = fs::fstat(descent.here()).act(|| "look at a directory")?;
    if placed.is_ours(stat.st_ino) {
        return descent.leave().map(|()| None);
    }
    let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    let left = names(descent.here())?.into_iter();
    Ok(Some(Level { ino: stat.st_ino, left, entered: Some(Entered { name, kept, mtime }) }))
}

/// Goes back up from a directory that was emptied, and removes it unless it is this layer's.
fn leave(descent: &mut Descent, entered: &Entered) -> Result<()> {
    let act = || format!("remove {}", shown(entered.name.to_bytes()));
    if entered.kept {
        restore_mtime(descent.here(), entered.mtime).act(act)?;
        return descent.leave();
    }
    descent.leave()?;
    match fs::unlinkat(descent.here(), &entered.name, AtFlags::REMOVEDIR) {
        // It holds something of this layer that has no member for its directory: that directory is then one that was
        // made on the way.
        Err(Errno::NOTEMPTY) => {
            let fd = fs::openat(descent.here(), &entered.name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).act(act)?;
            node::plain(&fd).and_then(|()| restore_mtime(fd.as_fd(), entered.mtime)).act(act)
        }
        done => done.act(act),
    }
}

fn c_name(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(std::io::Error::from).act(|| "remove a name with a zero in it")
}
