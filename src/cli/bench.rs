//! `lamina bench`.

use std::{fs::File, io, path::PathBuf};

use anyhow::{Result, bail};

use super::output;
use crate::{
    bench::{self, Machine, Options, Outcome, Report, Row, Summary, Unit, WORKLOADS, Workload},
    driver::DriverKind,
    error::Act as _,
    units::Bytes,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Drivers to measure
    #[arg(long = "driver", value_delimiter = ',', value_name = "LIST", default_value = "thin,btrfs")]
    drivers: Vec<DriverKind>,
    /// What to measure: prepare, creates, import, first-write, first-write-cold, diff, space, pull, pull-podman, copy-step,
    /// rebuild, memory; all if none is named
    #[arg(long = "workload", value_delimiter = ',', value_name = "LIST", value_parser = bench::workload)]
    workloads: Vec<&'static Workload>,
    /// Samples of each side, instead of as many as each workload needs
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// A root file system tar for 'import' and 'pull'
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,
    /// Where to make pools, which are gone afterwards
    #[arg(long = "dir", value_name = "DIR", default_value = "/var/tmp")]
    directory: PathBuf,
    /// Write the report as JSON into a file; '-' is standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Size of the file that 'first-write' writes into; 'memory' has a layer of twice that
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    file_size: Bytes,
    /// Number of files in the image of 'diff' and 'copy-step'
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    files: usize,
}

impl Args {
    pub(super) fn run(&self) -> Result<()> {
        let options = Options {
            directory: self.directory.clone(),
            drivers: self.drivers.clone(),
            workloads: if self.workloads.is_empty() { WORKLOADS.to_vec() } else { self.workloads.clone() },
            runs: self.runs,
            tar: self.tar.clone(),
            file_size: self.file_size,
            files: self.files,
        };
        let report = bench::run(&options, &mut |workload, driver| {
            eprintln!("lamina: {} on {driver}: {}", workload.name, workload.about);
        })?;
        match &self.json {
            Some(path) if path.as_os_str() == "-" => output::json(&report)?,
            Some(path) => {
                let act = || format!("write {}", path.display());
                let file = File::create(path).act(act)?;
                serde_json::to_writer_pretty(file, &report).map_err(io::Error::from).act(act)?;
                print(&report)?;
            }
            None => print(&report)?,
        }
        let failed = report.rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed { .. })).count();
        if failed > 0 {
            bail!("{failed} of {} rows could not be measured", report.rows.len());
        }
        Ok(())
    }
}

fn print(report: &Report) -> Result<()> {
    let Machine { date, lamina, debug_build, kernel, processor, processors, filesystem } = &report.machine;
    let build = if *debug_build { ", debug build" } else { "" };
    output::line(format_args!(
        "lamina {lamina}{build}, {date}, Linux {kernel}, {processors} x {processor}, pools on {filesystem}"
    ))?;
    let header =
        ["WORKLOAD", "DRIVER", "WHAT", "MEDIAN (QUARTILES)", "AGAINST", "MEDIAN (QUARTILES)", "RATIO", "LIMIT", ""];
    output::table(&header, report.rows.iter().map(cells))
}

fn cells(row: &Row) -> Vec<String> {
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
        Unit::Bytes => format!("{} {quartiles}, mean {}", shown(summary.median), shown(summary.mean)),
    }
}
