//! Helper programs: run once, quietly, their own words kept for the error.

use std::{ffi::OsStr, io, process::Command};

use crate::error::{Act as _, Error, Kind, Result};

/// A program and the Debian package that it comes with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
}

impl Program {
    /// Runs it. Tells whether it succeeded, and what it said.
    pub(super) fn run<S: AsRef<OsStr>>(self, arguments: &[S]) -> Result<(bool, String)> {
        let Self { name, package } = self;
        let output = match Command::new(name).args(arguments).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = format!("{name} is not installed; it comes with the package {package}");
                return Err(Error::new(Kind::MissingProgram, what));
            }
            result => result.act(|| format!("run {name}"))?,
        };
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).trim().to_owned()))
    }

    /// Runs it and fails if it fails.
    pub(super) fn succeed<S: AsRef<OsStr>>(self, arguments: &[S]) -> Result<()> {
        let (succeeded, said) = self.run(arguments)?;
        if succeeded { Ok(()) } else { Err(Error::new(Kind::Io, format!("{} failed: {said}", self.name))) }
    }
}
