//! A registry with faults: connections that are cut, content that is another, answers that do not come.

use std::{
    fs,
    io::{self, Read as _},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use lamina::id::Digest;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sha2::{Digest as _, Sha256};

use super::{
    Case, count, http,
    server::{Answer, Body, Layer, Server},
};
use crate::{
    expect, expect_eq,
    image::tarball::Tarball,
    lamina::{Host, Said},
    pool::Outcome,
    save::limits::{head, peak},
};

pub(super) const KILLED: Case = ("a_killed_pull_is_gone_on_with", &[], killed);

pub(super) const CASES: [Case; 7] = [
    ("a_build_pulls_its_base", &[], base),
    ("a_cut_connection_is_gone_on_with", &[], cut),
    ("other_content_is_refused", &[], other_content),
    ("trouble_at_the_registry_is_told", &[], trouble),
    ("what_passes_is_tried_again", &[], passing),
    ("a_signal_ends_it", &[], signals),
    ("memory_stays_small_for_a_large_layer", &[], memory),
];

const SIZE: u32 = 400_000;

/// A layer of one file whose bytes do not compress.
pub(super) fn layer(name: &str, seed: u32) -> Outcome<Layer> {
    let noise: String =
        (0..SIZE / 8).map(|n| format!("{:08x}", (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(n % 31))).collect();
    Layer::gzip(&Tarball::default().file(name, &noise).end())
}

pub(super) fn is_blob(path: &str, layer: &Layer) -> bool {
    path.ends_with(&layer.digest.to_string())
}

/// Nothing of an image is left, and no download.
pub(super) fn nothing_is_left(host: &Host) -> Outcome {
    expect_eq!(host.json(&["images", "-a"])?, serde_json::json!([]));
    for directory in ["blobs", "downloads"] {
        expect_eq!(fs::read_dir(host.root().join(directory))?.count(), 0, "files in {directory}");
    }
    host.check()
}

/// Once with a server that knows ranges, once with one that begins anew each time.
fn cut(host: &Host) -> Outcome {
    host.pool("512M")?;
    let layers = [layer("one", 1)?, layer("two", 2)?];
    for (status, name) in [(206, "ranges:1"), (200, "none:1")] {
        let server = Server::start()?;
        server.image(name, &layers, "amd64")?;
        let there = server.reference(name);
        server.answer(move |request, usual| {
            // Each time a little more than the last time.
            let (offset, status) = request.offset().map_or((0, 200), |offset| (offset, status));
            match request.path.contains("/blobs/") {
                true => Answer { status, cut: Some(if status == 206 { 70_000 } else { offset + 70_000 }), ..usual },
                false => usual,
            }
        });
        http(host, "pull", &there)?;
        let asked = server.asked();
        for layer in &layers {
            let resumed =
                asked.iter().filter(|line| line.contains(&layer.digest.to_string()) && line.contains(" from "));
            expect!(resumed.count() >= 2, "{asked:?}");
        }
        host.ok(&["create", "--name", "box", &there])?;
        for name in ["one", "two"] {
            expect_eq!(fs::metadata(host.mount("box")?.join(name))?.len(), u64::from(SIZE));
        }
        host.ok(&["umount", "box"])?;
        host.ok(&["rm", "box"])?;
        host.ok(&["rmi", &there])?;
    }
    nothing_is_left(host)
}

fn other_content(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    let (one, two) = (layer("one", 1)?, layer("two", 2)?);
    let digest = server.image("some:1", &[one.clone(), two.clone()], "amd64")?;
    let there = server.reference("some:1");
    let changed = |body: &Body| {
        let mut bytes = Vec::new();
        body.read(0)?.read_to_end(&mut bytes)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok::<Vec<u8>, io::Error>(bytes)
    };
    // A layer with a changed byte, which its decoder sees, and one that is another layer.
    for other in [changed(&two.body)?.into(), layer("two", 3)?.body] {
        let other: Body = other;
        server.blob("some", two.digest, other.told(two.body.size));
        host.fails(&["pull", "-q", "--plain-http", &there], &format!("and {} was expected", two.digest))?;
        fs::read_dir(host.root().join("downloads"))?.try_for_each(|left| fs::remove_file(left?.path()))?;
        nothing_is_left(host)?;
    }
    // One that ends too early, and one that does not end.
    server.answer({
        let two = two.clone();
        move |request, usual| match is_blob(&request.path, &two) {
            true => Answer { body: layer("two", 4).unwrap().body.twice(), ..usual },
            false => usual,
        }
    });
    host.fails(&["pull", "-q", "--plain-http", &there], "sends more than the")?;
    server.answer(move |request, usual| match is_blob(&request.path, &two) {
        true => Answer { body: vec![0; 10].into(), ..usual },
        false => usual,
    });
    host.fails(&["pull", "-q", "--plain-http", &there], "ended after 10 of")?;
    // A manifest that is not what its name says.
    let pinned = server.reference(&format!("some@{digest}"));
    let other = server.image("some:2", &[one], "amd64")?;
    let path = format!("/v2/some/manifests/{other}");
    server.answer(move |request, usual| {
        if !request.path.contains("manifests") {
            return usual;
        }
        let text = format!(r#"{{"schemaVersion": 2, "manifests": [], "path": "{path}"}}"#);
        Answer { status: 200, body: text.into_bytes().into(), ..Answer::default() }
    });
    let said = host.run(&["pull", "-q", "--plain-http", &pinned])?;
    expect!(said.code == Some(1) && said.err.contains(&digest.to_string()), "{said:?}");
    host.ok(&["image", "prune", "-f"])?;
    nothing_is_left(host)
}

fn trouble(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    let one = layer("one", 1)?;
    server.image("some:1", std::slice::from_ref(&one), "amd64")?;
    let there = server.reference("some:1");
    host.fails(&["pull", "-q", "--plain-http", &server.reference("none:1")], "does not have it (404)")?;
    for (place, status, words) in [
        ("/manifests/", 401, "refuses access"),
        ("/manifests/", 403, "refuses access"),
        ("/blobs/", 404, "does not have it (404"),
        ("/manifests/", 429, "too many requests (429"),
        ("/manifests/", 500, "has failed (500"),
        ("/blobs/", 503, "has failed (503"),
    ] {
        server.answer(move |request, usual| match request.path.contains(place) {
            true => Answer { status, body: b"why".to_vec().into(), ..Answer::default() },
            false => usual,
        });
        host.fails(&["pull", "-q", "--plain-http", &there], words)?;
    }
    // It falls silent in the middle of a manifest or a layer.
    for place in ["/manifests/", &one.digest.to_string()] {
        let place = place.to_owned();
        server.answer(move |request, usual| match request.path.contains(&place) {
            true => Answer { cut: Some(10), hangs: true, ..usual },
            false => usual,
        });
        let args = ["pull", "-q", "--plain-http", "--registry-timeout=1", &there];
        host.fails(&args, "has said nothing for 1 s")?;
    }
    // What is no manifest, or one of another time.
    for (text, words) in [
        ("no JSON", "read the manifest"),
        (r#"{"schemaVersion": 1, "fsLayers": []}"#, "schema version 1"),
        (r#"{"schemaVersion": 2, "manifests": []}"#, "there is no image for"),
    ] {
        server.manifest("some", "1", "application/json", text.as_bytes().to_vec());
        server.answer(|_, usual| usual);
        let said = host.run(&["pull", "-q", "--plain-http", &there])?;
        expect!(said.code == Some(1) && said.out.is_empty(), "{text}: {said:?}");
        expect!(said.err.contains(words) || said.err.contains("anifest"), "{text}: {said:?}");
    }
    drop(server);
    host.fails(&["pull", "-q", "--plain-http", &there], "reach registry")?;
    host.ok(&["image", "prune", "-f"])?;
    nothing_is_left(host)
}

/// Every other request fails.
fn passing(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    server.image("some:1", &[layer("one", 1)?, layer("two", 2)?], "amd64")?;
    let there = server.reference("some:1");
    let turn = AtomicUsize::new(0);
    server.answer(move |request, usual| match request.path.as_str() {
        "/v2/" => usual,
        _ if turn.fetch_add(1, Ordering::Relaxed) % 2 == 1 => usual,
        _ => Answer { status: 503, ..Answer::default() },
    });
    let said = http(host, "pull", &there)?;
    expect_eq!(count(&said, "Pull complete"), 2, "{said}");
    host.check()
}

/// What FROM names and is not here; once.
fn base(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    server.image("base:1", &[layer("one", 1)?], "amd64")?;
    let there = server.reference("base:1");
    let context = host.file("context");
    fs::create_dir(&context)?;
    fs::write(context.join("Dockerfile"), format!("FROM {there}\nCOPY Dockerfile /\n"))?;
    let context = context.display().to_string();
    let said = host.run(&["build", "--plain-http", &context])?;
    for words in ["1: Pulling from base", "Pull complete", "Digest: sha256:", "Status: Downloaded newer image for "] {
        expect!(said.code == Some(0) && said.err.contains(words), "{words:?} is not in {said:?}");
    }
    let id = said.out.trim().to_owned();
    host.ok(&["create", "--name", "box", &id])?;
    let root = host.mount("box")?;
    expect!(root.join("one").exists() && root.join("Dockerfile").exists(), "both layers");
    host.ok(&["umount", "box"])?;
    drop(server);
    expect_eq!(host.ok(&["build", "-q", &context])?, id);
    host.fails(&["pull", "-q", "--plain-http", &there], "reach registry")
}

/// The upper layer hangs after a part of it.
fn hanging(server: &Server, upper: &Layer) {
    let upper = upper.clone();
    server.answer(move |request, usual| match is_blob(&request.path, &upper) {
        true => Answer { cut: Some(100_000), hangs: true, ..usual },
        false => usual,
    });
}

/// Bytes of the archives of layers, as `system df` counts them.
pub(super) fn archives(host: &Host) -> Outcome<u64> {
    Ok(host.json(&["system", "df"])?[0]["archive_bytes"].as_u64().ok_or("a number")?)
}

/// Until the first layer of a pull is unpacked.
fn wait_for_a_layer(host: &Host, child: &mut std::process::Child) -> Outcome {
    while archives(host)? == 0 {
        expect!(child.try_wait()?.is_none(), "it ended by itself");
    }
    Ok(())
}

fn killed(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    let layers = [layer("one", 1)?, layer("two", 2)?, layer("three", 3)?];
    server.image("some:1", &layers, "amd64")?;
    let there = server.reference("some:1");
    hanging(&server, &layers[1]);
    let mut child = host.spawn(&["pull", "--plain-http", &there], Stdio::null())?;
    server.wait_for_hanging(1)?;
    // All of one layer, and of another what came before.
    for (layer, size) in [(&layers[0], layers[0].body.size), (&layers[1], 100_000)] {
        let download = host.root().join("downloads").join(layer.digest.hex());
        while fs::metadata(&download)?.len() < size {
            expect!(child.try_wait()?.is_none(), "it ended by itself");
            std::thread::yield_now();
        }
    }
    wait_for_a_layer(host, &mut child)?;
    child.kill()?;
    expect!(!child.wait()?.success(), "it ended before it was killed");
    host.check()?;
    expect_eq!(host.json(&["images", "-a"])?, serde_json::json!([]));
    expect_eq!(fs::read_dir(host.root().join("blobs"))?.count(), 1, "archives of layers");
    let downloads = host.space_of("Downloads")?;
    expect!(downloads["reclaimable_bytes"].as_u64() >= Some(layers[0].body.size + 100_000), "{downloads}");

    server.asked();
    server.answer(|_, usual| usual);
    let said = http(host, "pull", &there)?;
    expect_eq!((count(&said, "Already exists"), count(&said, "Pull complete")), (1, 2), "{said}");
    let asked = server.asked();
    let gets = |layer: &Layer| asked.iter().filter(|line| line.contains(&layer.digest.to_string())).collect::<Vec<_>>();
    expect!(gets(&layers[0]).is_empty(), "the whole layer was downloaded again: {asked:?}");
    expect!(gets(&layers[1]).iter().all(|line| line.ends_with(" from 100000")), "{asked:?}");
    host.ok(&["rmi", &there])?;
    nothing_is_left(host)
}

fn signals(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    let layers = [layer("one", 1)?, layer("two", 2)?];
    server.image("some:1", &layers, "amd64")?;
    let there = server.reference("some:1");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        hanging(&server, &layers[1]);
        let mut child = host.spawn(&["pull", "--plain-http", &there], Stdio::null())?;
        server.wait_for_hanging(1)?;
        wait_for_a_layer(host, &mut child)?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let said = Said::from(child.wait_with_output()?);
        expect!(said.code == Some(1) && said.err.contains("interrupted"), "{signal}: {said:?}");
        host.check()?;
        expect_eq!(host.json(&["images", "-a"])?, serde_json::json!([]));
        expect_eq!(archives(host)?, layers[0].body.size, "the finished layer is there for the next try");
    }
    let said = host.ok(&["image", "prune", "-f"])?;
    expect!(!said.contains(" 0B of archives"), "{said}");
    nothing_is_left(host)
}

/// 2 GiB come and go.
fn memory(host: &Host) -> Outcome {
    const LARGE: u64 = 2 << 30;
    const MOST: u64 = 128 << 10;
    host.pool("512M")?;
    let head = head(".wh.large", LARGE)?;
    let make = move || -> Box<dyn io::Read> {
        let content = io::Cursor::new(head.as_bytes().to_vec()).chain(Ones.take(LARGE));
        Box::new(content.chain(io::repeat(0).take(1024)))
    };
    let mut hasher = Hasher(Sha256::new());
    let size = io::copy(&mut io::BufReader::with_capacity(1 << 20, make()), &mut hasher)?;
    let digest = Digest::finish(hasher.0);
    let server = Server::start()?;
    server.image("large:1", &[Layer::plain(digest, Body::of(size, make))], "amd64")?;
    let there = server.reference("large:1");
    for verb in ["pull", "push"] {
        if verb == "push" {
            server.answer(|request, usual| match request.method.as_str() {
                "HEAD" => Answer { status: 404, ..Answer::default() },
                _ => usual,
            });
        }
        let mut child = host.spawn(&[verb, "-q", "--plain-http", &there], Stdio::null())?;
        let mut most = 0;
        while child.try_wait()?.is_none() {
            most = most.max(peak(&child));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let said = Said::from(child.wait_with_output()?);
        expect!(said.code == Some(0) && most > 0 && most < MOST, "{verb} took {most} KiB: {said:?}");
    }
    Ok(())
}

pub(super) struct Hasher(pub(super) Sha256);

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `io::repeat` fills byte by byte in an unoptimised build.
pub(super) struct Ones;

impl io::Read for Ones {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(1);
        Ok(buffer.len())
    }
}
