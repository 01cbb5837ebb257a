//! Content and metadata of single files, directories and special files.
//!
//! Invariant: owner first, then mode, then extended attributes, then times, because chown clears setuid bits and
//! `security.capability`, and everything before changes the times.

use std::{
    ffi::CString,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::tree::NewFile;
use crate::{
    error::{Act as _, Error, Kind, Result},
    image::{
        shown,
        tar::{Input, Member, MemberKind, Members, Segment},
        xattr::{is_content, is_overlays},
    },
    interrupt,
};

/// So many zeros, from a multiple of as many on, are left out of a file: no file system allots less than a page.
const HOLE: usize = 4096;

/// Writes a member's content. Holes of sparse members stay holes, and long zeros become some: an archive made here has
/// what was a hole as zeros. `room` hears of the bytes before they are written, as they really come: what the header says
/// may be a lie.
pub(super) fn write<I: Input>(
    file: &NewFile,
    member: &Member,
    members: &mut Members<'_, I>,
    room: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let failed = |errno: Errno| -> Error {
        let failed: rustix::io::Result<()> = Err(errno);
        match failed.act(|| format!("entry {} at byte {}: write", shown(&member.name), member.offset)) {
            Err(error) => error,
            Ok(()) => Error::new(Kind::Io, "write"),
        }
    };
    let whole = [Segment { offset: 0, length: members.remaining() }];
    let mut end = 0;
    for segment in member.segments.as_deref().unwrap_or(&whole) {
        let mut at = segment.offset;
        let mut left = segment.length;
        while left > 0 {
            let here = members.data()?;
            let here = &here[..here.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            let count = match zeros(here, at) {
                0 => {
                    let here = &here[..data(here, at)];
                    room(here.len() as u64)?;
                    rustix::io::retry_on_intr(|| rustix::io::pwrite(&file.fd, here, at)).map_err(failed)?
                }
                zeros => zeros,
            };
            members.take(count);
            at += count as u64;
            left -= count as u64;
            if left > 0 {
                interrupt::check()?;
            }
        }
        end = end.max(at);
    }
    // What lies behind the last byte written.
    let size = if member.segments.is_some() { member.size } else { end };
    fs::ftruncate(&file.fd, size).map_err(failed)
}

/// How many of these bytes, which belong at `offset`, are pages of zeros at their beginning.
fn zeros(bytes: &[u8], offset: u64) -> usize {
    if !offset.is_multiple_of(HOLE as u64) {
        return 0;
    }
    bytes.chunks_exact(HOLE).take_while(|page| page.iter().all(|byte| *byte == 0)).count() * HOLE
}

/// How many of them come before the next page of zeros.
fn data(bytes: &[u8], offset: u64) -> usize {
    let ahead = usize::try_from(offset.next_multiple_of(HOLE as u64) - offset).unwrap_or_default();
    let Some(pages) = bytes.get(ahead..) else { return bytes.len() };
    let filled = pages.chunks(HOLE).take_while(|page| page.len() < HOLE || page.iter().any(|byte| *byte != 0));
    ahead + filled.map(<[u8]>::len).sum::<usize>()
}

/// Refuses special files that mean something else to a driver.
pub(super) fn refuse(member: &Member) -> Result<()> {
    if member.kind == MemberKind::CharDevice(0, 0) {
        return Err(Error::new(Kind::Invalid, "character device 0:0 is overlayfs' own mark of a deleted file"));
    }
    Ok(())
}

/// Makes a symlink, fifo or device.
pub(super) fn make(member: &Member, parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    match member.kind {
        MemberKind::CharDevice(major, minor) => {
            fs::mknodat(parent, name, FileType::CharacterDevice, mode, fs::makedev(major, minor))
        }
        MemberKind::BlockDevice(major, minor) => {
            fs::mknodat(parent, name, FileType::BlockDevice, mode, fs::makedev(major, minor))
        }
        MemberKind::Fifo => fs::mknodat(parent, name, FileType::Fifo, mode, 0),
        MemberKind::Symlink => fs::symlinkat(&member.link[..], parent, name),
        MemberKind::File | MemberKind::HardLink | MemberKind::Directory => Err(Errno::INVAL),
    }
}

fn owner(member: &Member) -> Result<(Uid, Gid)> {
    // 2^32-1 means 'leave it' to chown(2).
    let id = |value: u64| u32::try_from(value).ok().filter(|id| *id != u32::MAX);
    match (id(member.uid), id(member.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(Error::new(Kind::Invalid, format!("its owner {}:{} is out of range", member.uid, member.gid))),
    }
}

fn times(member: &Member) -> Timestamps {
    let modified = Timespec { tv_sec: member.mtime.seconds, tv_nsec: i64::from(member.mtime.nanoseconds) };
    let accessed =
        member.atime.map_or(modified, |time| Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) });
    Timestamps { last_access: accessed, last_modification: modified }
}

/// Every extended attribute of the member, checked.
fn xattrs(member: &Member) -> Result<Vec<(CString, &[u8])>> {
    let checked = member.xattrs.iter().map(|(name, value)| {
        if is_overlays(name) {
            let reason = format!("its attribute {} is overlayfs' own", shown(name));
            return Err(Error::new(Kind::Invalid, reason));
        }
        let name = CString::new(&name[..]).map_err(|_| Error::new(Kind::Invalid, "an attribute's name has a zero"))?;
        Ok((name, &value[..]))
    });
    checked.collect()
}

fn xattr_act(name: &CString, value: &[u8]) -> String {
    format!("set its attribute {} of {} bytes", shown(name.as_bytes()), value.len())
}

/// Sets everything about a file or directory.
pub(super) fn set_metadata(fd: &OwnedFd, member: &Member) -> Result<()> {
    let (uid, gid) = owner(member)?;
    fs::fchown(fd, Some(uid), Some(gid)).act(|| format!("set its owner {}:{}", member.uid, member.gid))?;
    fs::fchmod(fd, Mode::from_raw_mode(member.mode)).act(|| format!("set its mode {:o}", member.mode))?;
    for (name, value) in xattrs(member)? {
        fs::fsetxattr(fd, &name, value, XattrFlags::empty()).act(|| xattr_act(&name, value))?;
    }
    fs::futimens(fd, &times(member)).act(|| "set its times")
}

/// Sets everything about a symlink, fifo or device. Where the tree is a running container's, the name may have become
/// something else by now, a symlink at worst: none of these calls follows one.
pub(super) fn set_metadata_at(member: &Member, parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let (uid, gid) = owner(member)?;
    fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .act(|| format!("set its owner {}:{}", member.uid, member.gid))?;
    if member.kind != MemberKind::Symlink {
        set_mode_at(member, parent, name).act(|| format!("set its mode {:o}", member.mode))?;
    }
    let path = path_of(parent, name);
    for (attribute, value) in xattrs(member)? {
        fs::lsetxattr(&path, &attribute, value, XattrFlags::empty()).act(|| xattr_act(&attribute, value))?;
    }
    fs::utimensat(parent, name, &times(member), AtFlags::SYMLINK_NOFOLLOW).act(|| "set its times")
}

/// There is no chmod that leaves links alone before Linux 6.6 (`fchmodat2`), and it is only asked of what was made.
fn set_mode_at(member: &Member, parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let act = || "look at it again";
    let made = fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).act(act)?;
    let kind = match member.kind {
        MemberKind::CharDevice(..) => FileType::CharacterDevice,
        MemberKind::BlockDevice(..) => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    if FileType::from_raw_mode(fs::fstat(&made).act(act)?.st_mode) != kind {
        return Err(Error::new(Kind::InUse, "something else was put in its place when it was made"));
    }
    let path = format!("/proc/self/fd/{}", made.as_raw_fd());
    fs::chmod(path, Mode::from_raw_mode(member.mode)).act(|| "change it")
}

/// Attribute calls on what cannot be opened need a path (setxattrat came with Linux 6.13).
fn path_of(parent: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(std::ffi::OsStr::from_bytes(name))
}

/// Takes off what an earlier layer or a parent's default access control list gave.
pub(super) fn strip_xattrs(fd: &OwnedFd) -> Result<()> {
    strip(fs::flistxattr_query(fd), |list| fs::flistxattr(fd, list), |name| fs::fremovexattr(fd, name))
        .act(|| "remove its old attributes")
}

/// The same for what cannot be opened.
pub(super) fn strip_xattrs_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let path = path_of(parent, name);
    strip(fs::llistxattr_query(&path), |list| fs::llistxattr(&path, list), |name| fs::lremovexattr(&path, name))
        .act(|| "remove its inherited attributes")
}

fn strip(
    size: rustix::io::Result<usize>,
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    remove: impl Fn(&[u8]) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    // XATTR_LIST_MAX (include/uapi/linux/limits.h), taken only when there is something to list.
    if size? == 0 {
        return Ok(());
    }
    let mut names = vec![0; 65_536];
    let length = list(&mut names)?;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_content(name)) {
        remove(name)?;
    }
    Ok(())
}

/// Makes an open directory what one is that no member describes: 0755, root's, without attributes.
pub(super) fn plain(fd: &OwnedFd) -> rustix::io::Result<()> {
    fs::fchown(fd, Some(Uid::ROOT), Some(Gid::ROOT))?;
    fs::fchmod(fd, Mode::from_raw_mode(0o755))?;
    strip(fs::flistxattr_query(fd), |list| fs::flistxattr(fd, list), |name| fs::fremovexattr(fd, name))
}

/// The same for one just made.
pub(super) fn plain_directory(fd: &OwnedFd) -> Result<()> {
    plain(fd).act(|| "set its owner and mode")
}
