//! A registry on loopback, Debian's docker-registry, with a directory of its own.
//!
//! Invariant: it ends when the value is dropped, and when this process does.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use super::ground::Directory;
use crate::{
    error::{Act as _, Error, Kind, Result},
    image::registry::Connection,
    program::{DOCKER_REGISTRY, SETPRIV},
};

#[derive(Debug)]
pub(super) struct Registry {
    host: String,
    child: Child,
    // Removed last.
    _directory: Directory,
}

impl Registry {
    pub(super) fn start(below: &Path) -> Result<Self> {
        let directory = Directory::new(below, "registry")?;
        // In single quotes of YAML.
        let path = directory.path().display().to_string().replace('\'', "''");
        let config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{path}/data'}}}}\nhttp: {{addr: '127.0.0.1:0', secret: bench}}\n"
        );
        let file = directory.path().join("config.yml");
        fs::write(&file, config).act(|| format!("write {}", file.display()))?;
        let mut command = Command::new(SETPRIV.find()?);
        command.args(["--pdeathsig", "KILL"]).arg(DOCKER_REGISTRY.find()?).arg("serve").arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C on the terminal is not told to it: what asks it goes on to the end of that.
        command.process_group(0);
        let child = command.spawn().act(|| "run docker-registry")?;
        let mut registry = Self { host: String::new(), child, _directory: directory };
        let told = registry.child.stderr.take().ok_or_else(|| Error::new(Kind::Io, "docker-registry says nothing"))?;
        registry.host = listening(told)?;
        Ok(registry)
    }

    /// `HOST:PORT/NAME`.
    pub(super) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }
}

/// How to reach one.
pub(super) fn connection() -> Connection {
    Connection { plain_http: true, ..Connection::default() }
}

/// The address that it says it listens on, which tells that it does.
fn listening(told: impl Read + Send + 'static) -> Result<String> {
    let mut lines = BufReader::new(told);
    let mut said = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).act(|| "read what docker-registry says")? == 0 {
            return Err(Error::new(Kind::Io, format!("docker-registry ended: {}", said.trim())));
        }
        if let Some((_, rest)) = line.split_once("listening on ") {
            let host = rest.split([',', '"', ' ']).next().unwrap_or_default().to_owned();
            // It must not stop at a full pipe.
            thread::spawn(move || io::copy(&mut lines, &mut io::sink()).map(drop));
            return Ok(host);
        }
        said += &line;
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!("end docker-registry: {error}");
        }
    }
}
