//! The summary on a terminal: a table of the medians, one of what is held to something, and what is missing.

use anyhow::Result;
use rustix::termios::{Winsize, tcgetwinsize};

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
        let header = CLAIMED.map(str::to_uppercase);
        output::table(&header.each_ref().map(|name| &**name), report.claims.iter().map(cells))?;
    }
    for absent in &report.absent {
        let verdict = if absent.failed { "FAILED" } else { "not run" };
        let what = [&*absent.workload, &absent.what, &absent.at].into_iter().filter(|part| !part.is_empty());
        let what = what.collect::<Vec<_>>().join(", ");
        output::line(format_args!("{what} on {}: {verdict}: {}", absent.row, absent.reason))?;
    }
    Ok(())
}

/// All medians, and what is held to something, as tables for a document.
pub(in crate::cli) fn print_markdown(report: &Report) -> Result<()> {
    if !report.series.is_empty() {
        let names = rows(report);
        let header: Vec<&str> = ["workload", "measure"].into_iter().chain(names.iter().copied()).collect();
        print_lines(&header, medians(report, &names, "–"))?;
    }
    if !report.claims.is_empty() {
        print_lines(&CLAIMED, report.claims.iter().map(cells))?;
    }
    Ok(())
}

/// The columns of what is held to something; the last is whether it is met.
const CLAIMED: [&str; 9] =
    ["workload", "driver", "what", "median (quartiles)", "against", "median (quartiles)", "ratio", "limit", ""];

fn print_lines(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<()> {
    output::line(format_args!("| {} |", header.join(" | ")))?;
    output::line(format_args!("|{}", "---|".repeat(header.len())))?;
    for cells in rows {
        output::line(format_args!("| {} |", cells.join(" | ")))?;
    }
    Ok(())
}

/// A line for each measure, a column for each row. On a terminal as many columns as it is wide, and then the others below.
fn print_medians(report: &Report) -> Result<()> {
    let names = rows(report);
    if let Ok(Winsize { ws_col: 1.., .. }) = tcgetwinsize(std::io::stdout()) {
        return print_grouped(report, &names);
    }
    let header: Vec<&str> = ["WORKLOAD", "MEASURE"].into_iter().chain(names.iter().copied()).collect();
    output::table(&header, medians(report, &names, "-"))
}

/// The lines of a table of all medians.
fn medians(report: &Report, names: &[&str], missing: &str) -> impl Iterator<Item = Vec<String>> {
    measures(report).map(move |series| {
        let start = [series.workload.clone(), measure(series)];
        start.into_iter().chain(names.iter().map(|name| cell(report, series, name, missing))).collect()
    })
}

fn print_grouped(report: &Report, names: &[&str]) -> Result<()> {
    let width = tcgetwinsize(std::io::stdout()).map_or(80, |size| usize::from(size.ws_col));
    let label = measures(report).flat_map(|series| [series.what.len(), series.at.len() + 2]).max().unwrap_or_default();
    let column = names.iter().map(|name| name.len().max(NUMBER) + GAP).max().unwrap_or(1);
    for names in names.chunks((width.saturating_sub(label) / column).max(1)) {
        let (mut workload, mut what) = ("", "");
        let mut lines = Vec::new();
        // Cells that are missing would part the columns above from those below.
        let empty = |label| [label].into_iter().chain(names.iter().map(|_| String::new())).collect();
        for series in measures(report) {
            if series.workload != workload {
                (workload, what) = (&series.workload, "");
                lines.extend([empty(String::new()), empty(workload.to_uppercase())]);
            }
            let cells = names.iter().map(|name| cell(report, series, name, "-"));
            let mut label = series.what.clone();
            if !series.at.is_empty() {
                if series.what != what {
                    lines.push(empty(label));
                }
                label = format!("  {}", series.at);
            }
            what = &series.what;
            lines.push([label].into_iter().chain(cells).collect());
        }
        output::table(&[&[""], names].concat(), lines)?;
    }
    Ok(())
}

/// Between the columns of a table.
const GAP: usize = 3;
/// How wide a number with its unit is.
const NUMBER: usize = 10;

/// The rows that gave numbers.
fn rows(report: &Report) -> Vec<&str> {
    let has_numbers = |name: &&str| report.series.iter().any(|series| series.row == *name);
    report.rows.iter().map(|row| &*row.name).filter(has_numbers).collect()
}

/// One series of each measure, in the order in which they came; those that differ in size or number only, side by side.
fn measures(report: &Report) -> impl Iterator<Item = &Series> {
    let first = |series: &Series| {
        report.series.iter().position(|one| (&one.workload, &one.what) == (&series.workload, &series.what))
    };
    let is_first =
        |(number, series): &(usize, &Series)| !report.series[..*number].iter().any(|earlier| is_same(earlier, series));
    let mut measures: Vec<_> = report.series.iter().enumerate().filter(is_first).map(|(_, series)| series).collect();
    measures.sort_by_key(|series| first(series));
    measures.into_iter()
}

fn is_same(one: &Series, other: &Series) -> bool {
    (&one.workload, &one.what, &one.at) == (&other.workload, &other.what, &other.at)
}

fn measure(series: &Series) -> String {
    if series.at.is_empty() { series.what.clone() } else { format!("{}, {}", series.what, series.at) }
}

fn cell(report: &Report, measure: &Series, row: &str, missing: &str) -> String {
    let found = report.series.iter().find(|series| series.row == row && is_same(series, measure));
    found.map_or_else(|| missing.to_owned(), |found| found.unit.show(found.summary.median))
}

fn cells(row: &Claimed) -> Vec<String> {
    let mut cells = vec![row.workload.to_owned(), row.driver.to_string(), row.what.to_owned()];
    let limit = row.limit.map(|limit| limit.to_string()).unwrap_or_default();
    let against = row.against.clone().unwrap_or_default();
    cells.extend(match &row.outcome {
        Outcome::Measured { subject, base, ratio, met, .. } => {
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
