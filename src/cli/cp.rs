//! `lamina cp`.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Result, bail};

use super::{Global, input::Input, output, pool};
use crate::{
    container::{Container, Containers, How},
    error::{Act as _, Error},
    image::pack::Owners,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep owners and extended attributes; else everything becomes root's
    #[arg(short, long)]
    archive: bool,
    /// Where SRC is a symbolic link, copy what it leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not tell what was copied
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path of the host, or - for a tar archive on standard input
    #[arg(value_name = "SRC", allow_hyphen_values = true)]
    source: End,
    /// CONTAINER:PATH, a path of the host, or - for a tar archive on standard output
    #[arg(value_name = "DST", allow_hyphen_values = true)]
    target: End,
}

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Stream,
    Host(PathBuf),
    Container(String, PathBuf),
}

impl FromStr for End {
    type Err = Error;

    /// Docker's rule: what begins with `/` or `.` is the host's, also with a colon in it.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((name, path)) if !name.is_empty() && !text.starts_with(['/', '.']) => {
                Self::Container(name.to_owned(), path.into())
            }
            _ => Self::Host(text.into()),
        })
    }
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let how = How { owners: if self.archive { Owners::Kept } else { Owners::Root }, follow: self.follow_link };
        let find = |name: &str| -> Result<Container> { Ok(containers.find(name)?) };
        let (size, to) = match (&self.source, &self.target) {
            (End::Container(name, path), End::Host(target)) => {
                (containers.copy_out(&find(name)?, path, target, how)?, target.display().to_string())
            }
            (End::Container(name, path), End::Stream) => {
                refuse_terminal()?;
                // Not by lines, as the standard library's own handle writes.
                let out = File::from(io::stdout().as_fd().try_clone_to_owned().act(|| "write to standard output")?);
                // Whoever waits for a container's name gets it in full, so the archive keeps owners always.
                let how = How { owners: Owners::Kept, ..how };
                containers.copy_to_archive(&find(name)?, path, io::BufWriter::with_capacity(1 << 16, out), how)?;
                return Ok(());
            }
            (End::Host(source), End::Container(name, path)) => {
                (containers.copy_in(source, &find(name)?, path, how)?, shown(name, path))
            }
            (End::Stream, End::Container(name, path)) => {
                (containers.copy_from_archive(Input::new()?, &find(name)?, path)?, shown(name, path))
            }
            (End::Container(..), End::Container(..)) => bail!("cp: copying between containers is not supported"),
            _ => bail!("cp: one of SRC and DST must be CONTAINER:PATH, and the other a path of the host or -"),
        };
        if !self.quiet {
            output::tell(format_args!("Successfully copied {} to {to}", size.docker()));
        }
        Ok(())
    }
}

fn shown(name: &str, path: &Path) -> String {
    format!("{name}:{}", path.display())
}

pub(super) fn refuse_terminal() -> Result<()> {
    if io::stdout().is_terminal() {
        bail!("an archive is no text for a terminal; redirect the output");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::End;

    #[test]
    fn ends_are_told_apart_as_docker_does() {
        for (text, end) in [
            ("-", End::Stream),
            ("box:/etc/hosts", End::Container("box".into(), "/etc/hosts".into())),
            ("box:", End::Container("box".into(), "".into())),
            ("/a:b", End::Host("/a:b".into())),
            ("./box:x", End::Host("./box:x".into())),
            ("file", End::Host("file".into())),
            (":x", End::Host(":x".into())),
        ] {
            assert_eq!(text.parse::<End>().unwrap(), end, "{text}");
        }
    }
}
