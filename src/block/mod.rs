//! Block devices that pools lie on: loop files, device-mapper devices, thin-pools and their metadata.

mod blank;
mod dm;
mod loop_file;
mod names;
pub mod thin_metadata;
pub mod thin_pool;

pub use blank::{ensure_blank, make_blank};
pub use dm::{Control, Info, TableLine, node};
pub use loop_file::{LoopFile, harms, mapped_on};
pub use names::{DmName, Names};
