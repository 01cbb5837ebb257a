//! What a container's supervisor calls: in the OCI runtime's place, and after the container has ended.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Error, Result};

use super::Global;
use crate::{
    container::{Containers, ended_unattended},
    runtime,
    store::Store,
};

#[derive(Debug, clap::Args)]
pub(super) struct ExitedArgs {
    id: String,
}

/// With the `arguments` of a call in the runtime's place this becomes the runtime, or returns why not; with others it
/// returns none. Before the command line is parsed, which takes longer than all of this, and before signals are handled,
/// which the runtime would inherit.
pub(super) fn in_place_of_runtime(arguments: impl Iterator<Item = OsString>) -> Option<Error> {
    let mut arguments = arguments.skip(1);
    arguments.next().filter(|word| word == runtime::ENTER)?;
    let job = PathBuf::from(arguments.next()?);
    Some(runtime::enter(&job, &arguments.collect::<Vec<_>>()).into())
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
