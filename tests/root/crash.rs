//! SIGKILL at every failpoint that a command comes by, each time that it does: the next command finds a consistent state,
//! no volume leaked, no layer lost, and the killed command simply works when it is given again.

pub mod data;
mod groups;
mod metadata;
mod running;

use std::{fs, path::Path};

use lamina::{
    crash::{KILLED_AT, Point},
    driver::DriverKind,
    id::Digest,
    units::Bytes,
};
use libtest_mimic::{Completion, Trial};

use self::groups::{COMMIT, Effect, GROUPS, Group, IMPORT, LIMIT, LIVES, POOL, Step};
use crate::{
    expect, expect_eq,
    image::tarball::Tarball,
    lamina::{Host, Said, with_flaky_host, with_host, write_tar},
    pool::Outcome,
    power,
    registry::server::{Layer, Server},
};

/// One case per driver and group of commands.
pub fn trials() -> Vec<Trial> {
    let mut trials = vec![Trial::test("crash::every_point_has_its_commands", every_point_has_its_commands)];
    for driver in DriverKind::ALL {
        trials.extend([IMPORT, COMMIT, LIVES].map(|group| {
            Trial::ignorable_test(format!("power::{driver}::{}", group.name), move || {
                with_flaky_host(driver, |host| {
                    power::expect_messages();
                    host.ok(&create_args(host))?;
                    kill_in(host, &group)
                })
            })
        }));
        trials.push(case(driver, "pool", kill_over_the_pool));
        let groups = GROUPS.iter().filter(|group| group.name != LIMIT.name || Point::LimitSet.is_of(driver));
        trials.extend(groups.map(|group| {
            case(driver, group.name, |host| {
                host.ok(&create_args(host))?;
                kill_in(host, group)
            })
        }));
    }
    trials.extend(data::POINTS.into_iter().map(|point| {
        let case = move |host: &Host| data::kill(host, point);
        self::case(DriverKind::Overlay, point.name(), case)
    }));
    let in_run = DriverKind::ALL.into_iter().flat_map(|driver| running::IN_RUN.map(|point| (driver, point)));
    for (driver, point) in in_run.filter(|(driver, point)| point.is_of(*driver)) {
        trials.push(Trial::ignorable_test(format!("crash::{driver}::{}", point.name()), move || {
            match crate::running::missing() {
                Some(missing) => Ok(Completion::ignored_with(missing)),
                None => with_host(driver, |host| running::kill_at(host, point)),
            }
        }));
    }
    trials.push(case(DriverKind::Thin, "extending-metadata", metadata::kill_extending));
    trials.push(case(DriverKind::Thin, "repairing-metadata", metadata::kill_repairing));
    trials
}

fn case(driver: DriverKind, name: &str, kill: impl Fn(&Host) -> Outcome + Send + 'static) -> Trial {
    Trial::ignorable_test(format!("crash::{driver}::{name}"), move || with_host(driver, kill))
}

/// A new point belongs into the group whose commands come by.
fn every_point_has_its_commands() -> Result<(), libtest_mimic::Failed> {
    let mut known: Vec<Point> = GROUPS.iter().chain([&POOL]).flat_map(Group::points).collect();
    known.extend(data::POINTS);
    known.extend(running::IN_RUN);
    known.extend(metadata::IN_REPAIR);
    known.extend(metadata::IN_GROWTH);
    let missing: Vec<&Point> = Point::ALL.iter().filter(|point| !known.contains(point)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no case is killed at {missing:?}").into()) }
}

/// A name, or one at a registry.
fn is(value: &serde_json::Value, name: &str) -> bool {
    value.as_str().is_some_and(|value| value.rsplit('/').next() == Some(name))
}

/// The command's work is there, once.
fn done(host: &Host, effect: Effect, arrival: usize) -> Outcome {
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
        Effect::Mounted(name, wanted) => expect_eq!(is_mounted(host, name)?, wanted, "container {name} is mounted"),
        Effect::Grown => {
            let total = host.json(&["pool", "status"])?["data"]["total_bytes"].as_u64().unwrap_or(0);
            let wanted = grown(arrival).0;
            // btrfs takes a part of it for metadata, about a fifth.
            let least = if host.driver == DriverKind::Btrfs { wanted / 10 * 7 } else { wanted };
            expect!((least..=wanted).contains(&total), "{total} bytes after growing to {wanted}");
        }
    }
    Ok(())
}

fn kill_in(host: &Host, group: &Group) -> Outcome {
    prepare(host)?;
    host.sync()?;
    let server = registry()?;
    let mut reached = Vec::new();
    for step in group.steps {
        reached.extend(kill_until_done(host, &server, step)?);
    }
    // Where threads race, as in a pull, a point may come by at another arrival each time, and never at the one waited for.
    for point in group.missed(host, &reached) {
        for step in group.steps {
            kill_once(host, &server, step, point.name(), &mut reached)?;
        }
    }
    group.require(host, &reached)
}

/// Gives a command again and again, killed when it first comes by a point, then at the second arrival at any, until it
/// ends alive. Tells where it was killed.
fn kill_until_done(host: &Host, server: &Server, step: &Step) -> Outcome<Vec<String>> {
    let mut reached = Vec::new();
    while kill_once(host, server, step, &format!("*:{}", reached.len() + 1), &mut reached)? {}
    Ok(reached)
}

/// Gives a command that is killed at a point, and adds it to those reached, unless the command ends alive.
fn kill_once(host: &Host, server: &Server, step: &Step, at: &str, reached: &mut Vec<String>) -> Outcome<bool> {
    let arrival = reached.len() + 1;
    let arguments = |args: &[&str]| args.iter().map(|arg| argument(host, server, arg, arrival)).collect::<Vec<_>>();
    for before in step.before {
        done_or_done_before(host, &arguments(before))?;
    }
    let args = arguments(step.args);
    let said = host.run_to(at, &args)?;
    if let Some(point) = killed_at(&said)? {
        reached.push(point);
        after_kill(host, step, &args, reached)
            .map_err(|fault| format!("killed {args:?} at {reached:?}: {}", fault.0))?;
        return Ok(true);
    }
    expect!(said.code == Some(0), "{args:?}, killed at {reached:?} before: {said:?}");
    done(host, step.effect, arrival)?;
    if step.args[0] != "mount" {
        unmount(host, step.mounted)?;
    }
    Ok(false)
}

/// All is well after a kill, the next commands work, and the killed one does.
fn after_kill(host: &Host, step: &Step, args: &[String], reached: &[String]) -> Outcome {
    host.lose_power()?;
    host.check()?;
    // A layer of an image that was to have more waits for the next try, with its archive.
    if !matches!(step.args[0], "load" | "pull") {
        archives_are_those_of_images(host)?;
    }
    if let Effect::File(name) = step.effect {
        expect!(!host.file(name).exists(), "a killed command wrote {name}");
    }
    // A pool with a mounted container stays up.
    unmount(host, step.mounted)?;
    // What was left is finished or undone when the pool comes up, too.
    host.ok(&["pool", "down"])?;
    host.ok(&["pool", "up"])?;
    let said = done_or_done_before(host, args)?;
    if step.args[0] == "build" && reached.iter().any(|point| point == Point::ImagePublished.name()) {
        expect!(said.contains("Using cache"), "the step that was finished is done again: {said}");
    }
    done(host, step.effect, reached.len())?;
    host.check()?;
    archives_are_those_of_images(host)?;
    untouched(host)?;
    if let Effect::File(name) = step.effect {
        fs::remove_file(host.file(name))?;
    }
    unmount(host, step.mounted)
}

/// The point at which a command was killed, if it was.
fn killed_at(said: &Said) -> Outcome<Option<String>> {
    if said.signal != Some(9) {
        return Ok(None);
    }
    let name = said.err.lines().find_map(|line| line.strip_prefix(KILLED_AT));
    Ok(Some(name.ok_or_else(|| format!("killed, and not at a point: {said:?}"))?.to_owned()))
}

/// A command works, or finds its work done by one that was killed after that.
fn done_or_done_before(host: &Host, args: &[String]) -> Outcome<String> {
    let said = host.run(args)?;
    let words = ["is in use", "no such", "not mounted", "not larger", "already"];
    let done_before = said.code == Some(1) && words.iter().any(|words| said.err.contains(words));
    expect!(said.code == Some(0) || done_before, "{args:?}: {said:?}");
    Ok(said.err)
}

fn unmount(host: &Host, container: Option<&str>) -> Outcome {
    match container {
        Some(name) if is_mounted(host, name)? => host.ok(&["umount", name]).map(drop),
        _ => Ok(()),
    }
}

fn is_mounted(host: &Host, container: &str) -> Outcome<bool> {
    let mounted = host.json(&["ps"])?;
    Ok(mounted.as_array().into_iter().flatten().any(|row| row["name"] == container))
}

/// Larger each time, as a pool never shrinks, and so much that a thin pool's metadata must grow with it.
fn grown(arrival: usize) -> Bytes {
    Bytes::gib(8 * arrival as u64)
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

fn argument(host: &Host, server: &Server, arg: &str, arrival: usize) -> String {
    match arg {
        "CONTEXT" => host.file("context").display().to_string(),
        "GROWN" => grown(arrival).0.to_string(),
        "PULLED" => server.reference("pulled:1"),
        file if Path::new(file).extension().is_some_and(|extension| extension == "tar") => {
            host.file(file).display().to_string()
        }
        other => other.to_owned(),
    }
}

fn kill_over_the_pool(host: &Host) -> Outcome {
    let mut reached = kill_making_the_pool(host)?;
    prepare(host)?;
    let server = registry()?;
    for step in POOL.steps {
        if host.has_device() || !step.args.contains(&"grow") {
            reached.extend(kill_until_done(host, &server, step)?);
        }
    }
    reached.extend(kill_destroying_the_pool(host)?);
    POOL.require(host, &reached)
}

fn create_args(host: &Host) -> Vec<&'static str> {
    host.pool_args("512M")
}

/// Whatever there is of a pool that is being made is not taken for one, and not in the way of the next.
fn kill_making_the_pool(host: &Host) -> Outcome<Vec<String>> {
    let mut reached = Vec::new();
    loop {
        let said = host.run_to(&format!("*:{}", reached.len() + 1), &create_args(host))?;
        let Some(point) = killed_at(&said)? else {
            expect_eq!(said.code, Some(0), "killed at {reached:?} before: {said:?}");
            return Ok(reached);
        };
        reached.push(point);
        host.fails(&["pool", "status"], "no pool")?;
        host.ok(&create_args(host))?;
        host.ok(&["pool", "destroy", "--yes"])?;
    }
}

/// Until it is meant all is there still; from then on nothing is, and a new pool can be made at once, and is empty.
fn kill_destroying_the_pool(host: &Host) -> Outcome<Vec<String>> {
    let (mut reached, mut meant) = (Vec::new(), false);
    loop {
        let said = host.run_to(&format!("*:{}", reached.len() + 1), &["pool", "destroy", "--yes"])?;
        let Some(point) = killed_at(&said)? else {
            expect_eq!(said.code, Some(0), "killed at {reached:?} before: {said:?}");
            return Ok(reached);
        };
        meant |= point == Point::DestroyIntent.name();
        reached.push(point);
        if meant {
            host.fails(&["pool", "status"], "no pool")?;
            host.ok(&create_args(host))?;
            expect_eq!(host.json(&["images"])?, serde_json::json!([]));
        } else {
            host.check()?;
            untouched(host)?;
        }
    }
}

/// What all commands find: images base:1 and other:1, containers keep, victim and written.
fn prepare(host: &Host) -> Outcome {
    host.image("base:1", &[("etc/base", b"base"), ("big", &[7; 200_000])])?;
    write_tar(&host.file("other.tar"), &[("other", b"other")])?;
    // A name that comes twice makes the archive that is kept of the layer begin again.
    write_tar(&host.file("second.tar"), &[("second", b"first"), ("second", b"second")])?;
    write_archive(host)?;
    fs::create_dir(host.file("context"))?;
    fs::write(host.file("context/Dockerfile"), "FROM base:1\nCOPY Dockerfile /copied\nWORKDIR /made\nENV A=1\n")?;
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
