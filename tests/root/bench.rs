//! `lamina bench`, tiny: every row comes, and nothing stays.

use std::{env, fs, path::PathBuf, process::Command};

use lamina::{
    bench::WORKLOADS,
    driver::{DriverKind, pool},
    fs::mounts_below,
};
use libtest_mimic::{Completion, Failed, Trial};

use crate::{as_root, expect, expect_eq, lamina::write_tar, pool::Outcome};

pub fn trials() -> Vec<Trial> {
    vec![as_root("bench::every_row_is_measured_or_says_why_not", || every_row().map_err(|fault| Failed::from(fault.0)))]
}

fn every_row() -> Outcome<Completion> {
    let base = env::var_os("LAMINA_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let directory = tempfile::Builder::new().prefix("lamina-test-").tempdir_in(base)?;
    let tar = directory.path().join("small.tar");
    write_tar(&tar, &[("file", b"content")])?;
    let pools = directory.path().join("pools");
    fs::create_dir(&pools)?;
    let output = Command::new(env!("CARGO_BIN_EXE_lamina"))
        .args(["bench", "--runs", "2", "--file-size", "4M", "--files", "300", "--json", "-"])
        .arg("--dir")
        .arg(&pools)
        .arg("--tar")
        .arg(&tar)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    expect!(
        output.status.success(),
        "lamina bench: {}: {said} {}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut rows = report["rows"].as_array().into_iter().flatten();
    for workload in WORKLOADS {
        for driver in [DriverKind::Thin, DriverKind::Btrfs] {
            let runs = pool::supported(driver).is_ok() && workload.needs.iter().all(|program| program.find().is_ok());
            let outcome = if runs { "measured" } else { "not-run" };
            for claim in workload.claims {
                let row = rows.next().ok_or("a row is missing")?;
                // podman may be there and not run in this machine's namespaces and cgroups.
                let asks = workload.name == "pull-podman" && row["outcome"] == "not-run";
                let outcome = if asks { "not-run" } else { outcome };
                let found = (&row["workload"], &row["driver"], &row["what"], &row["outcome"]);
                expect_eq!(
                    (found.0.as_str(), found.1.as_str(), found.2.as_str(), found.3.as_str()),
                    (Some(workload.name), Some(driver.name()), Some(claim.what), Some(outcome)),
                    "row {row}"
                );
                if outcome == "measured" {
                    let median = row["subject"]["median"].as_f64().ok_or("no median")?;
                    expect!(median.is_normal() && median.is_sign_positive(), "{row}");
                    expect_eq!(row["ratio"].is_number(), claim.against.is_some(), "row {row}");
                } else {
                    expect!(row["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
                }
            }
        }
    }
    expect!(rows.next().is_none(), "there are more rows than claims");
    expect_eq!(fs::read_dir(&pools)?.count(), 0, "directories left in {}: {said}", pools.display());
    expect_eq!(mounts_below(directory.path())?.len(), 0, "mounts left");
    Ok(Completion::Completed)
}
