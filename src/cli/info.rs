//! `lamina info`.

use std::fs;

use anyhow::Result;
use serde::Serialize;

use super::{Global, output};
use crate::{
    driver::{DriverKind, PoolStatus, pool},
    program::Program,
    runtime::OciRuntime,
    store::Store,
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
    /// Why the pool cannot be looked at.
    trouble: Option<String>,
    kernel: String,
    /// What each driver lacks here; `null` if it works.
    drivers: Vec<DriverRow>,
    programs: Vec<ProgramRow>,
    /// The OCI runtime that containers get; `null` if there is none that works here.
    runtime: Option<&'static str>,
    /// Those that there are; `missing` is `null` for one that works.
    runtimes: Vec<RuntimeRow>,
}

#[derive(Serialize)]
struct RuntimeRow {
    name: &'static str,
    missing: Option<String>,
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

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let report = report(global)?;
        if self.json { output::json(&report) } else { print(&report) }
    }
}

fn report(global: &Global) -> Result<Report> {
    // What else there is to tell helps most when the pool does not come up.
    let looked = global.store_if_any().and_then(|store| {
        let look = |store: Store| Ok((store.driver().kind(), store.status()?));
        store.map(look).transpose()
    });
    let (pool, trouble) = match looked {
        Ok(pool) => (pool, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let runtimes = OciRuntime::all().map(|(runtime, unusable)| RuntimeRow {
        name: runtime.program().name,
        missing: unusable.map(|error| error.to_string()),
    });
    Ok(Report {
        runtime: runtimes.iter().find(|row| row.missing.is_none()).map(|row| row.name),
        runtimes: runtimes.into(),
        version: env!("CARGO_PKG_VERSION"),
        root: global.root.display().to_string(),
        driver: pool.as_ref().map(|(driver, _)| *driver),
        pool: pool.map(|(_, status)| status),
        trouble,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        drivers: DriverKind::ALL
            .into_iter()
            .map(|name| DriverRow { name, missing: pool::supported(name).err().map(|error| error.to_string()) })
            .collect(),
        programs: Program::ALL
            .into_iter()
            .map(|program| Ok(ProgramRow { name: program.name, package: program.package, version: program.version()? }))
            .collect::<Result<_>>()?,
    })
}

fn print(report: &Report) -> Result<()> {
    let none = if report.trouble.is_some() { "unknown" } else { "none yet" };
    output::line(format_args!("Storage Driver: {}", report.driver.map_or(none, DriverKind::name)))?;
    output::line(format_args!("Root:           {}", report.root))?;
    if let Some(pool) = &report.pool {
        output::line(format_args!(
            "Pool:           {:?}, {} of {} used",
            pool.health, pool.data.used, pool.data.total
        ))?;
    }
    if let Some(trouble) = &report.trouble {
        output::line(format_args!("Pool:           {trouble}"))?;
    }
    output::line(format_args!("Kernel:         {}", report.kernel))?;
    output::line(format_args!("Lamina:         {}", report.version))?;
    output::line(format_args!("OCI Runtime:    {}", report.runtime.unwrap_or("none")))?;
    for row in &report.runtimes {
        output::line(format_args!("  {:<9} {}", row.name, row.missing.as_deref().unwrap_or("works here")))?;
    }
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
