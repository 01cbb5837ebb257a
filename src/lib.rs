//! Lamina: container images and containers as block-level copy-on-write snapshots.

pub mod bench;
pub mod block;
pub mod cli;
pub mod container;
pub mod crash;
pub mod driver;
pub mod error;
pub mod fs;
pub mod id;
pub mod image;
pub mod interrupt;
pub mod program;
pub mod store;
pub mod sys;
pub mod units;

pub use error::{Error, Kind, Result};
