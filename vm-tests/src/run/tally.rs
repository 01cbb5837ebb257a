//! Outcomes as text, and their count.

use std::fmt::{Display, Formatter};
use std::time::Duration;

use crate::cases::Verdict;

/// What became of one case.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Binary and name.
    pub(crate) label: String,
    /// The judgement.
    pub(crate) verdict: Verdict,
    /// How long it took.
    pub(crate) took: Duration,
    /// Its output, and what else may explain a failure.
    pub(crate) details: String,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let seconds = self.took.as_secs_f64();
        match &self.verdict {
            Verdict::Passed => write!(f, "pass  {seconds:7.2} s  {}", self.label),
            Verdict::Skipped(reason) => {
                write!(f, "skip  {seconds:7.2} s  {}: {reason}", self.label)
            }
            Verdict::Failed(cause) => {
                write!(f, "FAIL  {seconds:7.2} s  {}: {cause}", self.label)?;
                self.details.lines().try_for_each(|line| write!(f, "\n    | {line}"))
            }
        }
    }
}

/// How many cases passed, failed and were skipped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    /// Adds one case.
    pub(crate) fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
        }
    }

    /// Whether something was proved and nothing refuted: skips alone prove nothing.
    pub(crate) fn success(self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::cases::Verdict;

    #[test]
    fn the_summary_counts_and_decides() {
        let mut tally = Tally::default();
        assert!(!tally.success());
        tally.count(&Verdict::Skipped(String::new()));
        assert!(!tally.success());
        tally.count(&Verdict::Passed);
        assert!(tally.success());
        tally.count(&Verdict::Failed(String::new()));
        assert!(!tally.success());
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 1 skipped");
    }
}
