//! Tests that need root and a kernel: each case runs on the host where it can and in the test VM.
//!
//! A case that cannot run here is reported as ignored with its reason, and counted.
#![allow(unreachable_pub, reason = "a test program has no outside")]

mod conformance;
mod pool;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(conformance::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
