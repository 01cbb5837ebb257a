//! Something of each kind that a layer can hold.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, lchown, symlink},
    },
    path::Path,
};

use nix::sys::{
    stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat},
    time::{TimeSpec, TimeValLike as _},
};
use rustix::fs::{XattrFlags, lsetxattr};

use crate::pool::Outcome;

/// Puts it below `root`: files of all kinds, owners, modes, extended attributes, hard links, names that are no text, times.
pub fn put_everything(root: &Path) -> Outcome {
    let every = root.join("every");
    fs::create_dir_all(every.join("dir"))?;
    fs::write(every.join("file"), vec![7; 300_000])?;
    fs::hard_link(every.join("file"), every.join("dir/same"))?;
    fs::write(every.join("empty"), "")?;
    fs::write(every.join(OsStr::from_bytes(b"no\xfftext")), "a name")?;
    fs::write(every.join("n".repeat(200)), "a long name")?;
    symlink("../etc/old", every.join("link"))?;
    symlink("t".repeat(300), every.join("dir/far"))?;
    fs::write(every.join("sparse"), "begin")?;
    fs::OpenOptions::new().write(true).open(every.join("sparse"))?.set_len(3 << 20)?;
    let mode = Mode::from_bits_truncate(0o640);
    mknod(&every.join("fifo"), SFlag::S_IFIFO, mode, 0)?;
    mknod(&every.join("character"), SFlag::S_IFCHR, mode, makedev(1, 3))?;
    mknod(&every.join("block"), SFlag::S_IFBLK, mode, makedev(259, 70_000))?;
    fs::write(every.join("program"), "#!/bin/sh\n")?;
    lchown(every.join("program"), Some(1000), Some(3_000_000))?;
    lchown(every.join("link"), Some(7), Some(8))?;
    fs::set_permissions(every.join("program"), fs::Permissions::from_mode(0o6755))?;
    fs::set_permissions(every.join("dir"), fs::Permissions::from_mode(0o1777))?;
    // CAP_NET_BIND_SERVICE, as setcap(8) writes it.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    lsetxattr(every.join("empty"), "security.capability", &capability, XattrFlags::empty())?;
    lsetxattr(every.join("file"), "user.binary", b"\0\n=\xff", XattrFlags::empty())?;
    // No empty one: in PAX, which Go's programs follow, an empty value takes the record away.
    lsetxattr(every.join("dir"), "user.text", b"text", XattrFlags::empty())?;
    for (name, seconds) in [("file", 1), ("link", 1_700_000_000), ("character", 4_000_000_000), ("dir", 1_500_000_000)]
    {
        let time = TimeSpec::seconds(seconds);
        utimensat(nix::fcntl::AT_FDCWD, &every.join(name), &time, &time, UtimensatFlags::NoFollowSymlink)?;
    }
    Ok(())
}
