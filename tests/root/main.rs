//! Tests that need root and a kernel: each case runs on the host where it can and in the test VM.
//!
//! A case that cannot run here is reported as ignored with its reason, and counted.
#![allow(unreachable_pub, reason = "a test program has no outside")]

mod conformance;
mod pool;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // One case starts programs, and until such a child has executed it holds every descriptor of the others: a mount or
    // a device that they give up meanwhile is busy. Commands are processes of their own and do not meet this.
    arguments.test_threads.get_or_insert(1);
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(conformance::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
