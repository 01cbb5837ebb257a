//! How much is measured: one table of sizes and numbers for each length of a benchmark.

use crate::units::Bytes;

/// Sizes and numbers of all workloads that run on every row.
#[derive(Debug)]
pub struct Scale {
    /// Its name on the command line.
    pub name: &'static str,
    /// Runs that count, unless another number is asked for.
    pub runs: usize,
    /// Whether a run before them warms up.
    pub warms_up: bool,
    /// Whether caches are dropped where 'cold' is said, of the whole machine.
    pub is_cold: bool,
    /// Size of the disk, a sparse file, that each row gets.
    pub disk: Bytes,
    /// Sizes of the files that are written to for the first time.
    pub files: &'static [u64],
    /// Size of the file whose metadata changes.
    pub large: Bytes,
    /// Files in the directory whose metadata changes.
    pub directory: usize,
    /// Numbers of layers above the one that holds what is looked up.
    pub depths: &'static [usize],
    /// Small files in the tree that is made, walked, changed and deleted.
    pub tree: usize,
    /// Numbers of containers of one image.
    pub containers: &'static [usize],
    /// Files of the image whose containers are compared with it and committed.
    pub image: usize,
    /// How many of them were changed.
    pub changed: &'static [usize],
    /// Size of the file that many containers read.
    pub shared: Bytes,
    /// How many containers read it.
    pub readers: &'static [usize],
    /// Size of the files that are read and written in bulk.
    pub bulk: Bytes,
    /// In how many ways they are.
    pub transfers: usize,
    /// Size of the database that is updated at random.
    pub database: Bytes,
    /// Packages that are unpacked.
    pub packages: usize,
    /// Files of source code that are compiled, and a hundred times as many that are checked out.
    pub sources: usize,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// To try whether everything runs; its numbers say little, and its caches are never cold.
pub(super) const TINY: Scale = Scale {
    name: "tiny",
    runs: 1,
    warms_up: false,
    is_cold: false,
    disk: Bytes::gib(2),
    files: &[4 * KIB, MIB],
    large: Bytes::mib(1),
    directory: 20,
    depths: &[1, 3],
    tree: 100,
    containers: &[1, 2],
    image: 100,
    changed: &[1, 10],
    shared: Bytes::mib(1),
    readers: &[1, 2],
    bulk: Bytes::mib(1),
    transfers: 16,
    database: Bytes::mib(1),
    packages: 1,
    sources: 1,
};

/// For an emulated machine, which takes ten to thirty times as long: under a quarter of an hour there, with four rows and the
/// fewest runs that can tell a difference.
pub(super) const SMALL: Scale = Scale {
    name: "small",
    runs: 4,
    warms_up: true,
    is_cold: true,
    disk: Bytes::gib(4),
    files: &[4 * KIB, MIB, 32 * MIB],
    large: Bytes::mib(4),
    directory: 50,
    depths: &[1, 8],
    tree: 200,
    containers: &[1, 3],
    image: 200,
    changed: &[1, 20],
    shared: Bytes::mib(4),
    readers: &[1, 4],
    bulk: Bytes::mib(4),
    transfers: 6,
    database: Bytes::mib(2),
    packages: 1,
    sources: 1,
};

/// Under three minutes on an ordinary machine.
pub(super) const QUICK: Scale = Scale {
    name: "quick",
    runs: 5,
    warms_up: true,
    is_cold: true,
    disk: Bytes::gib(16),
    files: &[4 * KIB, 64 * KIB, MIB, 16 * MIB, 128 * MIB],
    large: Bytes::mib(16),
    directory: 500,
    depths: &[1, 8, 32],
    tree: 1000,
    containers: &[1, 10],
    image: 2000,
    changed: &[1, 100],
    shared: Bytes::mib(16),
    readers: &[1, 10],
    bulk: Bytes::mib(16),
    transfers: 6,
    database: Bytes::mib(8),
    packages: 3,
    sources: 3,
};

/// What there is to know; hours where a row copies files.
pub(super) const FULL: Scale = Scale {
    name: "full",
    runs: 11,
    warms_up: true,
    is_cold: true,
    disk: Bytes::gib(64),
    files: &[4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, GIB, 4 * GIB],
    large: Bytes::gib(1),
    directory: 10_000,
    depths: &[1, 8, 32, 64, 125, 250],
    tree: 100_000,
    containers: &[1, 10, 100, 1000],
    image: 100_000,
    changed: &[1, 100, 10_000],
    shared: Bytes::mib(100),
    readers: &[1, 10, 50],
    bulk: Bytes::mib(256),
    transfers: 16,
    database: Bytes::mib(256),
    packages: 50,
    sources: 20,
};
