//! `lamina mount` and `lamina umount`.

use std::os::unix::ffi::OsStrExt as _;

use anyhow::Result;

use super::{Global, for_each, output, pool};
use crate::container::Containers;

#[derive(Debug, clap::Args)]
pub(super) struct MountArgs {
    /// Name or ID
    container: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct UmountArgs {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl MountArgs {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let target = containers.mount(&containers.find(&self.container)?)?;
        output::bytes(target.as_os_str().as_bytes())
    }
}

impl UmountArgs {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        for_each(&self.containers, |name| Ok(containers.unmount(&containers.find(name)?)?))
    }
}
