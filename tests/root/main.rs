//! Tests that need root and a kernel: each case runs on the host where it can and in the test VM.
//!
//! A case that cannot run here is reported as ignored with its reason, and counted.

mod thin;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let trials: Vec<Trial> = thin::trials();
    libtest_mimic::run(&arguments, trials).exit();
}
