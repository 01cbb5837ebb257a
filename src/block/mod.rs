//! Block devices that pools lie on.

mod loop_file;

pub use loop_file::LoopFile;
