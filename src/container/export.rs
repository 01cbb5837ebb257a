//! `export`: a container's whole tree, of one instant, as an archive.

use std::{io::Write, os::fd::AsFd as _};

use super::{Container, Containers};
use crate::{
    driver::Access,
    error::{Act as _, Result},
    fs::Place,
    image::pack::{Owners, TreePacker},
    units::Bytes,
};

impl Containers<'_> {
    /// Writes the tree to `out`, from a sealed copy: the container may run and write meanwhile.
    ///
    /// # Errors
    /// `Full`, or the driver's; what the system says.
    pub fn export(&self, container: &Container, out: impl Write) -> Result<Bytes> {
        let held = self.sealed(container)?;
        let export = || {
            let mounted = held.mounted(Access::ReadOnly)?;
            let root = Place { dir: mounted.root(), name: c"." }.open_dir()?;
            let mut packer = TreePacker::new(out, Owners::Kept);
            packer.directory(root.as_fd(), b"")?;
            packer.finish()
        };
        export().act(|| format!("export container {}", container.name))
    }
}
