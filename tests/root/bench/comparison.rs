//! `lamina bench --compare` on made-up reports.

use std::fs;

use libtest_mimic::Completion;
use serde_json::{Value, json};

use super::Place;
use crate::{expect, expect_eq, pool::Outcome};

fn series(workload: &str, unit: &str, values: &[f64]) -> Value {
    json!({
        "workload": workload, "row": "btrfs", "what": "it", "at": "", "unit": unit, "samples": values.len(),
        "median": values[values.len() / 2], "lower": values[0], "upper": values[values.len() - 1], "mean": 1.0,
        "outliers": [], "values": values,
    })
}

/// Of what Lamina is held to.
fn claim(values: &[f64], base: &[f64]) -> Value {
    let summary = |values: &[f64]| {
        let (lower, upper) = (values[0], values[values.len() - 1]);
        json!({"samples": values.len(), "median": values[values.len() / 2], "lower": lower, "upper": upper, "mean": 1.0})
    };
    json!({
        "workload": "held", "driver": "btrfs", "what": "ours", "against": "theirs", "unit": "seconds", "limit": null,
        "outcome": "measured", "subject": summary(values), "base": summary(base), "ratio": 1.0, "met": null,
        "values": values, "base_values": base,
    })
}

fn report(kernel: &str, series: &[Value]) -> Value {
    json!({
        "version": 1, "complete": true, "scale": "quick", "runs": 5, "machine": {"kernel": kernel}, "rows": [],
        "workloads": [], "series": series, "absent": [], "claims": [],
    })
}

pub(super) fn made_up() -> Outcome<Completion> {
    let place = Place::new()?;
    let (old, new) = (place.file("old.json"), place.file("new.json"));
    let (low, high) = ([1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4]);
    let before = [
        series("slower", "seconds", &low),
        series("faster", "bytes-per-second", &low),
        series("noisy", "seconds", &low),
        series("rare", "seconds", &low[..2]),
        series("gone", "seconds", &low),
    ];
    let after = [
        series("slower", "seconds", &high),
        series("faster", "bytes-per-second", &high),
        series("noisy", "seconds", &[1.05, 1.15, 1.25, 1.35, 9.0]),
        series("rare", "seconds", &high[..2]),
    ];
    let mut earlier = report("6.1", &before);
    earlier["claims"] = json!([claim(&low, &low)]);
    fs::write(&old, earlier.to_string())?;
    let mut later = report("6.12", &after);
    later["claims"] = json!([claim(&high, &low)]);
    (later["complete"], later["runs"]) = (json!(false), json!(7));
    fs::write(&new, later.to_string())?;
    let output = lamina(&["--compare", &old.to_string_lossy(), &new.to_string_lossy()])?;
    let said = String::from_utf8_lossy(&output.stdout);
    expect!(output.status.success(), "{said}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = said.lines().map(words).collect();
    expect_eq!(
        lines,
        [
            "not the same in both: kernel: \"6.1\" and \"6.12\"",
            "not the same in both: runs: 5 and 7",
            "not the same in both: complete: true and false",
            "WORKLOAD ROW WHAT AT OLD NEW CHANGE",
            "slower btrfs it 1.20 s 2.20 s +83 % WORSE",
            "faster btrfs it 1.20 B/s 2.20 B/s +83 % better",
            "held btrfs ours 1.20 s 2.20 s +83 % WORSE",
            "3 changed, 2 within the noise, 1 with too few samples to tell (fewer than 5), 1 only in the old, 0 only in the \
             new",
        ]
        .map(str::to_owned),
        "what it said"
    );
    let mut other = report("6.1", &before);
    other["version"] = json!(2);
    for (other, words) in [(other, "it is of version 2"), (report("6.1", &[]), "nothing in it was measured")] {
        fs::write(&new, other.to_string())?;
        let output = lamina(&["--compare", &old.to_string_lossy(), &new.to_string_lossy()])?;
        let said = String::from_utf8_lossy(&output.stderr);
        expect!(output.status.code() == Some(1) && said.contains(words), "{said}");
    }
    Ok(Completion::Completed)
}

fn lamina(arguments: &[&str]) -> Outcome<std::process::Output> {
    Ok(std::process::Command::new(env!("CARGO_BIN_EXE_lamina")).arg("bench").args(arguments).output()?)
}
