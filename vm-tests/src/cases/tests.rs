//! Answers of libtest and libtest-mimic, word for word.

use super::{Verdict, expected_kmsg, listed, selected, verdict};
use crate::protocol::Exit;

const PASSED: &str = "\nrunning 1 test\ntest a::b ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; \
                      7 filtered out; finished in 0.00s\n";

#[test]
fn a_list_is_read_without_benchmarks_and_kinds() {
    let answer = "a::b: test\n[thin] c: test\nd: bench\nd: benchmark\n\n2 tests, 0 benchmarks\n";
    assert_eq!(listed(answer), ["a::b", "c"]);
}

#[test]
fn filters_are_alternatives() {
    assert!(selected("a::b", &[]));
    assert!(selected("a::b", &["x".into(), "::".into()]));
    assert!(!selected("a::b", &["x".into()]));
}

#[test]
fn one_passed_test_passes() {
    assert_eq!(verdict(&Exit::Code(0), PASSED), Verdict::Passed);
}

#[test]
fn success_without_a_test_fails() {
    for output in ["", "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 8 filtered out"]
    {
        assert!(matches!(verdict(&Exit::Code(0), output), Verdict::Failed(_)), "{output:?}");
    }
}

#[test]
fn a_bad_end_fails_whatever_the_output_says() {
    let output = format!("SKIPPED: no\n{PASSED}");
    for exit in [Exit::Code(101), Exit::Signal(11), Exit::NotStarted("gone".into())] {
        assert!(matches!(verdict(&exit, &output), Verdict::Failed(_)));
    }
}

#[test]
fn a_skip_keeps_its_reason_even_on_the_harness_line() {
    for output in
        [format!("SKIPPED: no loop devices\n{PASSED}"), format!("test a ... SKIPPED: no loop devices\nok\n{PASSED}")]
    {
        assert_eq!(verdict(&Exit::Code(0), &output), Verdict::Skipped("no loop devices".into()));
    }
}

#[test]
fn an_ignored_case_is_skipped_with_its_reason() {
    let closing = "test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
    for said in [
        "test a ... ignored, no btrfs",
        "test is_ignored ... ignored (no btrfs)",
        "test a ... words\nignored (no btrfs)",
    ] {
        let output = format!("{said}\n\n{closing}");
        assert_eq!(verdict(&Exit::Code(0), &output), Verdict::Skipped("no btrfs".into()), "{said:?}");
    }
}

#[test]
fn expected_messages_are_collected_and_empty_ones_allow_nothing() {
    let output =
        "test a ... VM-EXPECT-KMSG: I/O error\nVM-EXPECT-KMSG: BUG: x\nVM-EXPECT-KMSG:\nsays VM-EXPECT-KMSG: no\n";
    assert_eq!(expected_kmsg(output), ["I/O error", "BUG: x"]);
}
