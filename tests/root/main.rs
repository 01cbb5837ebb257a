//! Tests that need root and a kernel: each case runs on the host where it can and in the test VM.
//!
//! A case that cannot run here is reported as ignored with its reason, and counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]
#![allow(unreachable_pub, reason = "a test program has no outside")]

mod pool;

mod archive;
mod bench;
mod btrfs;
mod btrfs_changes;
mod btrfs_full;
mod build;
mod commands;
mod conformance;
mod crash;
mod damage;
mod disk;
mod full;
mod image;
mod lamina;
mod loop_file;
mod power;
mod registry;
mod running;
mod save;
mod store;
mod thin;
mod trouble;
mod volumes;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() {
    if let Some(filled) = crash::data::fill_if_asked() {
        filled.expect("fill a volume");
        return;
    }
    let mut arguments = Arguments::from_args();
    // A child between fork and exec holds every descriptor of every other case, and so keeps their mounts busy.
    arguments.test_threads.get_or_insert(1);
    let trials: Vec<Trial> = [
        loop_file::trials(),
        btrfs::trials(),
        btrfs_changes::trials(),
        btrfs_full::trials(),
        thin::trials(),
        conformance::trials(),
        image::trials(),
        store::trials(),
        commands::trials(),
        build::trials(),
        running::trials(),
        save::trials(),
        registry::trials(),
        crash::trials(),
        power::trials(),
        damage::trials(),
        full::trials(),
        trouble::trials(),
        volumes::trials(),
        bench::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// A case that is ignored, and says why, without root.
fn as_root(name: &str, case: fn() -> Result<Completion, Failed>) -> Trial {
    Trial::ignorable_test(name, move || {
        if nix::unistd::geteuid().is_root() { case() } else { Ok(Completion::ignored_with("needs root")) }
    })
}
