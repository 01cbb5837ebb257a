//! SIGKILL at every failpoint of every command: the next command finds a consistent state, no volume leaked, no layer
//! lost, and the killed command simply works when it is given again.

mod metadata;
mod running;

use std::{fs, path::Path};

use lamina::{crash::Point, driver::DriverKind, id::Digest};
use libtest_mimic::{Completion, Trial};

use crate::{
    expect, expect_eq,
    image::tarball::Tarball,
    lamina::{Host, with_host, write_tar},
    pool::Outcome,
    registry::server::{Layer, Server},
};

/// One case per driver and point.
pub fn trials() -> Vec<Trial> {
    let case = |driver: DriverKind, point: Point| {
        Trial::ignorable_test(format!("crash::{driver}::{}", point.name()), move || {
            if let (true, Some(missing)) = (running::IN_RUN.contains(&point), crate::running::missing()) {
                return Ok(Completion::ignored_with(missing));
            }
            with_host(driver, |host| match point {
                point if running::IN_RUN.contains(&point) => running::kill_at(host, point),
                Point::MetadataGrown => metadata::kill_extending(host),
                point if metadata::IN_REPAIR.contains(&point) => metadata::kill_repairing(host, point),
                point => kill_at(host, point),
            })
        })
    };
    let cases = DriverKind::ALL.into_iter().flat_map(|driver| Point::ALL.iter().map(move |point| (driver, *point)));
    cases.filter(|(driver, point)| point.is_of(*driver)).map(|(driver, point)| case(driver, point)).collect()
}

/// A command that may reach the point, and whether its work must be undone before it is given again.
struct Step {
    args: &'static [&'static str],
    /// Run first, to make what the command needs.
    before: &'static [&'static [&'static str]],
    /// A container that is mounted then, or may be.
    mounted: Option<&'static str>,
    /// What there is in the end, however often it was given.
    effect: Effect,
}

#[derive(Clone, Copy)]
enum Effect {
    Nothing,
    Image(&'static str),
    NoImage(&'static str),
    Container(&'static str),
    NoContainer(&'static str),
    File(&'static str),
}

const fn step(effect: Effect, args: &'static [&'static str], before: &'static [&'static [&'static str]]) -> Step {
    Step { args, before, mounted: None, effect }
}

const fn mounted(name: &'static str, step: Step) -> Step {
    Step { mounted: Some(name), ..step }
}

/// Every command that changes something, with what it needs.
const STEPS: [Step; 14] = [
    step(Effect::Image("second"), &["import", "second.tar", "second:1"], &[]),
    step(Effect::Container("made"), &["create", "--name", "made", "base:1"], &[]),
    mounted("victim", step(Effect::Container("victim"), &["mount", "victim"], &[])),
    step(Effect::Container("victim"), &["umount", "victim"], &[&["mount", "victim"]]),
    step(Effect::Image("committed"), &["commit", "written", "committed:1"], &[]),
    mounted("written", step(Effect::Image("live"), &["commit", "written", "live:1"], &[&["mount", "written"]])),
    step(Effect::Nothing, &["pool", "up"], &[&["pool", "down"]]),
    step(Effect::Nothing, &["pool", "down"], &[]),
    step(Effect::Image("loaded"), &["load", "-i", "archive.tar"], &[]),
    step(Effect::Image("pulled"), &["pull", "--plain-http", "PULLED"], &[]),
    step(Effect::File("saved.tar"), &["save", "-o", "saved.tar", "base:1"], &[]),
    step(Effect::Nothing, &["pool", "grow", "GROWN"], &[]),
    step(Effect::NoContainer("victim"), &["rm", "victim"], &[]),
    step(Effect::NoImage("other"), &["rmi", "other:1"], &[]),
];

/// A name, or one at a registry.
fn is(value: &serde_json::Value, name: &str) -> bool {
    value.as_str().is_some_and(|value| value.rsplit('/').next() == Some(name))
}

/// The command's work is there, once.
fn done(host: &Host, effect: Effect) -> Outcome {
    let count = |listing: serde_json::Value, field: &str, name: &str| {
        listing.as_array().into_iter().flatten().filter(|row| is(&row[field], name)).count()
    };
    let images = |name| Ok::<_, crate::pool::Fault>(count(host.json(&["images"])?, "repository", name));
    let containers = |name| Ok::<_, crate::pool::Fault>(count(host.json(&["ps", "-a"])?, "name", name));
    match effect {
        Effect::Nothing => {}
        Effect::Image(name) => expect_eq!(images(name)?, 1, "image {name}"),
        Effect::NoImage(name) => expect_eq!(images(name)?, 0, "image {name}"),
        Effect::Container(name) => expect_eq!(containers(name)?, 1, "container {name}"),
        Effect::File(name) => expect!(host.file(name).exists(), "file {name}"),
        Effect::NoContainer(name) => expect_eq!(containers(name)?, 0, "container {name}"),
    }
    Ok(())
}

fn kill_at(host: &Host, point: Point) -> Outcome {
    let mut reached = kill_making_the_pool(host, point)?;
    prepare(host)?;
    let server = registry()?;
    for step in &STEPS {
        if step.args.contains(&"grow") && !host.has_device() {
            continue;
        }
        for before in step.before {
            host.ok(before)?;
        }
        let args: Vec<String> = step.args.iter().map(|arg| argument(host, &server, arg)).collect();
        let said = host.run_to(point.name(), &args)?;
        let killed = said.signal == Some(9);
        expect!(killed || said.code == Some(0), "{args:?} was neither killed nor done: {said:?}");
        if killed {
            reached = true;
            host.check()?;
            archives_are_those_of_images(host)?;
            if let Effect::File(name) = step.effect {
                expect!(!host.file(name).exists(), "a killed command wrote {name}");
            }
            untouched(host)?;
            // A pool with a mounted container stays up.
            unmount(host, step.mounted)?;
            // What was left is finished or undone when the pool comes up, too.
            host.ok(&["pool", "down"])?;
            host.ok(&["pool", "up"])?;
            again(host, &args)?;
            done(host, step.effect)?;
            host.check()?;
            untouched(host)?;
        }
        if step.args[0] != "mount" {
            unmount(host, step.mounted)?;
        }
    }
    host.ok(&["pool", "down"])?;
    reached |= kill_destroying_the_pool(host, point)?;
    expect!(reached, "no command reaches this point");
    Ok(())
}

fn unmount(host: &Host, container: Option<&str>) -> Outcome {
    let mounted = host.json(&["ps"])?;
    let names: Vec<&str> = mounted.as_array().into_iter().flatten().filter_map(|row| row["name"].as_str()).collect();
    match container.filter(|name| names.contains(name)) {
        Some(name) => host.ok(&["umount", name]).map(drop),
        None => Ok(()),
    }
}

/// With an image of two layers, compressed and not.
fn registry() -> Outcome<Server> {
    let server = Server::start()?;
    let tar = |name: &str| Tarball::default().file(name, name).end();
    let plain = tar("upper");
    let plain = Layer::plain(Digest::of(&plain), plain.into());
    server.image("pulled:1", &[Layer::gzip(&tar("lower"))?, plain], "amd64")?;
    Ok(server)
}

fn argument(host: &Host, server: &Server, arg: &str) -> String {
    match arg {
        "PULLED" => server.reference("pulled:1"),
        // So large that a thin pool's metadata must grow with it.
        "GROWN" => "8G".to_owned(),
        file if Path::new(file).extension().is_some_and(|extension| extension == "tar") => {
            host.file(file).display().to_string()
        }
        other => other.to_owned(),
    }
}

fn create_args(host: &Host) -> Vec<&'static str> {
    host.pool_args("512M")
}

fn kill_making_the_pool(host: &Host, point: Point) -> Outcome<bool> {
    let said = host.run_to(point.name(), &create_args(host))?;
    if said.signal == Some(9) {
        // Whatever there is of a pool is not taken for one.
        host.fails(&["pool", "status"], "no pool")?;
        host.ok(&create_args(host))?;
        return Ok(true);
    }
    expect_eq!(said.code, Some(0), "{said:?}");
    Ok(false)
}

fn kill_destroying_the_pool(host: &Host, point: Point) -> Outcome<bool> {
    let said = host.run_to(point.name(), &["pool", "destroy", "--yes"])?;
    if said.signal != Some(9) {
        expect_eq!(said.code, Some(0), "{said:?}");
        return Ok(false);
    }
    if point == Point::DownHalf {
        // It died on the way to the intent, so all is there still.
        host.check()?;
        untouched(host)?;
        host.ok(&["pool", "destroy", "--yes"])?;
    }
    host.fails(&["pool", "status"], "no pool")?;
    // A new one can be made at once, and is empty.
    host.ok(&create_args(host))?;
    expect_eq!(host.json(&["images"])?, serde_json::json!([]));
    Ok(true)
}

/// What all commands find: images base:1 and other:1, containers keep, victim and written.
fn prepare(host: &Host) -> Outcome {
    host.image("base:1", &[("etc/base", b"base"), ("big", &[7; 200_000])])?;
    host.image("other:1", &[("other", b"other")])?;
    write_tar(&host.file("second.tar"), &[("second", b"second")])?;
    write_archive(host)?;
    for name in ["keep", "victim", "written"] {
        host.ok(&["create", "--name", name, "base:1"])?;
    }
    for name in ["keep", "written"] {
        let target = host.mount(name)?;
        fs::write(target.join("note"), name)?;
        host.ok(&["umount", name])?;
    }
    Ok(())
}

/// A two-layer archive in Docker's form, made from what is known of its layers.
fn write_archive(host: &Host) -> Outcome {
    let (lower, upper) = (host.file("lower.tar"), host.file("upper.tar"));
    write_tar(&lower, &[("lower", b"lower")])?;
    write_tar(&upper, &[("upper", b"upper")])?;
    crate::archive::write(&host.file("archive.tar"), "loaded:1", &[lower.as_path(), upper.as_path()])
}

/// The killed command, given again, works or finds its work done.
fn again(host: &Host, args: &[String]) -> Outcome {
    let said = host.run(args)?;
    let done_before = ["is in use", "no such", "not mounted", "not larger", "already"];
    let fine = said.code == Some(0) || done_before.iter().any(|words| said.err.contains(words));
    expect!(fine, "{args:?} given again: {said:?}");
    Ok(())
}

/// No archive of a layer is kept that no image has.
fn archives_are_those_of_images(host: &Host) -> Outcome {
    let images = host.json(&["images"])?;
    let layers =
        images.as_array().into_iter().flatten().flat_map(|image| image["layers"].as_array().into_iter().flatten());
    let known: Vec<&str> = layers.filter_map(|layer| layer["cache_id"].as_str()).collect();
    for entry in fs::read_dir(host.root().join("blobs"))? {
        let name = entry?.file_name();
        expect!(known.iter().any(|id| name == *id), "{} belongs to no image", name.display());
    }
    Ok(())
}

/// What no command was told to touch is as it was.
fn untouched(host: &Host) -> Outcome {
    let target = host.mount("keep")?;
    expect_eq!(fs::read(target.join("note"))?, b"keep");
    expect_eq!(fs::read(target.join("etc/base"))?, b"base");
    expect_eq!(fs::read(target.join("big"))?, vec![7; 200_000]);
    host.ok(&["umount", "keep"])?;
    expect_eq!(host.ok(&["diff", "keep"])?, "A /note");
    Ok(())
}
