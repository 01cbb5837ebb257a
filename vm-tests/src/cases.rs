//! What a libtest-compatible binary says: its list of cases, and what became of one of them.
//!
//! Pure text. A case counts as passed only when the binary itself says that one test passed: an exit code of 0 with
//! nothing run is a failure.

use crate::protocol::Exit;

/// A case's output declares a kernel message as expected with a line that starts so.
const EXPECT_KMSG: &str = "VM-EXPECT-KMSG:";

/// A case that cannot run says so with a line that starts so.
const SKIPPED: &str = "SKIPPED:";

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ran and holds.
    Passed,
    /// It did not, for this reason.
    Failed(String),
    /// It could not be tried, for this reason.
    Skipped(String),
}

/// The names in the answer to `--list --format terse`.
pub(crate) fn listed(answer: &str) -> Vec<String> {
    answer.lines().filter_map(|line| line.strip_suffix(": test")).map(without_kind).collect()
}

/// libtest-mimic puts `[kind] ` before a name, yet `--exact` wants the name alone.
fn without_kind(name: &str) -> String {
    let bare = name.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(name, |(_, bare)| bare);
    bare.to_owned()
}

/// Whether the name is wanted: no filter wants all.
pub(crate) fn selected(name: &str, filters: &[String]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}

/// The kernel messages that the case expects.
pub(crate) fn expected_kmsg(output: &str) -> Vec<String> {
    said(output, EXPECT_KMSG).filter(|text| !text.is_empty()).collect()
}

/// The rest of each line that starts with `word`. The harness leaves `test NAME ... ` unfinished while a case runs, so
/// the case's first line continues that one.
fn said<'out>(output: &'out str, word: &'out str) -> impl Iterator<Item = String> + 'out {
    output.lines().filter_map(move |line| {
        let own = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")).map_or(line, |(_, own)| own);
        own.strip_prefix(word).map(|text| text.trim().to_owned())
    })
}

/// What the binary's exit and output say about its one case.
pub(crate) fn verdict(exit: &Exit, output: &str) -> Verdict {
    match exit {
        Exit::Code(0) => {}
        Exit::Code(code) => return Verdict::Failed(format!("exit code {code}")),
        Exit::Signal(signal) => return Verdict::Failed(format!("killed by signal {signal}")),
        Exit::NotStarted(cause) => return Verdict::Failed(format!("not started: {cause}")),
    }
    if let Some(reason) = said(output, SKIPPED).next() {
        return Verdict::Skipped(reason);
    }
    if count(output, "passed") == Some(1) {
        return Verdict::Passed;
    }
    if count(output, "ignored") == Some(1) {
        return Verdict::Skipped(ignored_reason(output));
    }
    Verdict::Failed("exit code 0, but the binary does not say that one test passed".into())
}

/// The number before `word` in the last line `test result: ok. 1 passed; 0 failed; ...`.
fn count(output: &str, word: &str) -> Option<u64> {
    let line = output.lines().rfind(|line| line.starts_with("test result:"))?;
    let (before, _) = line.split_once(&format!(" {word}"))?;
    before.rsplit(' ').next()?.parse().ok()
}

/// The reason in libtest's `test NAME ... ignored, REASON` and in libtest-mimic's `test NAME ... ignored (REASON)`.
fn ignored_reason(output: &str) -> String {
    let reason = output.lines().find_map(|line| {
        // Output of the case may have pushed the verdict onto a line of its own; its name may hold the word, too.
        let verdict = line.split_once(" ... ignored").map(|(_, rest)| rest);
        let rest = line.strip_prefix("ignored").or(verdict)?;
        rest.strip_prefix(", ").or_else(|| Some(rest.strip_prefix(" (")?.trim_end_matches(')')))
    });
    reason.unwrap_or("ignored without a reason").trim().to_owned()
}

#[cfg(test)]
mod tests;
