//! Images to a registry that has faults: what passes is tried again, and what does not is told.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lamina::id::Digest;

use super::{
    Case, count,
    faults::layer,
    http,
    server::{Answer, Request, Server},
};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

pub(super) const CASES: [Case; 2] =
    [("what_passes_while_pushing_is_tried_again", &[], passing), ("trouble_while_pushing_is_told", &[], trouble)];

fn with_image(host: &Host, server: &Server) -> Outcome<String> {
    host.pool("512M")?;
    server.image("here:1", &[layer("one", 1)?, layer("two", 2)?], "amd64")?;
    let here = server.reference("here:1");
    http(host, "pull", &here)?;
    let there = server.reference("there:1");
    host.ok(&["tag", &here, &there])?;
    Ok(there)
}

fn is_upload(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("/uploads/")
}

/// What was asked how often, and when last.
type Asked = Arc<Mutex<HashMap<String, (usize, Instant)>>>;

/// Each request fails at first, in its own way; no layer is mounted, so that all is sent.
fn passing(host: &Host) -> Outcome {
    let server = Server::start()?;
    let there = with_image(host, &server)?;
    let realm = format!("http://{}/token", server.address);
    let asked = Asked::default();
    let counted = Arc::clone(&asked);
    server.answer(move |request, usual| {
        let failed = |status| Answer { status, ..Answer::default() };
        if request.method == "POST" && request.path.contains("mount=") {
            return failed(405);
        }
        let mut asked = counted.lock().unwrap();
        let (path, _) = request.path.split_once('&').unwrap_or((&request.path, ""));
        let (turn, before) = asked.entry(format!("{} {path}", request.method)).or_insert((0, Instant::now()));
        let waited = std::mem::replace(before, Instant::now()).elapsed() >= Duration::from_secs(1);
        *turn += 1;
        let too_many = |seconds: &str| Answer { headers: vec![("Retry-After", seconds.to_owned())], ..failed(429) };
        if request.path.starts_with("/token?") {
            let given = br#"{"token": "open", "access_token": "open", "expires_in": 300}"#.to_vec();
            return match turn {
                1 => failed(503),
                2 => too_many("0"),
                _ => Answer { status: 200, body: given.into(), ..Answer::default() },
            };
        }
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer open") {
            let asks = format!(r#"Bearer realm="{realm}",service="test""#);
            return Answer { headers: vec![("WWW-Authenticate", asks)], ..failed(401) };
        }
        match (request.method.as_str(), turn) {
            ("HEAD", 1) => failed(500),
            ("PUT", 1) if is_upload(request) => Answer { takes: Some(100), ..usual },
            ("PUT", 2) if is_upload(request) => too_many("1"),
            // Who does not wait as long as it was asked to does not get through.
            ("PUT", 3..) if is_upload(request) && !waited => failed(400),
            ("PUT", 1) => failed(502),
            _ => usual,
        }
    });
    let said = http(host, "push", &there)?;
    expect_eq!(count(&said, ": Pushed"), 2, "{said}");
    let asked = asked.lock().unwrap();
    let turns = |begin: &str| -> Vec<usize> {
        asked.iter().filter(|(key, _)| key.starts_with(begin)).map(|(_, (turn, _))| *turn).collect()
    };
    expect_eq!(turns("PUT /v2/there/manifests/"), [2], "{asked:?}");
    // Two layers and the configuration, each three times.
    expect_eq!(turns("PUT /v2/there/blobs/uploads/"), [3, 3, 3], "{asked:?}");
    Ok(())
}

fn trouble(host: &Host) -> Outcome {
    let server = Server::start()?;
    let there = with_image(host, &server)?;
    let upper = layer("two", 2)?;
    let push = ["push", "-q", "--plain-http", "--registry-timeout=1", &there];
    type Faulty = fn(&Request, Answer) -> Answer;
    let with = |status, usual: Answer| Answer { status, body: b"why".to_vec().into(), ..usual };
    let faults: [(Faulty, &str); 6] = [
        (|r, usual| if r.method == "POST" { Answer { status: 401, ..usual } } else { usual }, "refuses access (401"),
        (|r, usual| if r.method == "POST" { Answer { status: 404, ..usual } } else { usual }, "does not have it (404"),
        (|r, usual| if is_upload(r) { Answer { status: 500, ..usual } } else { usual }, "has failed (500"),
        (
            |r, usual| match is_upload(r) {
                true => Answer { status: 429, headers: vec![("Retry-After", "3600".to_owned())], ..usual },
                false => usual,
            },
            "asks to be left alone for 3600 s, and 1 s is the limit",
        ),
        (
            |r, usual| if is_upload(r) { Answer { takes: Some(1000), hangs: true, ..usual } } else { usual },
            "has said nothing for 1 s",
        ),
        (|r, usual| if is_upload(r) { Answer { status: 202, ..usual } } else { usual }, "refuses the request (202"),
    ];
    for (faulty, words) in faults {
        server.answer(move |request, usual| match request.method.as_str() {
            "POST" if request.path.contains("mount=") => with(405, usual),
            _ => faulty(request, usual),
        });
        host.fails(&push, words)?;
    }
    // While one layer is on its way for ever, it turns out that another has no archive any more.
    server.answer(move |request, usual| match request.method.as_str() {
        "POST" if request.path.contains("mount=") => with(405, usual),
        _ if is_upload(request) => Answer { takes: Some(1000), hangs: true, ..usual },
        _ => usual,
    });
    let archives =
        fs::read_dir(host.root().join("blobs"))?.map(|entry| Ok(entry?.path())).collect::<Outcome<Vec<_>>>()?;
    let is_upper = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == upper.digest);
    let archive = archives.into_iter().find(is_upper).ok_or("an archive of the upper layer")?;
    let aside = host.file("aside");
    fs::rename(&archive, &aside)?;
    host.fails(&["push", "-q", "--plain-http", "--registry-timeout=5", &there], "it is missing")?;
    fs::rename(&aside, &archive)?;
    // One that has changed is noticed at its last byte, and never becomes a layer there.
    server.answer(|_, usual| usual);
    let whole = fs::read(&archive)?;
    let mut changed = whole.clone();
    *changed.last_mut().ok_or("a byte")? ^= 1;
    fs::write(&archive, changed)?;
    server.asked();
    host.fails(&push, &format!("and {} was expected", upper.digest))?;
    fs::write(&archive, whole)?;
    let asked = server.asked();
    expect!(!asked.iter().any(|line| line.starts_with("PUT /v2/there/manifests")), "half an image: {asked:?}");
    host.ok(&push)?;
    // All of it is there, as it was.
    let id = host.json(&["inspect", &there])?[0]["Id"].clone();
    host.ok(&["rmi", &server.reference("here:1")])?;
    host.ok(&["rmi", &there])?;
    http(host, "pull", &there)?;
    expect_eq!(host.json(&["inspect", &there])?[0]["Id"], id);
    host.check()
}
