//! Debian's docker-registry on loopback.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use crate::pool::Outcome;

/// A running registry with a directory of its own. It ends when it is dropped.
pub struct Registry {
    pub host: String,
    child: Child,
    // Removed last.
    _directory: tempfile::TempDir,
}

/// What one differs in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// USER and PASSWORD that it asks for.
    pub login: Option<(&'a str, &'a str)>,
    /// A certificate and its key, so that it speaks TLS.
    pub tls: Option<(&'a Path, &'a Path)>,
}

impl Registry {
    pub fn start(options: Options<'_>) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("lamina-test-registry-").tempdir_in(base())?;
        let path = directory.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {path}/data}}}}\n\
             http:\n  addr: 127.0.0.1:0\n  secret: test\n"
        );
        if let Some((certificate, key)) = options.tls {
            writeln!(config, "  tls: {{certificate: {}, key: {}}}", certificate.display(), key.display())?;
        }
        if let Some((user, password)) = options.login {
            let line = Command::new("htpasswd").args(["-Bbn", user, password]).output()?;
            fs::write(directory.path().join("htpasswd"), line.stdout)?;
            writeln!(config, "auth: {{htpasswd: {{realm: test, path: {path}/htpasswd}}}}")?;
        }
        let file = directory.path().join("config.yml");
        fs::write(&file, config)?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let told = child.stderr.take().ok_or("no standard error")?;
        let mut registry = Self { host: String::new(), child, _directory: directory };
        registry.host = listening(told)?;
        Ok(registry)
    }

    /// `HOST:PORT/NAME`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn base() -> String {
    env::var("LAMINA_TEST_DIR").unwrap_or_else(|_| "/var/tmp".to_owned())
}

/// The address that it says it listens on, which tells that it does.
fn listening(told: impl std::io::Read + Send + 'static) -> Outcome<String> {
    let mut lines = BufReader::new(told);
    let mut said = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Err(format!("docker-registry ended: {said}").into());
        }
        if let Some((_, rest)) = line.split_once("listening on ") {
            let host = rest.split([',', '"', ' ']).next().unwrap_or_default().to_owned();
            // It must not stop at a full pipe.
            thread::spawn(move || drop(lines.read_to_end(&mut Vec::new())));
            return Ok(host);
        }
        said += &line;
    }
}
