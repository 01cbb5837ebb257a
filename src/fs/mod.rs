//! File systems: mounts that nobody else sees, the mount table, and directory trees walked, compared, copied, removed.

mod change;
mod compare;
mod copy;
mod descent;
mod entry;
mod file_system;
mod grafts;
mod mount;
mod mount_table;
mod namespaces;
mod private;
mod remove;
mod scope;
pub mod send_stream;
mod sparing;
pub mod subvolume;
mod usage;
mod whole;

pub use change::{Change, ChangeKind, Changes};
pub use compare::{FilePair, Same, Verdict, compare, compare_at};
pub(crate) use compare::{Look, compare_guided};
pub use copy::{copy_tree, set_metadata};
pub use descent::{Descent, Found, Way, names, walk};
pub use entry::{Located, Place, Xattrs, differs, file_type, identity, is_at, is_dir, locate, open_regular, times};
pub use file_system::FileSystem;
pub use grafts::Graft;
pub use mount::{Access, BlockFs, MountSpec, Mounted, enter_private_namespace, leave_out, root_of_process, unmount};
pub use mount_table::{MountEntry, home, mount_table, mounts_below};
pub use namespaces::{Sighting, holders, lasting_mounts, mounts_everywhere};
pub use private::{make_new_private, make_private};
pub use remove::{if_there, remove_tree, remove_while_filled};
pub use scope::{Scope, Spot};
pub use sparing::{SparingFile, spare};
pub use usage::{Unwritten, allocated, apparent, apparent_tree, free_space, unwritten, unwritten_of_all};
pub use whole::WholeFile;
