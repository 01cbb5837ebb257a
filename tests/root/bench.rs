//! `lamina bench`, tiny: every row and every claim comes, and nothing stays.

mod browser;
mod comparison;
mod peers;
mod trouble;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lamina::{
    bench::{ACROSS, HELD, How, ROWS},
    driver::{DriverKind, pool},
    fs::mounts_below,
    program::PODMAN,
};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use crate::{as_root, expect, expect_eq, lamina::write_tar, pool::Outcome, running::soon};

pub fn trials() -> Vec<Trial> {
    fn told(outcome: Outcome<Completion>) -> Result<Completion, Failed> {
        outcome.map_err(|fault| Failed::from(fault.0))
    }
    vec![
        as_root("bench::every_claim_is_measured_or_says_why_not", || told(every_claim())),
        as_root("bench::every_workload_is_measured_on_every_row_or_says_why_not", || told(every_row())),
        as_root("bench::ctrl_c_keeps_what_was_measured_and_leaves_nothing", || told(ctrl_c())),
        as_root("bench::what_cannot_be_is_told_before_anything_is_measured", || told(trouble::told_at_once())),
        as_root("bench::the_next_one_removes_what_a_killed_one_left", || told(trouble::killed())),
        as_root("bench::a_directory_named_otherwise_leaves_nothing", || told(trouble::named_otherwise())),
        as_root("bench::compare_tells_what_is_outside_the_noise", || told(comparison::made_up())),
        as_root("bench::peers_are_measured_and_leave_nothing", || told(peers::measured())),
        as_root("bench::a_killed_daemon_and_ctrl_c_keep_what_was_measured", || told(peers::broken())),
        as_root("bench::the_report_shows_in_a_browser_what_the_json_says", || told(browser::report())),
    ]
}

/// A place for a benchmark, with nothing in it.
struct Place {
    directory: tempfile::TempDir,
    pools: PathBuf,
}

impl Place {
    fn new() -> Outcome<Self> {
        let base = env::var_os("LAMINA_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let directory = tempfile::Builder::new().prefix("lamina-test-").tempdir_in(base)?;
        let pools = directory.path().join("pools");
        fs::create_dir(&pools)?;
        Ok(Self { directory, pools })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamina"));
        command.arg("bench").arg("--dir").arg(&self.pools).args(arguments);
        command
    }

    /// Runs it; nothing may be left.
    fn run(&self, arguments: &[&str]) -> Outcome<Output> {
        let output = self.command(arguments).output()?;
        self.expect_nothing(&output.stderr)?;
        Ok(output)
    }

    fn expect_nothing(&self, said: &[u8]) -> Outcome<()> {
        let said = String::from_utf8_lossy(said);
        expect_eq!(fs::read_dir(&self.pools)?.count(), 0, "directories left in {}: {said}", self.pools.display());
        expect_eq!(mounts_below(self.directory.path())?.len(), 0, "mounts left");
        let loops = fs::read_dir("/sys/block")?
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("loop/backing_file")).ok());
        let ours: Vec<_> = loops.filter(|file| Path::new(file).starts_with(self.directory.path())).collect();
        expect!(ours.is_empty(), "loop devices left: {ours:?}");
        Ok(())
    }
}

fn read(path: &Path) -> Outcome<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn every_claim() -> Outcome<Completion> {
    let place = Place::new()?;
    let tar = place.file("small.tar");
    write_tar(&tar, &[("file", b"content")])?;
    let few =
        ["--workload", "held", "--driver", "thin/ext4,btrfs", "--runs", "2", "--file-size", "4M", "--files", "300"];
    let output = place.run(&[few.as_slice(), &["--json", "-", "--tar", &tar.to_string_lossy()]].concat())?;
    expect!(
        output.status.success(),
        "lamina bench: {}: {} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let mut rows = list(&report, "claims");
    for workload in HELD {
        let How::Held(held) = workload.how() else { return Err("a held workload is none".into()) };
        for driver in [DriverKind::Thin, DriverKind::Btrfs] {
            let runs = pool::supported(driver).is_ok() && held.needs.iter().all(|program| program.find().is_ok());
            let outcome = if runs { "measured" } else { "not-run" };
            for claim in held.claims {
                let row = rows.next().ok_or("a row is missing")?;
                // podman may be there and not run in this machine's namespaces and cgroups.
                let asks = held.needs.contains(&PODMAN) && row["outcome"] == "not-run";
                let outcome = if asks { "not-run" } else { outcome };
                let found = (&row["workload"], &row["driver"], &row["what"], &row["outcome"]);
                expect_eq!(
                    (found.0.as_str(), found.1.as_str(), found.2.as_str(), found.3.as_str()),
                    (Some(held.name), Some(driver.name()), Some(claim.what), Some(outcome)),
                    "row {row}"
                );
                if outcome == "measured" {
                    let median = row["subject"]["median"].as_f64().ok_or("no median")?;
                    expect!(median.is_normal() && median.is_sign_positive(), "{row}");
                    for (summary, values) in [("subject", "values"), ("base", "base_values")] {
                        let number = row[summary]["samples"].as_u64().unwrap_or_default();
                        expect_eq!(list(row, values).count() as u64, number, "{values} of row {row}");
                    }
                    expect_eq!(row["ratio"].is_number(), claim.against.is_some(), "row {row}");
                } else {
                    expect!(row["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
                }
            }
        }
    }
    expect!(rows.next().is_none(), "there are more rows than claims");
    let (json, csv) = (place.file("held.json"), place.file("held.csv"));
    fs::write(&json, &output.stdout)?;
    let shown = place.run(&["--show", &json.to_string_lossy(), "--markdown", "--csv", &csv.to_string_lossy()])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    expect_eq!(shown.lines().count(), list(&report, "claims").count() + 2, "{shown}");
    expect!(shown.lines().all(|line| line.matches('|').count() == 10), "{shown}");
    claims_in_csv(&report, &csv)
}

/// Both sides of each claim, and then what was not measured.
fn claims_in_csv(report: &Value, csv: &Path) -> Outcome<Completion> {
    let mut reader = csv::Reader::from_path(csv)?;
    let lines: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
    let (measured, missing): (Vec<_>, Vec<_>) =
        list(report, "claims").partition(|claim| claim["outcome"] == "measured");
    let sides = measured.iter().flat_map(|claim| [(claim, "what", "subject"), (claim, "against", "base")]);
    let sides = sides.filter(|(claim, what, _)| claim[what].is_string());
    let numbers = sides.map(|(claim, what, of)| (claim, claim[what].clone(), claim[of]["median"].as_f64()));
    let missing = missing.iter().map(|claim| (claim, claim["what"].clone(), None));
    let expected: Vec<_> = numbers.chain(missing).collect();
    expect_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, (claim, what, median)) in lines.iter().zip(expected) {
        let fields = (&claim["workload"], &claim["driver"], what, median);
        let found = (&line[0].into(), &line[1].into(), Value::from(&line[2]), line[6].parse().ok());
        expect_eq!(found, fields, "{line:?}");
    }
    Ok(Completion::Completed)
}

/// What a row has no meaning for.
const CANNOT: [(&str, &str); 6] = [
    ("bare", "containers"),
    ("bare", "changes"),
    ("bare", "page-cache"),
    ("bare", "volume"),
    ("btrfs+overlay", "depth"),
    ("btrfs+overlay", "changes"),
];

fn every_row() -> Outcome<Completion> {
    let place = Place::new()?;
    let (json, csv) = (place.file("bench.json"), place.file("bench.csv"));
    let names: Vec<&str> = ROWS.iter().map(|row| row.name()).collect();
    let (json_name, csv_name) = (json.to_string_lossy(), csv.to_string_lossy());
    let output = place.run(&["--tiny", "--driver", &names.join(","), "--json", &json_name, "--csv", &csv_name])?;
    let said = String::from_utf8_lossy(&output.stderr);
    expect!(output.status.success(), "lamina bench: {}: {said}{}", output.status, fs::read_to_string(&csv)?);
    let report = read(&json)?;
    expect_eq!((&report["version"], &report["complete"]), (&Value::from(1), &Value::from(true)), "the report's head");
    for (workload, row) in ACROSS.iter().flat_map(|workload| ROWS.map(|row| (workload, row))) {
        let of_row = |entry: &&Value| entry["workload"] == workload.name() && entry["row"] == row.name();
        let series = list(&report, "series").filter(of_row).count();
        let whole: Vec<_> = list(&report, "absent").filter(of_row).filter(|entry| entry["what"] == "").collect();
        expect!(
            (series > 0) != (whole.len() == 1),
            "{} on {}: {series} series, {whole:?}",
            workload.name(),
            row.name()
        );
        let runs = row.usable().is_ok()
            && !CANNOT.contains(&(row.name(), workload.name()))
            && workload.needs().iter().all(|program| program.find().is_ok());
        expect!(runs == (series > 0), "{} on {}: {whole:?}", workload.name(), row.name());
    }
    shape(&report)?;
    same_in_csv(&report, &csv)?;
    let again = place.file("again.csv");
    let output = place.run(&["--show", &json_name, "--csv", &again.to_string_lossy()])?;
    expect!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    expect_eq!(fs::read(&again)?, fs::read(&csv)?, "the CSV that is made of the JSON");
    Ok(Completion::Completed)
}

/// What docs/benchmarks.md says of the JSON.
fn shape(report: &Value) -> Outcome<()> {
    for series in list(report, "series") {
        for name in ["workload", "row", "what", "at", "unit"] {
            expect!(series[name].is_string(), "{name} of {series}");
        }
        let values: Vec<f64> = list(series, "values").filter_map(Value::as_f64).collect();
        expect_eq!(Some(values.len() as u64), series["samples"].as_u64(), "samples of {series}");
        let number = |name: &str| series[name].as_f64().ok_or(format!("{name} of {series}"));
        let (lower, median, upper) = (number("lower")?, number("median")?, number("upper")?);
        expect!(lower <= median && median <= upper && number("mean")?.is_finite(), "{series}");
        expect!(series["outliers"].is_array(), "{series}");
        expect!(series["unit"] != "seconds" || values.iter().all(|value| *value > 0.0), "{series}");
    }
    for absent in list(report, "absent") {
        expect!(absent["failed"].is_boolean(), "{absent}");
        expect!(absent["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{absent}");
    }
    let machine = &report["machine"];
    for name in ["date", "lamina", "kernel", "processor", "filesystem", "mount_options"] {
        expect!(machine[name].as_str().is_some_and(|text| !text.is_empty()), "{name} of {machine}");
    }
    expect!(list(machine, "programs").count() > 0, "{machine}");
    Ok(())
}

fn same_in_csv(report: &Value, csv: &Path) -> Outcome<()> {
    let mut reader = csv::Reader::from_path(csv)?;
    let header = reader.headers()?.clone();
    let mut lines = reader.records();
    for entry in list(report, "series").chain(list(report, "absent")) {
        let line = lines.next().ok_or("a line is missing")??;
        for (name, field) in header.iter().zip(line.iter()) {
            match (&entry[name], name) {
                (Value::String(text), _) => expect_eq!(text, field, "{name} of {entry}"),
                (Value::Number(number), _) => expect_eq!(number.as_f64(), field.parse().ok(), "{name} of {entry}"),
                (Value::Array(all), _) => expect_eq!(all.len().to_string(), field, "{name} of {entry}"),
                (_, "missing") => {
                    let reason = entry["reason"].as_str().unwrap_or_default();
                    expect!(field.ends_with(reason), "{field} of {entry}");
                }
                _ => expect_eq!("", field, "{name} of {entry}"),
            }
        }
    }
    expect!(lines.next().is_none(), "there are more lines");
    Ok(())
}

/// What came before the signal is in the files; what goes on when it comes is taken away.
fn ctrl_c() -> Outcome<Completion> {
    let place = Place::new()?;
    let json = place.file("bench.json");
    let last = ACROSS[1].name();
    let workloads = format!("{},{last}", ACROSS[0].name());
    let mut command = place.command(&["--tiny", "--driver", "btrfs,overlay/ext4", "--workload", &workloads, "--json"]);
    let mut child = command.arg(&json).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let mut said = String::new();
    while !said.lines().any(|line| line.starts_with(&format!("lamina: {last}"))) {
        expect!(lines.read_line(&mut said)? > 0, "it ended: {said}");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id())?), nix::sys::signal::Signal::SIGINT)?;
    lines.read_to_string(&mut said)?;
    expect_eq!(child.wait()?.code(), Some(1), "exit code: {said}");
    expect!(said.contains("interrupted") && said.contains("lamina: stopping"), "{said}");
    place.expect_nothing(said.as_bytes())?;
    let report = read(&json)?;
    expect_eq!(report["complete"], Value::from(false), "complete");
    for row in ["btrfs", "overlay/ext4"] {
        let first = |series: &&Value| series["workload"] == ACROSS[0].name() && series["row"] == row;
        expect!(list(&report, "series").any(|series| first(&series)), "{row} has no series: {report}");
    }
    hangup_keeps_claims(&place)
}

/// A terminal that goes is a signal as well, and what was taken of a claim stays.
fn hangup_keeps_claims(place: &Place) -> Outcome<Completion> {
    let json = place.file("held.json");
    let mut command = place.command(&["--workload", "prepare", "--driver", "btrfs", "--runs", "1000000", "--json"]);
    let child = command.arg(&json).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let id = child.id();
    let is_in_prepare = || -> Outcome<bool> {
        // Each sample syncs the database once.
        let io = fs::read_to_string(format!("/proc/{id}/io"))?;
        let calls = io.lines().find_map(|line| line.strip_prefix("syscw: ")).ok_or("no count of writes")?;
        Ok(calls.trim().parse::<u64>()? > 5000)
    };
    soon("it takes samples", is_in_prepare)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(id)?), nix::sys::signal::Signal::SIGHUP)?;
    let output = child.wait_with_output()?;
    expect_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    place.expect_nothing(&output.stderr)?;
    let report = read(&json)?;
    expect_eq!(report["complete"], Value::from(false), "complete");
    let kept = list(&report, "claims").flat_map(|claim| list(claim, "values")).count();
    expect!(kept > 0 && kept < 1_000_000, "{kept} samples are kept: {report}");
    Ok(Completion::Completed)
}
