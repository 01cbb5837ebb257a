//! File systems as the kernel mounts them: mounts that nobody else sees, the mount table.

mod mount;
mod mount_table;
pub mod subvolume;

pub use mount::{BlockFs, MountSpec, Mounted, unmount};
pub use mount_table::{MountEntry, mount_table, mounts_below};
