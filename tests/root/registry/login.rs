//! Who may pull: passwords, tokens, certificates.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use super::{
    Case, http,
    real::{Options, Registry},
    server::{Answer, Layer, Server},
};
use crate::{
    expect, expect_eq,
    image::tarball::Tarball,
    lamina::{Host, Said},
    pool::Outcome,
    save::foreign::run,
};

pub(super) const CASES: [Case; 3] = [
    ("a_password_is_asked_for", &["docker-registry", "skopeo", "htpasswd"], passwords),
    ("a_certificate_is_checked", &["docker-registry", "openssl"], certificates),
    ("a_token_is_asked_for", &[], tokens),
];

/// `lamina ARGS` with this file of credentials, and helpers in the directory of the test's files.
fn with(host: &Host, credentials: &str, args: &[&str]) -> Outcome<Said> {
    let path = format!("{}:{}", host.file("").display(), std::env::var("PATH").unwrap_or_default());
    let mut command = host.command(args);
    command.env("REGISTRY_AUTH_FILE", host.file(credentials)).env("PATH", path);
    Ok(Said::from(command.output()?))
}

/// USER:PASSWORD as the files have it: ann:secret, and ann:wrong.
const RIGHT: &str = "YW5uOnNlY3JldA==";
const WRONG: &str = "YW5uOndyb25n";

fn passwords(host: &Host) -> Outcome {
    let registry = Registry::start(Options { login: Some(("ann", "secret")), tls: None })?;
    let there = registry.reference("private/one:1");
    host.pool("512M")?;
    host.image(&there, &[("file", b"content")])?;
    let repository = registry.reference("private");
    fs::write(host.file("right"), json!({"auths": {&repository: {"auth": RIGHT}}}).to_string())?;
    fs::write(host.file("wrong"), json!({"auths": {&registry.host: {"auth": WRONG}}}).to_string())?;
    fs::write(host.file("helped"), json!({"credHelpers": {&registry.host: "lamina-test"}}).to_string())?;
    fs::write(host.file("lacking"), json!({"credHelpers": {&registry.host: "lamina-none"}}).to_string())?;
    let helper = host.file("docker-credential-lamina-test");
    let told = r#"{"ServerURL": "x", "Username": "ann", "Secret": "secret"}"#;
    fs::write(&helper, format!("#!/bin/sh\nread server\n[ \"$server\" = {} ] && echo '{told}'\n", registry.host))?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    let push = ["push", "--plain-http", &there];
    for (credentials, words) in [
        ("wrong", "refuses access"),
        ("nothing", "refuses access"),
        ("lacking", "docker-credential-lamina-none is not installed"),
    ] {
        let said = with(host, credentials, &push)?;
        expect!(
            said.code == Some(1) && said.err.contains(words) && !said.err.contains("secret"),
            "{credentials}: {said:?}"
        );
    }
    for credentials in ["right", "helped"] {
        let said = with(host, credentials, &push)?;
        expect!(said.code == Some(0) && !said.err.contains("secret"), "{credentials}: {said:?}");
    }
    // The file that skopeo writes.
    let login = format!("login -u ann -p secret --tls-verify=false --authfile skopeo {}", registry.host);
    run(host, "skopeo", &login)?;
    host.ok(&["rmi", &there])?;
    let said = with(host, "skopeo", &["pull", "--plain-http", &there])?;
    expect_eq!(said.code, Some(0), "{said:?}");
    host.check()
}

fn certificates(host: &Host) -> Outcome {
    let make = "req -x509 -newkey rsa:2048 -nodes -subj /CN=lamina-test -days 1 -keyout key -out certificate";
    run(host, "openssl", make)?;
    let (certificate, key) = (host.file("certificate"), host.file("key"));
    let registry = Registry::start(Options { login: None, tls: Some((&certificate, &key)) })?;
    let there = registry.reference("one:1");
    host.pool("512M")?;
    host.image(&there, &[("file", b"content")])?;
    host.ok(&["push", "-q", "--tls-verify=false", &there])?;
    host.ok(&["rmi", &there])?;
    host.fails(&["pull", "-q", &there], "--tls-verify=false")?;
    host.fails(&["pull", "-q", "--plain-http", &there], "refuses the request (400")?;
    expect_eq!(host.ok(&["pull", "-q", "--tls-verify=false", &there])?, there);
    Ok(())
}

/// The registry sends to another place, which gives a token for a password; only the token opens it.
fn tokens(host: &Host) -> Outcome {
    let server = Server::start()?;
    server.image("some/one:1", &[Layer::gzip(&Tarball::default().file("f", "1").end())?], "amd64")?;
    let address = server.address;
    server.answer(move |request, usual| {
        let header = |name: &str| request.headers.get(name).map(String::as_str).unwrap_or_default();
        if request.path.starts_with("/token?") {
            let known = header("authorization") == format!("Basic {RIGHT}");
            let scoped = request.path.contains("scope=repository%3Asome%2Fone%3Apull&service=test");
            return match known && scoped {
                true => Answer { status: 200, body: br#"{"token": "open"}"#.to_vec().into(), ..Answer::default() },
                false => Answer { status: 401, body: b"who?".to_vec().into(), ..Answer::default() },
            };
        }
        if header("authorization") == "Bearer open" {
            return usual;
        }
        let asks = format!(r#"Bearer realm="http://{address}/token",service="test""#);
        Answer { status: 401, headers: vec![("WWW-Authenticate", asks)], ..Answer::default() }
    });
    host.pool("512M")?;
    let there = server.reference("some/one:1");
    for (file, auth) in [("right", RIGHT), ("wrong", WRONG)] {
        fs::write(host.file(file), json!({"auths": {server.address.to_string(): {"auth": auth}}}).to_string())?;
    }
    let pull = ["pull", "--plain-http", &there];
    for credentials in ["wrong", "nothing"] {
        let said = with(host, credentials, &pull)?;
        expect!(said.code == Some(1) && said.err.contains("refuses access (401: who?)"), "{credentials}: {said:?}");
    }
    let said = with(host, "right", &pull)?;
    expect_eq!(said.code, Some(0), "{said:?}");
    // Without the token, as anybody.
    let said = http(host, "pull", &there);
    expect!(said.is_err(), "{said:?}");
    Ok(())
}
