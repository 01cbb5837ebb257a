//! A container that runs while it is measured.
//!
//! Invariant: it is killed and removed when this is dropped, before the pool that it lies in.

use std::path::Path;

use super::command::{lamina, output, succeed};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Living<'a> {
    root: &'a Path,
    name: &'a str,
}

impl<'a> Living<'a> {
    /// Starts the container `name`, whose options, image and command are `words`.
    pub(super) fn start(root: &'a Path, name: &'a str, words: &[&str]) -> Result<Self> {
        succeed(lamina(root, &[&["run", "-d", "--network=none", "--name", name], words].concat()))?;
        Ok(Self { root, name })
    }

    /// Runs one more command in it; what that says.
    pub(super) fn exec(&self, words: &[&str]) -> Result<String> {
        output(lamina(self.root, &[&["exec", self.name], words].concat()))
    }
}

impl Drop for Living<'_> {
    fn drop(&mut self) {
        if let Err(error) = succeed(lamina(self.root, &["rm", "-f", self.name])) {
            tracing::warn!("{error}");
        }
    }
}
