//! What goes on at once: layers of one pull, pulls and loads of one image, a pull and a removal. The server holds its
//! answers until all are there who must be, so what went one after the other would wait for ever.

use std::{
    fs,
    io::Write as _,
    process::{Child, Stdio},
    sync::{Arc, Barrier, Condvar, Mutex},
};

use super::{
    Case, count,
    faults::{archives, is_blob, layer, nothing_is_left},
    server::Server,
};
use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
    save::path,
};

pub(super) const CASE: Case = ("all_at_once", &[], all_at_once);

/// Something that answers wait for.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(super) fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }

    pub(super) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// Ends are awaited, and must be good.
fn good(child: Child) -> Outcome<Said> {
    let said = Said::from(child.wait_with_output()?);
    expect_eq!(said.code, Some(0), "{said:?}");
    Ok(said)
}

fn all_at_once(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    layers_of_one_pull(host, &server)?;
    two_pulls(host, &server)?;
    a_pull_and_a_removal(host, &server)?;
    two_loads(host, &server)?;
    nothing_is_left(host)
}

/// Three downloads, and the first layer is unpacked before the rest of the third comes.
fn layers_of_one_pull(host: &Host, server: &Server) -> Outcome {
    let layers = [layer("one", 1)?, layer("two", 2)?, layer("three", 3)?];
    server.image("three:1", &layers, "amd64")?;
    let there = server.reference("three:1");
    let (all, unpacked) = (Barrier::new(3), Gate::default());
    let waits = unpacked.clone();
    server.answer(move |request, usual| {
        if layers.iter().any(|layer| is_blob(&request.path, layer)) {
            all.wait();
        }
        if is_blob(&request.path, &layers[2]) {
            waits.wait();
        }
        usual
    });
    let mut child = host.spawn(&["pull", "--plain-http", "--registry-timeout=30", &there], Stdio::null())?;
    while archives(host)? == 0 {
        expect!(child.try_wait()?.is_none(), "it ended by itself");
    }
    unpacked.open();
    let said = good(child)?;
    expect_eq!(count(&said.err, "Pull complete"), 3, "{said:?}");
    host.ok(&["rmi", &there]).map(drop)
}

/// Both download the layer, since one cannot know whether the other will come to its end.
fn two_pulls(host: &Host, server: &Server) -> Outcome {
    let one = layer("one", 1)?;
    server.image("one:1", std::slice::from_ref(&one), "amd64")?;
    let there = server.reference("one:1");
    let both = Barrier::new(2);
    server.answer(move |request, usual| {
        if is_blob(&request.path, &one) {
            both.wait();
        }
        usual
    });
    let pull = || host.spawn(&["pull", "--plain-http", "--registry-timeout=30", &there], Stdio::null());
    let children = [pull()?, pull()?];
    for child in children {
        good(child)?;
    }
    expect_eq!(host.json(&["images", "-a"])?.as_array().map(Vec::len), Some(1));
    expect_eq!(fs::read_dir(host.root().join("blobs"))?.count(), 1, "archives of layers");
    host.check()
}

/// The layer below goes with its image while another image on it is pulled; that has it still.
fn a_pull_and_a_removal(host: &Host, server: &Server) -> Outcome {
    let (one, two) = (layer("one", 1)?, layer("two", 2)?);
    server.image("two:1", &[one, two.clone()], "amd64")?;
    let (there, below) = (server.reference("two:1"), server.reference("one:1"));
    let (asked, removed) = (Arc::new(Barrier::new(2)), Gate::default());
    let (asks, waits) = (Arc::clone(&asked), removed.clone());
    server.answer(move |request, usual| {
        if is_blob(&request.path, &two) {
            asks.wait();
            waits.wait();
        }
        usual
    });
    let child = host.spawn(&["pull", "--plain-http", "--registry-timeout=30", &there], Stdio::null())?;
    asked.wait();
    expect!(host.ok(&["rmi", &below])?.contains("Deleted: "), "the image goes");
    removed.open();
    let said = good(child)?;
    expect_eq!((count(&said.err, "Already exists"), count(&said.err, "Pull complete")), (1, 1), "{said:?}");
    host.check()?;
    host.ok(&["create", "--name", "box", &there])?;
    let root = host.mount("box")?;
    expect!(root.join("one").exists() && root.join("two").exists(), "both layers");
    host.ok(&["umount", "box"])?;
    host.ok(&["rm", "box"]).map(drop)
}

/// Each has the first half of the archive before one of them has the second.
fn two_loads(host: &Host, server: &Server) -> Outcome {
    server.answer(|_, usual| usual);
    let there = server.reference("two:1");
    host.ok(&["save", "-o", &path(host, "two.tar"), &there])?;
    host.ok(&["rmi", &there])?;
    let archive = fs::read(host.file("two.tar"))?;
    let (first, second) = archive.split_at(archive.len() / 2);
    let mut children = [host.spawn(&["load"], Stdio::piped())?, host.spawn(&["load"], Stdio::piped())?];
    for part in [first, second] {
        for child in &mut children {
            child.stdin.as_mut().ok_or("a pipe")?.write_all(part)?;
        }
    }
    for mut child in children {
        drop(child.stdin.take());
        let said = good(child)?;
        expect!(said.out.contains(&format!("Loaded image: {there}")), "{said:?}");
    }
    host.check()?;
    expect_eq!(host.json(&["images", "-a"])?.as_array().map(Vec::len), Some(1));
    host.ok(&["rmi", &there]).map(drop)
}
