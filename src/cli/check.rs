//! `lamina check`.

use anyhow::{Result, bail};

use super::{Global, output, pool};
use crate::{
    container::Containers,
    store::{Finding, Store},
    volume::Volumes,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Put right what can be put right without losing data
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let (store, mut findings) =
            if self.repair { Store::open_repaired(&global.root)? } else { (pool::existing(global)?, Vec::new()) };
        let finding = |what| Finding { what, repaired: false };
        if let Err(error) = Containers::new(&store).sweep() {
            findings.push(finding(format!("what ended containers and builds left could not be taken away: {error}")));
        }
        findings.extend(store.check(self.repair)?);
        let volumes = Volumes::of(&store).check()?;
        findings.extend(volumes.into_iter().map(finding));
        if self.json {
            output::json(&findings)?;
        } else {
            for finding in &findings {
                output::line(format_args!("{}{}", finding.what, if finding.repaired { " (repaired)" } else { "" }))?;
            }
        }
        match findings.iter().filter(|finding| !finding.repaired).count() {
            0 => {
                output::tell(format_args!("lamina: pool, file systems, database and mounts agree"));
                Ok(())
            }
            left if self.repair => bail!("problems left: {left}"),
            left => bail!("problems: {left}; 'lamina check --repair' puts right what can be put right"),
        }
    }
}
