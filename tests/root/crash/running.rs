//! SIGKILL of the command, or of the process that becomes the runtime, at each step of a container's life; what lives on
//! is the container's, or is taken away by the next command.

use std::fs;

use lamina::{
    crash::Point,
    runtime::{Cgroup, RunDirectory, runs_in, runs_of},
};

use crate::{
    expect, expect_eq,
    lamina::Host,
    pool::Outcome,
    running::{base, nothing_left, row, soon},
};

/// The points of processes.
pub const IN_RUN: [Point; 12] = [
    Point::RunIntent,
    Point::RunCalled,
    Point::RunMounted,
    Point::RunMade,
    Point::RunNoted,
    Point::RunOpened,
    Point::RunBegun,
    Point::StopAsked,
    Point::RemoveEnded,
    Point::RemoveRow,
    Point::RemoveHome,
    Point::InstantFrozen,
];

/// A command that had stopped a container for an instant is killed: the next one, whichever, lets it go on.
fn kill_in_an_instant(host: &Host, point: Point) -> Outcome {
    let id = host.ok(&["run", "-d", "--name", "still", "base:1", "sleep", "1000"])?;
    let cgroup = Cgroup::new(&id);
    let out = host.file("exported.tar");
    let export = ["export", "-o", &*out.to_string_lossy(), "still"];
    for args in [&["diff", "still"][..], &["commit", "still", "still:1"], &export] {
        let said = host.run_to(point.name(), args)?;
        expect_eq!(said.signal, Some(9), "{said:?}");
        expect!(cgroup.is_frozen()?, "{args:?}: the processes were not stopped");
        host.ok(&["images"])?;
        expect!(!cgroup.is_frozen()?, "{args:?}: the processes do not go on");
        host.ok(&["exec", "still", "true"])?;
        // One that its user has stopped stays so.
        host.ok(&["pause", "still"])?;
        host.ok(args)?;
        expect_eq!(row(host, "still")?["state"], "paused");
        host.ok(&["unpause", "still"])?;
        expect_eq!(row(host, "still")?["state"], "running");
    }
    host.ok(&["rm", "-f", "still"])?;
    host.check()?;
    // Volumes without a name go with a container that did not come to be.
    let create = ["create", "-v", "/a", "-v", "/b", "base:1", "true"];
    for point in [Point::DataIntent, Point::PrepareIntent, Point::PrepareActed] {
        expect_eq!(host.run_to(point.name(), &create)?.signal, Some(9));
        expect_eq!(host.ok(&["volume", "ls", "-q"])?, "", "{}", point.name());
        host.check()?;
    }
    expect_eq!(fs::read_dir(host.root().join("volumes"))?.count(), 0);
    nothing_left(host, &[id])
}

pub fn kill_at(host: &Host, point: Point) -> Outcome {
    base(host)?;
    if point == Point::InstantFrozen {
        return kill_in_an_instant(host, point);
    }
    host.ok(&["run", "-d", "--name", "bystander", "base:1", "sleep", "1000"])?;
    let start = ["run", "-d", "--name", "victim", "-v", "/anonymous", "base:1", "sleep", "1000"];
    let mut ids = Vec::new();
    for supervisor_dies in [false, true] {
        let args: &[&str] = match point {
            Point::StopAsked => &["stop", "-t", "1", "victim"],
            Point::RemoveEnded | Point::RemoveRow | Point::RemoveHome => &["rm", "-f", "-v", "victim"],
            Point::RunIntent | Point::RunCalled if supervisor_dies => &["start", "victim"],
            _ => &start,
        };
        match args[0] {
            "run" => {}
            "start" => drop(host.ok(&[&["create"], &start[2..]].concat())?),
            _ => drop(host.ok(&start)?),
        }
        let said = host.run_to(point.name(), args)?;
        if point == Point::RunMounted {
            // That is the supervisor's child, so the command lives, and tells.
            expect_eq!(said.code, Some(125), "{said:?}");
        } else {
            expect_eq!(said.signal, Some(9), "{said:?}");
        }
        if point == Point::RunCalled {
            untold_supervisors_end(host)?;
        } else if supervisor_dies {
            kill_supervisors(host)?;
        } else if matches!(point, Point::RunMade | Point::RunNoted) {
            // One that waits to begin is mounted already, and is looked into there.
            let file = host.file("copied");
            fs::write(&file, "copied")?;
            host.ok(&["cp", &file.to_string_lossy(), "victim:/srv/copied"])?;
            host.ok(&["cp", "victim:/srv/copied", &host.file("back").to_string_lossy()])?;
        }
        host.check()?;
        expect_eq!(row(host, "bystander")?["state"], "running");
        ids.extend(id_of(host, "victim"));
        told_truly(host, point, supervisor_dies)?;
        host.ok(&start)?;
        // Its supervisor dies: it goes on. Whoever stops it notes its end, and how, if the kernel tells that (Linux 6.15).
        ids.extend(id_of(host, "victim"));
        kill_supervisors(host)?;
        expect_eq!(row(host, "victim")?["state"], "running");
        host.ok(&["stop", "-t", "0", "victim"])?;
        let victim = row(host, "victim")?;
        // 2 is a runtime's that was told to stop before the container's program took its place.
        let codes = [255, 137, 2];
        expect!(victim["state"] == "exited" && codes.contains(&victim["exit_code"].as_i64().unwrap_or(0)), "{victim}");
        host.ok(&["rm", "-v", "victim"])?;
        expect_eq!(host.ok(&["volume", "ls", "-q"])?, "", "volumes without a name went with their containers");
    }
    if point == Point::RunCalled {
        // The same with the snapshot's row, and without the container's.
        for point in [Point::PrepareIntent, Point::PrepareActed] {
            expect_eq!(host.run_to(point.name(), &start)?.signal, Some(9));
            untold_supervisors_end(host)?;
            host.check()?;
            told_truly(host, Point::RunCalled, false)?;
        }
    }
    host.ok(&["rm", "-f", "bystander"])?;
    host.check()?;
    nothing_left(host, &ids)
}

/// Nobody tells them what to run, and so all but the bystander's end.
fn untold_supervisors_end(host: &Host) -> Outcome {
    let runs = runs_of(&host.root().canonicalize()?);
    let all: Vec<_> = runs_in(&runs)?.iter().map(|id| RunDirectory::new(&runs, id)).collect();
    soon("conmon ends", || Ok(all.iter().filter(|run| run.supervisor().is_ok_and(|one| one.is_some())).count() <= 1))
}

/// The ID of a container, if there is one.
fn id_of(host: &Host, name: &str) -> Option<String> {
    host.json(&["inspect", name]).ok().and_then(|found| Some(found[0]["Id"].as_str()?.to_owned()))
}

/// Kills conmon of the victim, if there is one.
fn kill_supervisors(host: &Host) -> Outcome {
    let runs = runs_of(&host.root().canonicalize()?);
    let Some(supervisor) =
        id_of(host, "victim").map(|id| RunDirectory::new(&runs, &id).supervisor()).transpose()?.flatten()
    else {
        return Ok(());
    };
    supervisor.signal(libc::SIGKILL)?;
    soon("conmon ends", || Ok(!supervisor.lives()?))
}

/// `ps` says what became of the victim; whatever is left of it, it can be started, and removed.
fn told_truly(host: &Host, point: Point, supervisor_dies: bool) -> Outcome {
    // Under its supervisor before it was made, it never was.
    let never_was = matches!(point, Point::RunIntent | Point::RunCalled) && !supervisor_dies;
    if never_was || matches!(point, Point::RemoveRow | Point::RemoveHome) {
        expect!(row(host, "victim").is_err(), "its row is gone");
        let homes = fs::read_dir(host.root().join("containers"))?.count();
        expect!(homes <= 1, "{homes} directories of containers, and one container");
        return Ok(());
    }
    let expected: &[&str] = match point {
        // Let go, and not its own program yet: whoever comes now may take it for one that waits.
        Point::RunOpened => &["running", "exited"],
        Point::RunBegun => &["running"],
        // Told to stop, it is up to the container.
        Point::StopAsked => &["running", "exited"],
        Point::RemoveEnded => &["exited"],
        Point::RunNoted => &["created", "exited"],
        _ => &["created"],
    };
    let state = row(host, "victim")?["state"].as_str().unwrap_or_default().to_owned();
    expect!(expected.contains(&state.as_str()), "{state}, expected {expected:?} ({supervisor_dies})");
    host.ok(&["start", "victim"])?;
    expect_eq!(row(host, "victim")?["state"], "running");
    host.ok(&["rm", "-f", "-v", "victim"]).map(drop)
}
