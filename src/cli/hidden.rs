//! What a container's supervisor calls: in the OCI runtime's place, and after the container has ended.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;

use super::{Global, pool};
use crate::{container::Containers, runtime};

#[derive(Debug, clap::Args)]
pub(super) struct EnterArgs {
    job: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    runtime: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExitedArgs {
    id: String,
}

impl EnterArgs {
    pub(super) fn run(&self) -> Result<()> {
        Err(runtime::enter(&self.job, &self.runtime).into())
    }
}

impl ExitedArgs {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        Ok(Containers::new(&pool::existing(global)?).ended(&self.id)?)
    }
}
