//! Who may pull: passwords, tokens, certificates.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};

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

pub(super) const CASES: [Case; 5] = [
    ("a_password_is_asked_for", &["docker-registry", "skopeo", "htpasswd"], passwords),
    ("a_certificate_is_checked", &["docker-registry", "openssl"], certificates),
    ("a_token_is_asked_for", &[], tokens),
    ("a_token_that_ends_is_renewed", &[], renewed),
    ("nobody_else_gets_credentials", &[], elsewhere),
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
    let make = "req -x509 -newkey rsa:2048 -nodes -subj /CN=lamina-test -days 1 -addext subjectAltName=IP:127.0.0.1 \
        -addext basicConstraints=critical,CA:FALSE -keyout key -out certificate";
    run(host, "openssl", make)?;
    let (certificate, key) = (host.file("certificate"), host.file("key"));
    let registry = Registry::start(Options { login: None, tls: Some((&certificate, &key)) })?;
    let there = registry.reference("one:1");
    host.pool("512M")?;
    host.image(&there, &[("file", b"content")])?;
    host.ok(&["push", "-q", "--tls-verify=false", &there])?;
    host.ok(&["rmi", &there])?;
    host.fails(&["pull", "-q", &there], "UnknownIssuer")?;
    host.fails(&["pull", "-q", &there], "needs --tls-verify=false")?;
    host.fails(&["pull", "-q", "--plain-http", &there], "refuses the request (400")?;
    expect_eq!(host.ok(&["pull", "-q", "--tls-verify=false", &there])?, there);
    host.ok(&["rmi", &there])?;
    let trusting = |reference: &str| -> Outcome<Said> {
        let mut command = host.command(&["pull", "-q", reference]);
        Ok(Said::from(command.env("SSL_CERT_FILE", &certificate).output()?))
    };
    let said = trusting(&there)?;
    expect_eq!(said.code, Some(0), "{said:?}");
    // A machine without certificates needs none for what verifies none.
    let plain = Registry::start(Options::default())?;
    let without = |args: &[&str]| -> Outcome<Said> {
        let mut command = host.command(args);
        Ok(Said::from(command.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR").output()?))
    };
    for (option, reference, words) in [
        ("--plain-http", &plain.reference("none:1"), "does not have it (404"),
        ("--tls-verify=false", &there.replace("one", "none"), "does not have it (404"),
        ("-q", &there, "install package ca-certificates"),
    ] {
        let said = without(&["pull", option, reference])?;
        expect!(said.code == Some(1) && said.err.contains(words), "{option}: {said:?}");
    }
    // It is for another name; and where there is no TLS at all.
    let said = trusting(&there.replace("127.0.0.1", "localhost"))?;
    expect!(said.code == Some(1) && said.err.contains("needs --tls-verify=false"), "{said:?}");
    host.fails(&["pull", "-q", &plain.reference("one:1")], "one without TLS needs --plain-http")
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
        if request.path == "/token" {
            let form = "grant_type=refresh_token&client_id=lamina&scope=repository%3Asome%2Fone%3Apull\
                &refresh_token=identity%2B1&service=test";
            return match request.form == form {
                true => {
                    Answer { status: 200, body: br#"{"access_token": "open"}"#.to_vec().into(), ..Answer::default() }
                }
                false => Answer { status: 400, ..Answer::default() },
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
    // With what Docker has in the place of a password.
    let identity = json!({"auth": "YW5uOg==", "identitytoken": "identity+1"});
    fs::write(host.file("identity"), json!({"auths": {server.address.to_string(): identity}}).to_string())?;
    let said = with(host, "identity", &pull)?;
    expect_eq!(said.code, Some(0), "{said:?}");
    // Without the token, as anybody.
    let said = http(host, "pull", &there);
    expect!(said.is_err(), "{said:?}");
    Ok(())
}

/// Each token opens two requests only, so that each kind of request meets one that has ended.
fn renewed(host: &Host) -> Outcome {
    let server = Server::start()?;
    let (here, there) = (server.reference("here:1"), server.reference("there:1"));
    server.image("here:1", &[Layer::gzip(&Tarball::default().file("f", "1").end())?], "amd64")?;
    let realm = format!("http://{}/token", server.address);
    let current = Mutex::new((0, 0));
    server.answer(move |request, usual| {
        let mut current = current.lock().unwrap();
        let (serial, left) = &mut *current;
        if request.path.starts_with("/token?") {
            (*serial, *left) = (*serial + 1, 2);
            let given = format!(r#"{{"token": "", "access_token": "open-{serial}", "expires_in": 3600}}"#);
            return Answer { status: 200, body: given.into_bytes().into(), ..Answer::default() };
        }
        let known = request.headers.get("authorization");
        if *left > 0 && known.is_some_and(|known| *known == format!("Bearer open-{serial}")) {
            *left -= 1;
            return usual;
        }
        let asks = format!(r#"Bearer realm="{realm}",service="test""#);
        Answer { status: 401, headers: vec![("WWW-Authenticate", asks)], ..Answer::default() }
    });
    host.pool("512M")?;
    http(host, "pull", &here)?;
    host.ok(&["tag", &here, &there])?;
    http(host, "push", &there)?;
    let asked = server.asked();
    // For the other repository too, whose layer it may get.
    let scopes = "?scope=repository%3Athere%3Apull%2Cpush&scope=repository%3Ahere%3Apull&";
    expect!(asked.iter().any(|line| line.contains(scopes)), "{asked:#?}");
    for put in ["PUT /v2/there/blobs/", "PUT /v2/there/manifests/"] {
        expect!(asked.iter().filter(|line| line.starts_with(put)).count() >= 2, "{put}: {asked:#?}");
    }
    Ok(())
}

/// The registry sends to another place, for logging in, for a layer, and with one.
fn elsewhere(host: &Host) -> Outcome {
    let (server, other) = (Server::start()?, Server::start()?);
    let (here, there) = (server.reference("here:1"), server.reference("there:1"));
    let layer = Layer::gzip(&Tarball::default().file("f", "1").end())?;
    server.image("here:1", std::slice::from_ref(&layer), "amd64")?;
    other.blob("here", layer.digest, layer.body.clone());
    let (place, realm) = (other.address, format!("http://{}/token", other.address));
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    other.answer(move |request, usual| {
        let secrets = ["authorization", "referer"].map(|name| request.headers.contains_key(name));
        heard.lock().unwrap().push((request.method.clone(), secrets.contains(&true)));
        match request.path.as_str() {
            "/v2/" => {
                let asks = vec![("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))];
                Answer { status: 401, headers: asks, ..Answer::default() }
            }
            _ => usual,
        }
    });
    let to = move |status, path: &str| {
        let headers = vec![("Location", format!("http://{place}{path}"))];
        Answer { status, headers, ..Answer::default() }
    };
    server.answer(move |request, _| to(307, &request.path));
    fs::write(host.file("right"), json!({"auths": {server.address.to_string(): {"auth": RIGHT}}}).to_string())?;
    host.pool("512M")?;
    let said = with(host, "right", &["pull", "--plain-http", &here])?;
    expect!(said.code == Some(1) && said.err.contains("gets no credentials of it"), "{said:?}");
    server.answer(move |request, usual| {
        if request.headers.get("authorization").map(String::as_str) != Some(&format!("Basic {RIGHT}")) {
            let asks = vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())];
            return Answer { status: 401, headers: asks, ..Answer::default() };
        }
        match request.method.as_str() {
            "GET" if request.path.ends_with(&layer.digest.to_string()) => to(307, &request.path),
            "POST" => to(202, "/v2/there/blobs/uploads/upload"),
            _ => usual,
        }
    });
    let said = with(host, "right", &["pull", "--plain-http", &here])?;
    expect_eq!(said.code, Some(0), "{said:?}");
    host.ok(&["tag", &here, &there])?;
    let said = with(host, "right", &["push", "--plain-http", &there])?;
    expect_eq!(said.code, Some(0), "{said:?}");
    // The upload that begins where the layer is not had from the other repository is gone on with.
    let asked = server.asked();
    expect_eq!(asked.iter().filter(|line| line.starts_with("POST")).count(), 2, "{asked:#?}");
    let told = told.lock().unwrap();
    let count = |method: &str| told.iter().filter(|(asked, _)| asked == method).count();
    expect_eq!((count("GET"), count("PUT")), (2, 2), "{told:?}");
    expect!(!told.iter().any(|(_, secret)| *secret), "{told:?}");
    Ok(())
}
