//! `vm-tests selftest`: the harness itself, tried with cases that end in every way a case can.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cases::Verdict;
use crate::exec;
use crate::host::workspace::target_dir;
use crate::report;
use crate::run::{Outcome, Plan, run};

/// The test binary.
const SCRIPT: &str = include_str!("selftest.sh");

/// Enough for an honest case, little for the one that hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// The beginning of each case's verdict, in the order of the script's list.
const EXPECTED: &[(&str, &str)] = &[
    ("passes", "passed"),
    ("fails", "failed: exit code 101"),
    ("skips", "skipped: there is no such device"),
    ("is_ignored", "skipped: needs a moon"),
    ("runs_nothing", "failed: exit code 0, but the binary does not say that one test passed"),
    ("breaks_the_kernel_log", "failed: the kernel logged"),
    ("expects_the_kernel_log", "passed"),
    ("sees_its_disks", "passed"),
    ("leaves_a_process", "passed"),
    ("hangs", "failed: no end after 10 s: killed"),
    ("panics_the_guest", "failed: the guest was lost; last lines of"),
    ("comes_after_the_panic", "failed: not run: the guest was lost"),
];

/// Runs the cases and one command; true if everything ended as it must.
pub(crate) fn selftest() -> Result<bool> {
    let dir = target_dir()?.join("vm");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let script = dir.join("selftest.sh");
    fs::write(&script, SCRIPT).with_context(|| format!("write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context("make the script executable")?;
    let plan = Plan { binaries: vec![script], filters: vec![], env: vec![], limit: LIMIT, verbose: false };
    let mut expected = EXPECTED.iter();
    let mut right = true;
    let tally = run(&plan, &mut |outcome| {
        let wanted = expected.next();
        let ok = wanted.is_some_and(|(name, verdict)| as_wanted(outcome, name, verdict));
        right &= ok;
        report::say(&format!("{}  {outcome}", if ok { "right" } else { "WRONG" }));
    })?;
    let counted = tally.to_string() == "4 passed, 6 failed, 2 skipped" && !tally.success();
    let code = exec::exec(["sh", "-c", "exit 7"].map(str::to_owned).to_vec(), &[])?;
    if !counted || code != 7 {
        report::note(&format!("wrong: counted '{tally}', and 'exit 7' gave {code}"));
    }
    Ok(right && expected.next().is_none() && counted && code == 7)
}

/// Compares the outcome with what the list says; a panic must show what the console said of it.
fn as_wanted(outcome: &Outcome, name: &str, verdict: &str) -> bool {
    let found = match &outcome.verdict {
        Verdict::Passed => "passed".to_owned(),
        Verdict::Skipped(reason) => format!("skipped: {reason}"),
        Verdict::Failed(cause) => format!("failed: {cause}"),
    };
    let word = if name == "panics_the_guest" { "Kernel panic" } else { "" };
    outcome.label.ends_with(&format!("::{name}")) && found.starts_with(verdict) && found.contains(word)
}
