//! No space in the middle: of the disk below, for a download, an archive on its way in or a layer on its way out; of the
//! pool, for what is unpacked. It is told, nothing of an image is left, and the next try goes on.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
    process::Stdio,
};

use lamina::{driver::DriverKind, id::Digest};
use libtest_mimic::{Completion, Failed};
use sha2::{Digest as _, Sha256};

use super::{
    count,
    faults::{Hasher, Ones, archives},
    http,
    server::{Body, Layer, Server},
};
use crate::{
    archive,
    disk::SmallDisk,
    expect, expect_eq,
    full::expect_messages,
    lamina::{Host, Said, with_host_in},
    pool::Outcome,
    save::{limits::head, path},
};

/// What is kept back of the disk below a pool, and by files that go with their command.
const RESERVE: u64 = 128 << 20;
const SPOOL_RESERVE: u64 = 256 << 20;

/// There is nothing like it in a file that compresses.
fn noise(length: u32) -> Vec<u8> {
    (0..length / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect()
}

pub(super) fn no_space(driver: DriverKind) -> Result<Completion, Failed> {
    let disk = SmallDisk::new(1200 << 20)?;
    let below = disk.path();
    with_host_in(&below, driver, |host| {
        expect_messages();
        host.pool("128M")?;
        host.image("small:1", &[("file", b"content")])?;
        host.ok(&["create", "--name", "box", "small:1"])?;
        let server = Server::start()?;
        a_download(host, &server, &below)?;
        what_is_unpacked(host, &server)?;
        what_is_spooled(host, &below)?;
        what_is_packed(host, &server, &below)
    })
}

/// Runs `case` while the disk has so much left.
fn with_little(disk: &Path, left: u64, case: impl FnOnce() -> Outcome) -> Outcome {
    let ballast = disk.join("ballast");
    let space = rustix::fs::statvfs(disk)?;
    let length = (space.f_bavail * space.f_frsize).saturating_sub(left);
    nix::fcntl::fallocate(File::create(&ballast)?, nix::fcntl::FallocateFlags::empty(), 0, i64::try_from(length)?)?;
    let result = case();
    fs::remove_file(&ballast)?;
    result
}

/// A layer that takes space where it is downloaded to, and none in the pool.
fn a_download(host: &Host, server: &Server, disk: &Path) -> Outcome {
    const LARGE: u64 = 64 << 20;
    let head = head(".wh.large", LARGE)?;
    let make = move || -> Box<dyn std::io::Read> {
        let content = std::io::Cursor::new(head.as_bytes().to_vec()).chain(Ones.take(LARGE));
        Box::new(content.chain(std::io::repeat(0).take(1024)))
    };
    let mut hasher = Hasher(Sha256::new());
    let size = std::io::copy(&mut make(), &mut hasher)?;
    let digest = Digest::finish(hasher.0);
    server.image("large:1", &[Layer::plain(digest, Body::of(size, make))], "amd64")?;
    let there = server.reference("large:1");
    with_little(disk, RESERVE + (40 << 20), || {
        let said = host.run(&["pull", "-q", "--plain-http", &there])?;
        expect!(said.code == Some(1) && said.err.contains("are kept back"), "{said:?}");
        expect!(said.err.contains("'lamina image prune' removes"), "{said:?}");
        host.check()
    })?;
    expect_eq!(host.json(&["images", "-a"])?.as_array().map(Vec::len), Some(1));
    server.asked();
    http(host, "pull", &there)?;
    let asked = server.asked();
    expect!(asked.iter().any(|line| line.contains(&format!("{digest} from "))), "{asked:?}");
    host.ok(&["rmi", &there]).map(drop)
}

/// A few KiB that become more than the pool has, and an archive of the same, at once: neither fits, with the other or
/// without.
fn what_is_unpacked(host: &Host, server: &Server) -> Outcome {
    const LARGE: u64 = 140 << 20;
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&head("bomb", LARGE)?, Ones.take(LARGE))?;
    let tar = tar.into_inner()?;
    let bomb = Layer::gzip(&tar)?;
    server.image("bomb:1", std::slice::from_ref(&bomb), "amd64")?;
    let there = server.reference("bomb:1");
    fs::write(host.file("layer.tar"), tar)?;
    archive::write(&host.file("bomb.tar"), "bomb:2", &[&host.file("layer.tar")])?;
    let archived = path(host, "bomb.tar");
    let before = archives(host)?;
    let attempts: [&[&str]; 2] = [&["pull", "-q", "--plain-http", &there], &["load", "-i", &archived]];
    let children = attempts.map(|args| host.spawn(args, Stdio::null()));
    for child in children {
        let said = Said::from(child?.wait_with_output()?);
        expect!(said.code == Some(1) && said.err.contains("full"), "{said:?}");
    }
    expect_eq!(host.json(&["images", "-a"])?.as_array().map(Vec::len), Some(1));
    expect_eq!((archives(host)?, &host.json(&["pool", "status"])?["layers"]), (before, &1.into()));
    host.check()?;

    host.ok(&["pool", "grow", "1G"])?;
    server.asked();
    let said = http(host, "pull", &there)?;
    expect_eq!(count(&said, "Pull complete"), 1, "{said}");
    let asked = server.asked();
    expect!(!asked.iter().any(|line| line.contains(&bomb.digest.to_string())), "it was here already: {asked:?}");
    host.ok(&["rmi", &there])?;
    host.ok(&["load", "-i", &archived])?;
    host.ok(&["rmi", "bomb:2"]).map(drop)
}

/// Through a pipe, onto a disk that has too little for it.
fn what_is_spooled(host: &Host, disk: &Path) -> Outcome {
    with_little(disk, SPOOL_RESERVE + (40 << 20), || {
        let mut child = host.spawn(&["load"], Stdio::piped())?;
        let mut input = child.stdin.take().ok_or("a pipe")?;
        // It ends reading when it has failed.
        let written = std::io::copy(&mut Ones.take(96 << 20), &mut input);
        drop(input);
        let said = Said::from(child.wait_with_output()?);
        expect!(written.is_err() && said.code == Some(1) && said.err.contains("are kept back"), "{said:?}");
        host.check()
    })
}

/// The packed layer of a commit does not fit beside the pool.
fn what_is_packed(host: &Host, server: &Server, disk: &Path) -> Outcome {
    fs::write(host.mount("box")?.join("fill"), noise(48 << 20))?;
    host.ok(&["umount", "box"])?;
    let there = server.reference("made:1");
    host.ok(&["commit", "box", &there])?;
    server.asked();
    with_little(disk, SPOOL_RESERVE + (20 << 20), || {
        host.fails(&["push", "-q", "--plain-http", &there], "are kept back")?;
        host.check()
    })?;
    let asked = server.asked();
    expect!(!asked.iter().any(|line| line.starts_with("PUT /v2/made/manifests")), "half an image: {asked:?}");
    http(host, "push", &there)?;
    host.ok(&["rm", "box"]).map(drop)
}
