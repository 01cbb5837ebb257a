//! A mount namespace of the benchmark's own.
//!
//! Invariant: what is mounted after [`enter`] is seen by this process and those that it starts, and by nobody else. So no
//! container that somebody starts meanwhile takes a copy of these mounts with it, which would keep disks and pools
//! busy until it ends; and if this process is killed, its mounts go with it.

use std::path::Path;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{
    error::{Act as _, Result},
    fs::{leave_out, mount_table},
};

/// That the calling thread is in one. Files that are to be linked to a name are made later than this: the kernel links
/// nothing from one namespace into another.
#[derive(Debug)]
pub struct OwnNamespace(());

/// Takes the calling thread, which is to be the program's first, and all that it starts later into one, for good.
///
/// # Errors
/// The kernel's, without the privilege to mount.
pub fn enter() -> Result<OwnNamespace> {
    unshare(CloneFlags::CLONE_NEWNS).act(|| "make a mount namespace")?;
    // What others unmount is unmounted here too, but nothing goes the other way.
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .act(|| "keep mounts from going out of the namespace")?;
    let mut pools = mount_table()?;
    pools.retain(|mount| mount.target.ancestors().any(is_root));
    leave_out(pools)?;
    Ok(OwnNamespace(()))
}

/// Whether it is a root directory of Lamina: pools in it are mounts that nobody's unmount comes from, and would be busy as
/// long as this runs.
fn is_root(directory: &Path) -> bool {
    directory.join("lamina.db").exists()
}
