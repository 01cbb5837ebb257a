//! What a container's supervisor calls: in the OCI runtime's place, and after the container has ended.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;

use super::Global;
use crate::{
    container::{Containers, ended_unattended},
    runtime,
    store::Store,
};

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
        if !ended_unattended(&global.root, &self.id)? {
            return Ok(());
        }
        // A pool that was taken down since stays down; the next command that needs it does what is left to do.
        match Store::open_if_up(&global.root)? {
            Some(store) => Ok(Containers::new(&store).ended(&self.id)?),
            None => Ok(()),
        }
    }
}
