//! A registry that means harm: endless answers, lists that contradict themselves, ways in circles.

use std::fs;

use lamina::id::Digest;
use serde_json::json;

use super::{
    Case,
    faults::{Ones, is_blob, layer, nothing_is_left},
    server::{Answer, Body, Layer, Request, Server},
};
use crate::{expect_eq, image::tarball::Tarball, lamina::Host, pool::Outcome};

pub(super) const CASES: [Case; 1] = [("what_a_registry_says_has_limits", &[], limits)];

fn endless() -> Body {
    Body::of(1 << 50, || Box::new(Ones))
}

type Faulty = fn(&Request, Answer) -> Answer;

/// What is done to the answers, and how it is told.
const ANSWERS: [(Faulty, &str); 6] = [
    (
        |r, usual| if r.path.contains("manifests") { Answer { body: endless(), ..usual } } else { usual },
        "sends a manifest of more than 4 MiB",
    ),
    // The configuration comes first.
    (
        |r, usual| if r.path.contains("blobs") { Answer { body: endless(), ..usual } } else { usual },
        "get the configuration: it has digest",
    ),
    (
        |r, usual| match r.path.contains("manifests") {
            true => Answer { status: 404, body: endless(), ..usual },
            false => usual,
        },
        "does not have it (404: ",
    ),
    (
        |r, usual| match r.path.as_str() {
            path if path.starts_with("/token") => Answer { status: 200, body: endless(), ..usual },
            _ => {
                let realm = format!("http://{}/token", r.headers.get("host").map_or("", String::as_str));
                let asks = format!("Bearer realm=\"{realm}\"");
                Answer { status: 401, headers: vec![("WWW-Authenticate", asks)], ..usual }
            }
        },
        "sends a token of more than 1 MiB",
    ),
    (
        |r, usual| match r.path.contains("manifests") {
            true => Answer { status: 307, headers: vec![("Location", r.path.clone())], ..usual },
            false => usual,
        },
        "redirects without end",
    ),
    (
        |r, usual| match r.path.contains("manifests") {
            true => Answer { status: 302, ..usual },
            false => usual,
        },
        "refuses the request (302",
    ),
];

fn limits(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    let (one, two) = (layer("one", 1)?, layer("two", 2)?);
    server.image("some:1", &[one.clone(), two.clone()], "amd64")?;
    let there = server.reference("some:1");
    let pull = ["pull", "-q", "--plain-http", &there];
    for (faulty, words) in ANSWERS {
        server.answer(faulty);
        host.fails(&pull, words)?;
    }
    // A layer that is listed and is not there.
    let lost = two.clone();
    server.answer(move |request, usual| match is_blob(&request.path, &lost) {
        true => Answer { status: 404, ..Answer::default() },
        false => usual,
    });
    host.fails(&pull, &format!("layer {}: registry {} does not have it (404)", two.digest, server.address))?;
    server.answer(|_, usual| usual);
    lists(host, &server, &one)?;
    host.ok(&["image", "prune", "-f"])?;
    turns(host, &server)?;
    host.ok(&["image", "prune", "-f"])?;
    nothing_is_left(host)
}

/// Manifests that are not what they may be.
fn lists(host: &Host, server: &Server, one: &Layer) -> Outcome {
    let there = server.reference("some:1");
    let pull = ["pull", "-q", "--plain-http", &there];
    // The same layer with two sizes; one layer too many; a configuration of any size.
    let short = Layer { body: one.body.clone().told(10), ..one.clone() };
    server.image("some:1", &[one.clone(), short], "amd64")?;
    host.fails(&pull, &format!("layer {} is listed with {} bytes and with 10", one.digest, one.body.size))?;
    let many = (0..257).map(|n| Layer::gzip(&Tarball::default().file(&format!("{n}"), "").end()));
    let many = many.collect::<Outcome<Vec<_>>>()?;
    server.image("some:1", &many, "amd64")?;
    host.fails(&pull, "has 257 layers and the limit is 256")?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let config = json!({"mediaType": "x/y", "digest": Digest::of(b"x").to_string(), "size": 1u64 << 40});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
    server.manifest("some", "1", kind, serde_json::to_vec(&manifest)?);
    host.fails(&pull, "get the configuration: it has 1099511627776 bytes and the limit is")?;
    let both = json!({"schemaVersion": 2, "manifests": [], "config": config, "layers": []});
    server.manifest("some", "1", kind, serde_json::to_vec(&both)?);
    host.fails(&pull, "the manifest is that of an image and a list of manifests at once")?;
    // As many steps as fit into the bytes of a configuration, each of which would take a hundred in memory.
    let steps = vec![json!({}); 1_300_000];
    let config = json!({
        "architecture": "amd64", "os": "linux", "history": steps, "rootfs": {"type": "layers", "diff_ids": []},
    });
    let config = serde_json::to_vec(&config)?;
    let own = json!({"mediaType": "x/y", "digest": Digest::of(&config).to_string(), "size": config.len()});
    server.blob("some", Digest::of(&config), config);
    let manifest = json!({"schemaVersion": 2, "config": own, "layers": []});
    server.manifest("some", "1", kind, serde_json::to_vec(&manifest)?);
    host.fails(&pull, "has 1300000 steps of history and the limit is 4096")
}

/// Three layers are downloaded at once, and those whose turn has not come have no file yet.
fn turns(host: &Host, server: &Server) -> Outcome {
    let layers = (0..10).map(|n| Layer::gzip(&Tarball::default().file(&format!("{n}"), "").end()));
    server.image("some:1", &layers.collect::<Outcome<Vec<_>>>()?, "amd64")?;
    server.answer(|request, usual| match request.path.contains("/blobs/") && usual.body.size < 200 {
        true => Answer { cut: Some(10), hangs: true, ..usual },
        false => usual,
    });
    let there = server.reference("some:1");
    let mut child = host.spawn(&["pull", "-q", "--plain-http", &there], std::process::Stdio::null())?;
    server.wait_for_hanging(3)?;
    let open = fs::read_dir(host.root().join("downloads"))?.count();
    child.kill()?;
    child.wait()?;
    expect_eq!(open, 3, "files of downloads");
    Ok(())
}
