//! `lamina info`.

use std::{fs, process::Command};

use anyhow::Result;
use serde::Serialize;

use super::{Global, output};
use crate::{
    driver::{DriverKind, PoolStatus, pool},
    error::Kind,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    root: String,
    driver: Option<DriverKind>,
    pool: Option<PoolStatus>,
    kernel: String,
    /// What each driver lacks here; `null` if it works.
    drivers: Vec<DriverRow>,
    programs: Vec<ProgramRow>,
}

#[derive(Serialize)]
struct DriverRow {
    name: DriverKind,
    missing: Option<String>,
}

#[derive(Serialize)]
struct ProgramRow {
    name: &'static str,
    /// Debian's package.
    package: &'static str,
    version: Option<String>,
}

/// The helper programs, with the option that makes each tell its version.
const PROGRAMS: [(&str, &str, &str); 5] = [
    ("mkfs.ext4", "e2fsprogs", "-V"),
    ("mkfs.xfs", "xfsprogs", "-V"),
    ("mkfs.btrfs", "btrfs-progs", "--version"),
    ("thin_check", "thin-provisioning-tools", "--version"),
    ("e2fsck", "e2fsprogs", "-V"),
];

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let report = report(global)?;
        if self.json { output::json(&report) } else { print(&report) }
    }
}

fn report(global: &Global) -> Result<Report> {
    let store = global.store_if_any()?;
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        root: global.root.display().to_string(),
        driver: store.as_ref().map(|store| store.driver().kind()),
        pool: store.as_ref().map(|store| store.status()).transpose()?,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        drivers: DriverKind::ALL
            .into_iter()
            .map(|name| DriverRow { name, missing: pool::supported(name).err().map(|error| error.to_string()) })
            .collect(),
        programs: PROGRAMS
            .into_iter()
            .map(|(name, package, option)| Ok(ProgramRow { name, package, version: version(name, option)? }))
            .collect::<Result<_>>()?,
    })
}

/// The first line that the program says about its version; `None` if it is not installed.
fn version(program: &str, option: &str) -> Result<Option<String>> {
    let mut command = match crate::program::command(program) {
        Ok(command) => command,
        Err(error) if error.kind() == Kind::MissingProgram => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let output = Command::output(command.arg(option))?;
    let said = [output.stdout, output.stderr].concat();
    Ok(Some(String::from_utf8_lossy(&said).lines().next().unwrap_or("unknown").trim().to_owned()))
}

fn print(report: &Report) -> Result<()> {
    output::line(format_args!("Storage Driver: {}", report.driver.map_or("none yet", DriverKind::name)))?;
    output::line(format_args!("Root:           {}", report.root))?;
    if let Some(pool) = &report.pool {
        output::line(format_args!(
            "Pool:           {:?}, {} of {} used",
            pool.health, pool.data.used, pool.data.total
        ))?;
    }
    output::line(format_args!("Kernel:         {}", report.kernel))?;
    output::line(format_args!("Lamina:         {}", report.version))?;
    output::line("Drivers:")?;
    for driver in &report.drivers {
        output::line(format_args!(
            "  {:<9} {}",
            driver.name.name(),
            driver.missing.as_deref().unwrap_or("works here")
        ))?;
    }
    output::line("Programs:")?;
    for program in &report.programs {
        let version = program.version.clone();
        let text = version.unwrap_or_else(|| format!("not found; install Debian's package {}", program.package));
        output::line(format_args!("  {:<11} {text}", program.name))?;
    }
    Ok(())
}
