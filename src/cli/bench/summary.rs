//! The summary on a terminal: a table of the medians, one of what is held to something, and what is missing.

use anyhow::Result;

use crate::{
    bench::{Claimed, Machine, Outcome, Report, Series, Summary, Unit},
    cli::output,
};

/// Prints it.
pub(in crate::cli) fn print(report: &Report) -> Result<()> {
    let Machine { date, lamina, debug_build, kernel, processor, processors, filesystem, load, .. } = &report.machine;
    let build = if *debug_build { ", debug build" } else { "" };
    output::line(format_args!(
        "lamina {lamina}{build}, {date}, Linux {kernel}, {processors} x {processor}, load {load}, disks on {filesystem}"
    ))?;
    if !report.series.is_empty() {
        print_medians(report)?;
    }
    if !report.claims.is_empty() {
        let header =
            ["WORKLOAD", "DRIVER", "WHAT", "MEDIAN (QUARTILES)", "AGAINST", "MEDIAN (QUARTILES)", "RATIO", "LIMIT", ""];
        output::table(&header, report.claims.iter().map(cells))?;
    }
    for absent in &report.absent {
        let verdict = if absent.failed { "FAILED" } else { "not run" };
        let what = [absent.workload, &absent.what, &absent.at].into_iter().filter(|part| !part.is_empty());
        let what = what.collect::<Vec<_>>().join(", ");
        output::line(format_args!("{what} on {}: {verdict}: {}", absent.row, absent.reason))?;
    }
    Ok(())
}

/// A line for each measure, a column for each row.
fn print_medians(report: &Report) -> Result<()> {
    let names: Vec<&str> = report
        .rows
        .iter()
        .map(|row| row.name)
        .filter(|name| report.series.iter().any(|series| series.row == *name))
        .collect();
    let header: Vec<&str> = ["WORKLOAD", "WHAT", "AT"].into_iter().chain(names.iter().copied()).collect();
    let mut lines: Vec<Vec<String>> = Vec::new();
    for series in &report.series {
        let start = [&series.workload, &series.what, &series.at];
        if lines.iter().any(|line| line.iter().zip(start).all(|(one, other)| one == other)) {
            continue;
        }
        let same = |other: &&Series| [&other.workload, &other.what, &other.at] == start;
        let of_row = |name: &&str| {
            let found = report.series.iter().filter(same).find(|series| series.row == *name);
            found.map_or_else(|| "-".to_owned(), |found| found.unit.show(found.summary.median))
        };
        lines.push(start.into_iter().cloned().chain(names.iter().map(of_row)).collect());
    }
    output::table(&header, lines)
}

fn cells(row: &Claimed) -> Vec<String> {
    let mut cells = vec![row.workload.to_owned(), row.driver.to_string(), row.what.to_owned()];
    let limit = row.limit.map(|limit| limit.to_string()).unwrap_or_default();
    let against = row.against.unwrap_or_default().to_owned();
    cells.extend(match &row.outcome {
        Outcome::Measured { subject, base, ratio, met } => {
            let verdict = match met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            };
            let base = base.map(|base| spread(row.unit, &base)).unwrap_or_default();
            let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            [spread(row.unit, subject), against, base, ratio, limit, verdict.to_owned()]
        }
        Outcome::NotRun { reason } => told(against, limit, format!("not run: {reason}")),
        Outcome::Failed { reason } => told(against, limit, format!("FAILED: {reason}")),
    });
    cells
}

fn told(against: String, limit: String, verdict: String) -> [String; 6] {
    let dash = || "-".to_owned();
    [dash(), against, dash(), dash(), limit, verdict]
}

/// The mean stands for space, which comes in lumps.
fn spread(unit: Unit, summary: &Summary) -> String {
    let shown = |value| unit.show(value);
    let quartiles = format!("({} .. {})", shown(summary.lower), shown(summary.upper));
    match unit {
        Unit::Seconds => format!("{} {quartiles}", shown(summary.median)),
        Unit::Bytes | Unit::BytesPerSecond => {
            format!("{} {quartiles}, mean {}", shown(summary.median), shown(summary.mean))
        }
    }
}
