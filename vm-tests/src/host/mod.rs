//! The host's side: what a machine is made of, and the machine itself.

mod accel;
mod disks;
mod initramfs;
mod kernel;
pub(crate) mod machine;
mod modules;
mod program;
mod qemu;
pub(crate) mod workspace;

pub(crate) use program::{find, search_path};
