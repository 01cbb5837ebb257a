//! Who logs in at a registry: the files that `skopeo login`, `podman login` and `docker login` write, and the programs
//! that keep passwords for them (containers-auth.json(5); docker-credential-helpers).
//!
//! Invariant: a secret is never in an error or a log.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{
    error::{Act as _, Error, Kind, Result},
    image::reference::Reference,
};

/// What Docker calls its own registry in these files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The user name under which a helper gives a token instead of a password.
const TOKEN_USER: &str = "<token>";

/// Who logs in: nobody, a user with a password, or who has a token in its place (Docker's "identity token").
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Nobody,
    Basic(String, String),
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Basic(user, _) => f.write_str(user),
            Self::Token(_) => f.write_str("an identity token"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// The credentials for the repository of `reference`; nobody's if no file has any.
///
/// # Errors
/// A file that is there and cannot be read, or a helper that fails.
pub(super) fn find(reference: &Reference) -> Result<Credentials> {
    for path in files() {
        let text = match fs::read(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            text => text.act(|| format!("read credentials in {}", path.display()))?,
        };
        if let Some(auth) = in_file(&text, reference).act(|| format!("read credentials in {}", path.display()))? {
            return Ok(auth);
        }
    }
    Ok(Credentials::Nobody)
}

/// The files in the order in which they count. One that is named by the environment counts alone.
fn files() -> Vec<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set("REGISTRY_AUTH_FILE") {
        return vec![path];
    }
    let home = set("HOME").unwrap_or_else(|| PathBuf::from("/root"));
    let user = rustix::process::geteuid().as_raw();
    let runtime = set("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from(format!("/run/containers/{user}")));
    // Without a runtime directory, the file lies in /run/containers itself.
    let primary = match set("XDG_RUNTIME_DIR") {
        Some(_) => runtime.join("containers/auth.json"),
        None => runtime.join("auth.json"),
    };
    let config = set("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let docker = set("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker"));
    vec![primary, config.join("containers/auth.json"), docker.join("config.json")]
}

fn in_file(text: &[u8], reference: &Reference) -> Result<Option<Credentials>> {
    // The parser's own words may quote the text.
    let file: AuthFile = serde_json::from_slice(text).map_err(|error| {
        Error::new(Kind::Invalid, format!("line {}, column {}: it is no such JSON", error.line(), error.column()))
    })?;
    let host = reference.domain();
    let hub = host == "docker.io";
    let server = if hub { DOCKER_HUB } else { host };
    if let Some(helper) = file.cred_helpers.get(host) {
        return helped(helper, server);
    }
    for name in names(reference) {
        let same =
            |key: &str| key == name || bare(key) == name || (hub && name == host && bare(key) == "index.docker.io");
        if let Some((_, entry)) = file.auths.iter().find(|(key, _)| same(key))
            && let Some(auth) = entry.auth()?
        {
            return Ok(Some(auth));
        }
    }
    file.creds_store.map_or(Ok(None), |helper| helped(&helper, server))
}

/// From the repository upwards to the registry.
fn names(reference: &Reference) -> Vec<String> {
    let mut name = reference.name();
    let mut names = vec![name.clone()];
    while let Some((above, _)) = name.rsplit_once('/') {
        name = above.to_owned();
        names.push(name.clone());
    }
    names
}

/// Docker's files have URLs for some registries: only the host counts.
fn bare(key: &str) -> &str {
    match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => key,
    }
}

impl Entry {
    fn auth(&self) -> Result<Option<Credentials>> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Credentials::Token(self.identity_token.clone())));
        }
        if !self.username.is_empty() {
            return Ok(Some(Credentials::Basic(self.username.clone(), self.password.clone())));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let plain = STANDARD.decode(self.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let malformed = || Error::new(Kind::Invalid, "a member 'auth' is not the base64 of USER:PASSWORD");
        let plain = plain.ok_or_else(malformed)?;
        let (user, password) = plain.split_once(':').ok_or_else(malformed)?;
        // Docker pads some of them.
        Ok(Some(Credentials::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned())))
    }
}

/// Asks a helper, which says with its exit code that it knows nobody.
fn helped(helper: &str, server: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{helper}");
    if Path::new(helper).components().count() != 1 {
        return Err(Error::new(Kind::Invalid, format!("'{}' names no credential helper", helper.escape_debug())));
    }
    let run = || -> io::Result<_> {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(server.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = match run() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("credential helper {program} is not installed");
            return Err(Error::with_source(Kind::MissingProgram, what, error));
        }
        output => output.act(|| format!("ask credential helper {program}"))?,
    };
    if !output.status.success() {
        tracing::info!("credential helper {program} has nothing for {server}");
        return Ok(None);
    }
    let told: Helped = serde_json::from_slice(&output.stdout)
        .map_err(|_| Error::new(Kind::Invalid, format!("credential helper {program} gives no such JSON")))?;
    if told.username == TOKEN_USER {
        return Ok(Some(Credentials::Token(told.secret)));
    }
    Ok(Some(Credentials::Basic(told.username, told.secret)))
}

#[cfg(test)]
mod tests {
    use super::{Credentials, in_file};
    use crate::image::reference::Reference;

    fn user(text: &str, reference: &str) -> Option<String> {
        let reference: Reference = reference.parse().unwrap();
        in_file(text.as_bytes(), &reference).unwrap().map(|auth| match auth {
            Credentials::Basic(user, password) => format!("{user}:{password}"),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn the_nearest_name_counts() {
        let file = r#"{"auths": {
            "r.io/a/b": {"auth": "YWI6MQ=="}, "r.io/a": {"auth": "YToy"}, "r.io": {"auth": "cjoz"},
            "https://index.docker.io/v1/": {"auth": "aHViOng6eQ=="}, "http://old.io/v2/": {"username": "o", "password": "p"},
            "empty.io": {}, "token.io": {"auth": "eDo=", "identitytoken": "geheim"}}}"#;
        for (reference, expected) in [
            ("r.io/a/b", Some("ab:1")),
            ("r.io/a/c:1", Some("a:2")),
            ("r.io/ab/c", Some("r:3")),
            ("r.io.other/a", None),
            ("debian", Some("hub:x:y")),
            ("old.io/x", Some("o:p")),
            ("empty.io/x", None),
            ("token.io/x", Some("an identity token")),
        ] {
            assert_eq!(user(file, reference).as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_secret() {
        for bad in [
            r#"{"auths": {"r.io": {"auth": "geheim"}}}"#,
            r#"{"auths": {"r.io": {"auth": "Z2VoZWlt"}}}"#,
            r#"{"auths": {"r.io": "geheim"}}"#,
            r#"{"credHelpers": {"r.io": "../geheim/x"}}"#,
        ] {
            let error = in_file(bad.as_bytes(), &"r.io/x".parse().unwrap()).unwrap_err().to_string();
            assert!(!error.contains("geheim") || error.contains("names no credential helper"), "{error}");
        }
    }
}
