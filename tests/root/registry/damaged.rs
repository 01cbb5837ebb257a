//! Downloads that other commands left, and ranges.

use std::{fs, io::Read as _};

use super::{
    Case,
    faults::{is_blob, layer, nothing_is_left},
    http,
    server::{Answer, Layer, Server},
};
use crate::{expect_eq, lamina::Host, pool::Outcome};

pub(super) const CASE: Case = ("a_damaged_download_begins_anew", &[], damaged);

/// As after a power failure; and a registry that gives another range than it was asked for.
fn damaged(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    let layers = [layer("one", 1)?, layer("two", 2)?, layer("three", 3)?];
    server.image("some:1", &layers, "amd64")?;
    let there = server.reference("some:1");
    let mut good = vec![0; 100_000];
    layers[1].body.read(0)?.read_exact(&mut good)?;
    let whole = usize::try_from(layers[2].body.size)?;
    for (layer, bytes) in layers.iter().zip([vec![0; 100_000], good, vec![0; whole]]) {
        fs::write(host.root().join("downloads").join(layer.digest.hex()), bytes)?;
    }
    let second = layers[1].clone();
    server.answer(move |request, usual| match is_blob(&request.path, &second) {
        true => Answer { status: 206, headers: vec![("Content-Range", "bytes 0-9/10".to_owned())], ..usual },
        false => usual,
    });
    http(host, "pull", &there)?;
    let asked = server.asked();
    let gets = |layer: &Layer| asked.iter().filter(|line| line.contains(&layer.digest.to_string())).count();
    expect_eq!(layers.each_ref().map(gets), [2, 1, 1], "{asked:?}");
    // One that gives what comes later.
    host.ok(&["rmi", &there])?;
    fs::write(host.root().join("downloads").join(layers[0].digest.hex()), [0; 10])?;
    server.answer(|request, usual| match request.offset() {
        Some(_) => Answer { headers: vec![("Content-Range", "bytes 11-20/21".to_owned())], ..usual },
        None => usual,
    });
    host.fails(&["pull", "-q", "--plain-http", &there], "sends other bytes of a layer than it was asked for")?;
    host.ok(&["image", "prune", "-f"])?;
    nothing_is_left(host)
}
