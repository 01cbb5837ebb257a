//! Peers of which this program tells only whether they are here.

use std::path::Path;

use super::{Row, Stage};
use crate::{
    error::{Error, Kind, Result},
    program::{CONTAINERD, DOCKERD, Program},
    units::Bytes,
};

/// A peer that needs a daemon.
#[derive(Debug)]
pub(in crate::bench) struct Daemon {
    name: &'static str,
    about: &'static str,
    program: Program,
}

/// Docker.
pub(in crate::bench) const DOCKER: Daemon =
    Daemon { name: "docker", about: "Docker, with a daemon of its own", program: DOCKERD };
/// containerd.
pub(in crate::bench) const CONTAINERD_ROW: Daemon =
    Daemon { name: "containerd", about: "containerd, with a daemon of its own", program: CONTAINERD };

impl Row for Daemon {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn is_peer(&self) -> bool {
        true
    }

    fn usable(&self) -> Result<()> {
        self.program.find()?;
        let what = format!("{} is here, but this version measures no peer that needs a daemon", self.name);
        Err(Error::new(Kind::Unsupported, what))
    }

    fn stage(&self, _: &Path, _: Bytes) -> Result<Box<dyn Stage>> {
        self.usable().and(Err(Error::new(Kind::Unsupported, "it is not measured")))
    }
}
