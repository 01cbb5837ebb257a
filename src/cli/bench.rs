//! `lamina bench`.

mod comparison;
mod files;
mod summary;

use std::{collections::HashSet, num::NonZeroUsize, path::PathBuf, thread, time::Duration};

use anyhow::{Result, bail};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use signal_hook::iterator::Signals;

use self::files::Files;
use super::output;
use crate::{
    bench::{self, ACROSS, Claimed, Options, Outcome, ROWS, Report, Row, SCALES, Saved, Scale, Step, Workload},
    error::{Act as _, Error, Kind},
    interrupt,
    units::Bytes,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Measure little, in less than three minutes on an ordinary machine (this is the default)
    #[arg(long, group = "scale")]
    quick: bool,
    /// Measure all sizes and numbers; that takes hours and 80 GiB of disk
    #[arg(long, group = "scale")]
    full: bool,
    /// Measure less than --quick does, for an emulated machine
    #[arg(long, group = "scale")]
    small: bool,
    /// Only try whether everything runs; the numbers say little
    #[arg(long, group = "scale")]
    tiny: bool,
    /// Rows to measure: a driver, or one of thin/ext4, thin/xfs, btrfs, overlay/ext4, overlay/xfs, overlay/btrfs,
    /// btrfs+overlay, vfs, bare
    #[arg(long = "driver", value_delimiter = ',', value_name = "LIST")]
    rows: Vec<String>,
    /// Other programs that do the same beside them: podman, docker, containerd
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    peers: Vec<String>,
    /// What to measure: workloads by name, 'rows' for all that run on every row (the default), 'held' for what Lamina is
    /// held to
    #[arg(long = "workload", value_delimiter = ',', value_name = "LIST")]
    workloads: Vec<String>,
    /// Samples of each, instead of as many as the scale or the workload says
    #[arg(long, value_name = "N")]
    runs: Option<NonZeroUsize>,
    /// A root file system tar for 'import' and 'pull'
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,
    /// Where to make pools and disks, which are gone afterwards
    #[arg(long = "dir", value_name = "DIR", default_value = "/var/tmp")]
    directory: PathBuf,
    /// Write everything as JSON into a file; '-' is standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the numbers as CSV into a file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write everything with charts as one HTML file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Measure nothing: tell of a JSON file what its measurement told, and write --report and --csv of it
    #[arg(long, value_name = "JSON", conflicts_with_all = ["scale", "rows", "peers", "workloads", "runs", "json"])]
    show: Option<PathBuf>,
    /// Print the table of medians as Markdown
    #[arg(long)]
    markdown: bool,
    /// Tell which changes between two JSON files are outside the noise, and measure nothing
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], exclusive = true)]
    compare: Vec<PathBuf>,
    /// Size of the file that 'first-write' writes into; 'memory' has a layer of twice that
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = some_bytes)]
    file_size: Bytes,
    /// Number of files in the image of 'diff' and 'copy-step'
    #[arg(long, value_name = "N", default_value = "100000")]
    files: NonZeroUsize,
}

impl Args {
    pub(super) fn run(&self) -> Result<()> {
        if let [old, new] = self.compare.as_slice() {
            return comparison::print(&Saved::read(old)?, &Saved::read(new)?);
        }
        if let Some(json) = &self.show {
            let report = Report::read(json)?;
            Files::create_beside(json, self.csv.as_deref(), self.report.as_deref())?.write(&report)?;
            return self.print(&report);
        }
        let options = self.options()?;
        let namespace = bench::enter()?;
        // Some hours later it would be too late to learn that they cannot be written.
        let (files, json) = (self.json.as_deref(), self.json.as_deref().is_some_and(|path| path.as_os_str() == "-"));
        let files = Files::create(files.filter(|_| !json), self.csv.as_deref(), self.report.as_deref())?;
        let bar = bar();
        tell_of_signal(&bar)?;
        let report = bench::run(&namespace, options, &mut |step, left| tell(&bar, step, left));
        bar.finish_and_clear();
        let report = report?;
        files.write(&report)?;
        if json {
            output::json(&report)?
        } else {
            self.print(&report)?
        }
        let claims = report.claims.iter().filter(|row| matches!(row.outcome, Outcome::Failed { .. })).count();
        let failed = report.absent.iter().filter(|absent| absent.failed).count() + claims;
        if !report.complete {
            bail!("interrupted; what was measured until then is told");
        }
        if report.series.is_empty() && !report.claims.iter().any(Claimed::is_measured) {
            bail!("nothing was measured; the reasons are told above");
        }
        if failed > 0 {
            bail!("measurements that failed: {failed}");
        }
        Ok(())
    }

    fn options(&self) -> Result<Options> {
        let mut rows: Vec<&'static dyn Row> = Vec::new();
        for name in &self.rows {
            rows.extend(bench::rows(name)?);
        }
        let mut workloads: Vec<&'static dyn Workload> = Vec::new();
        for name in &self.workloads {
            workloads.extend(bench::workloads(name)?);
        }
        let named = !rows.is_empty();
        if !named {
            rows.extend(ROWS);
        }
        for name in &self.peers {
            rows.extend(bench::peers(name)?);
        }
        // Named twice, by its own name and its driver's, it is still one.
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert(row.name()));
        workloads.retain(|workload| seen.insert(workload.name()));
        Ok(Options {
            directory: self.directory.clone(),
            named,
            rows,
            workloads: if workloads.is_empty() { ACROSS.to_vec() } else { workloads },
            scale: self.scale(),
            runs: self.runs.map(NonZeroUsize::get),
            tar: self.tar.clone(),
            file_size: self.file_size,
            files: self.files.get(),
        })
    }

    fn scale(&self) -> &'static Scale {
        let [tiny, small, quick, full] = SCALES;
        match (self.tiny, self.small, self.full) {
            (true, ..) => tiny,
            (_, true, _) => small,
            (.., true) => full,
            _ => quick,
        }
    }

    fn print(&self, report: &Report) -> Result<()> {
        if self.markdown { summary::print_markdown(report) } else { summary::print(report) }
    }
}

fn some_bytes(text: &str) -> crate::Result<Bytes> {
    match text.parse()? {
        Bytes(0) => Err(Error::new(Kind::Invalid, "nothing is in such a file to write into; choose more")),
        size => Ok(size),
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Cleaning up takes its time, and who sees nothing happen sends the signal again, which leaves all as it is.
fn tell_of_signal(bar: &ProgressBar) -> Result<()> {
    let mut signals = Signals::new(interrupt::signals()).act(|| "wait for signals")?;
    let bar = bar.clone();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            bar.suspend(|| {
                output::tell(
                    "lamina: stopping; what was measured is kept, what was made goes; a second signal leaves it all",
                );
            });
        }
    });
    Ok(())
}

/// On a terminal a line that changes; else a line when another workload begins.
fn tell(bar: &ProgressBar, Step { workload, row, run }: Step, left: Option<f64>) {
    let left = left.map(|seconds| HumanDuration(Duration::from_secs_f64(seconds)));
    let left = left.map(|left| format!(", about {left} left")).unwrap_or_default();
    let what = if run == 0 { "warming up".to_owned() } else { format!("run {run}") };
    let text = format!("{workload} on {row}: {what}{left}");
    if bar.is_hidden() && bar.message().split(' ').next() != Some(workload) {
        output::tell(format_args!("lamina: {workload}{left}"));
    }
    bar.set_message(text);
}
