//! `vm-tests run`: every selected case of every binary, one by one, in one machine.
//!
//! Each selected case gets exactly one outcome. What cannot be run is a failure: once the guest is lost, all cases
//! that remain fail as not run.

mod tally;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub(crate) use tally::{Outcome, Tally};

use crate::cases::{self, Verdict};
use crate::environment;
use crate::host::machine::{Ended, Machine, Output};
use crate::host::workspace::Workspace;
use crate::kmsg::trouble;
use crate::protocol::Run;
use crate::report;

/// Kernel messages shown with a case that was killed at its limit.
const LOG_LINES: usize = 60;

/// What to run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The test binaries.
    pub(crate) binaries: Vec<PathBuf>,
    /// Parts of names, one of which a case must have; none selects all.
    pub(crate) filters: Vec<String>,
    /// Variables for the cases.
    pub(crate) env: Vec<(String, String)>,
    /// Time limit of each case.
    pub(crate) limit: Duration,
    /// Whether output of cases is shown as it comes.
    pub(crate) verbose: bool,
}

/// One case of one binary.
#[derive(Debug)]
struct Case {
    binary: PathBuf,
    name: String,
    label: String,
}

/// Runs the plan; `on_outcome` hears of each case as it ends.
pub(crate) fn run(plan: &Plan, on_outcome: &mut dyn FnMut(&Outcome)) -> Result<Tally> {
    let cases = select(plan)?;
    let mut tally = Tally::default();
    if cases.is_empty() {
        report::note("no case is selected; see the names with 'TEST_BINARY --list'");
        return Ok(tally);
    }
    let workspace = Workspace::lock()?;
    let binaries: Vec<PathBuf> = cases.iter().map(|case| case.binary.clone()).collect();
    let start = Instant::now();
    let machine = Machine::boot(&workspace, &binaries, false)?;
    report::note(&format!("booted in {:.1} s; {} cases", start.elapsed().as_secs_f64(), cases.len()));
    for line in trouble(&machine.boot_log, &[]) {
        report::note(&format!("kernel, while booting: {line}"));
    }
    let path = workspace.path("kernel.log");
    let log = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let mut session = Session { machine, log, env: environment::guest(&plan.env)?, plan };
    let mut lost = false;
    for case in &cases {
        let outcome = if lost { not_run(case, &session.machine) } else { session.run(case, &mut lost)? };
        tally.count(&outcome.verdict);
        on_outcome(&outcome);
    }
    Ok(tally)
}

/// Asks each binary for its cases.
fn select(plan: &Plan) -> Result<Vec<Case>> {
    let mut selected = Vec::new();
    for binary in &plan.binaries {
        let binary = fs::canonicalize(binary).with_context(|| format!("find test binary {}", binary.display()))?;
        for name in list(&binary)? {
            let label = format!("{}::{name}", short_name(&binary));
            if cases::selected(&label, &plan.filters) {
                selected.push(Case { binary: binary.clone(), name, label });
            }
        }
    }
    Ok(selected)
}

/// The binary's own list of its cases.
fn list(binary: &Path) -> Result<Vec<String>> {
    let answer = Command::new(binary).args(["--list", "--format", "terse"]).output();
    let answer = answer.with_context(|| format!("start {}", binary.display()))?;
    if !answer.status.success() {
        let cause = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        bail!("list the cases of {}: {}: {cause}; is it a test binary?", binary.display(), answer.status);
    }
    Ok(cases::listed(&String::from_utf8_lossy(&answer.stdout)))
}

/// The binary's name without the hash that cargo appends.
fn short_name(binary: &Path) -> String {
    let name = binary.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match name.rsplit_once('-') {
        Some((short, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            short.to_owned()
        }
        _ => name,
    }
}

/// The outcome of a case that comes after the guest was lost.
fn not_run(case: &Case, machine: &Machine) -> Outcome {
    let cause = if machine.interrupted() { "interrupted" } else { "the guest was lost" };
    let verdict = Verdict::Failed(format!("not run: {cause}"));
    Outcome { label: case.label.clone(), verdict, took: Duration::ZERO, details: String::new() }
}

/// What the cases share.
#[derive(Debug)]
struct Session<'plan> {
    machine: Machine,
    log: File,
    env: Vec<(String, String)>,
    plan: &'plan Plan,
}

/// A case's output, whole and by stream: mixed, a line of one may be torn by the other.
#[derive(Debug, Default)]
struct Transcript {
    mixed: Vec<u8>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Transcript {
    /// Takes in a piece.
    fn add(&mut self, output: Output<'_>) {
        let (bytes, own) = match output {
            Output::Stdout(bytes) => (bytes, &mut self.stdout),
            Output::Stderr(bytes) => (bytes, &mut self.stderr),
        };
        own.extend(bytes);
        self.mixed.extend(bytes);
    }

    /// What the case said, stream by stream.
    fn said(&self) -> String {
        format!("{}\n{}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr))
    }
}

impl Session<'_> {
    /// Runs one case and judges it.
    fn run(&mut self, case: &Case, lost: &mut bool) -> Result<Outcome> {
        let binary = case.binary.display().to_string();
        let argv = [&binary, "--exact", &case.name, "--include-ignored", "--nocapture"].map(str::to_owned).to_vec();
        let run = Run { argv, env: self.env.clone(), cwd: environment::directory()?, terminal: false };
        let mut transcript = Transcript::default();
        let start = Instant::now();
        let verbose = self.plan.verbose;
        let (ended, log) = self.machine.execute(run, Some(self.plan.limit), &mut |output| {
            if let (true, Output::Stdout(bytes) | Output::Stderr(bytes)) = (verbose, output) {
                report::stderr(bytes);
            }
            transcript.add(output);
        })?;
        let took = start.elapsed();
        write!(self.log, "== {}\n{log}", case.label).context("write the kernel log")?;
        let said = transcript.said();
        let mut details = String::from_utf8_lossy(&transcript.mixed).into_owned();
        let verdict = match ended {
            Ended::Exited(exit) => kernel_verdict(cases::verdict(&exit, &said), &log, &said),
            Ended::TimedOut => {
                details += &format!("\nthe kernel's log:\n{}", tail(&log));
                Verdict::Failed(format!("no end after {} s: killed", self.plan.limit.as_secs()))
            }
            Ended::Lost(_) if self.machine.interrupted() => {
                *lost = true;
                Verdict::Failed("interrupted".into())
            }
            Ended::Lost(words) => {
                *lost = true;
                Verdict::Failed(format!("the guest was lost{words}"))
            }
        };
        Ok(Outcome { label: case.label.clone(), verdict, took, details })
    }
}

/// The case's own verdict, unless the kernel has something to say against it.
fn kernel_verdict(verdict: Verdict, log: &str, said: &str) -> Verdict {
    let lines = trouble(log, &cases::expected_kmsg(said));
    if lines.is_empty() {
        return verdict;
    }
    let cause = match verdict {
        Verdict::Failed(cause) => format!("{cause}; "),
        Verdict::Passed | Verdict::Skipped(_) => String::new(),
    };
    Verdict::Failed(format!("{cause}the kernel logged\n    {}", lines.join("\n    ")))
}

/// The log's last lines.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{kernel_verdict, short_name};
    use crate::cases::Verdict;

    #[test]
    fn the_kernel_overrules_a_pass_and_a_skip() {
        for verdict in [Verdict::Passed, Verdict::Skipped("no".into())] {
            let overruled = kernel_verdict(verdict, "BUG: x\n", "");
            assert_eq!(overruled, Verdict::Failed("the kernel logged\n    BUG: x".into()));
        }
        assert_eq!(kernel_verdict(Verdict::Passed, "BUG: x\n", "VM-EXPECT-KMSG: BUG: x"), Verdict::Passed);
    }

    #[test]
    fn cargo_hashes_are_left_out() {
        assert_eq!(short_name("/t/deps/thin-0123456789abcdef".as_ref()), "thin");
        assert_eq!(short_name("/t/deps/thin-pool".as_ref()), "thin-pool");
    }
}
