//! Lamina: container images and containers as block-level copy-on-write snapshots.
//!
//! Each layer of an image is a device-mapper thin snapshot or a btrfs subvolume, made by this program's own ioctls on a
//! pool that lies on sparse files or block devices. A container is one more snapshot on top: changing 4 KiB of a 1 GiB
//! file costs one chunk, not a copy of the file.
//!
//! ```text
//! main -> cli -> bench -> {build, container} -> {runtime, image, volume} -> store -> driver -> {block, fs} -> sys -> {units, id, error}
//! ```
//!
//! A module uses only what stands to its right; `crash`, `interrupt` and `program` are small and serve all. Only `cli`
//! prints, only `sys` is unsafe, `driver` knows no database and `store` no ioctl. docs/architecture.md follows one
//! command through all of them.
//!
//! # Words
//! - **pool**: the space that all snapshots share: a thin-pool or a file system.
//! - **volume**: what a driver stores, known by a number: a thin device, a subvolume, a directory.
//! - **snapshot**: a volume with a place in the tree: *active* (writable), *view* (read-only), *committed* (never changes).
//! - **layer**: a committed snapshot. Its *diff ID* is the sha256 of its tar, its *chain ID* the identity of its stack, its
//!   *cache ID* the random name under which it lies in the pool.
//! - **data volume**: a directory of the host's file system beside the pool, which containers share.
//! - **image**: a configuration and an ordered list of diff IDs. **container**: an active snapshot of an image.
//!
//! # Example
//! ```no_run
//! use lamina::{
//!     container::Containers,
//!     image::{import::import, reference::Reference},
//!     store::{PoolOptions, Store},
//! };
//!
//! # fn main() -> lamina::Result<()> {
//! let (store, _made) = Store::open_or_make("/var/lib/lamina".as_ref(), &PoolOptions::default())?;
//! let name: Reference = "debian:12".parse()?;
//! let image = import(&store, std::io::stdin(), &name, "-")?;
//! let containers = Containers::new(&store);
//! let container = containers.create(&image, "debian:12", None)?;
//! println!("{}", containers.mount(&container)?.display());
//! # Ok(())
//! # }
//! ```

pub mod bench;
pub mod block;
pub mod build;
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
pub mod runtime;
pub mod store;
pub mod sys;
pub mod units;
pub mod volume;

pub use error::{Error, Kind, Result};
