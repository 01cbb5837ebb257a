//! Block devices that pools lie on.

mod blank;
mod loop_file;

pub use blank::{ensure_blank, make_blank};
pub use loop_file::LoopFile;
