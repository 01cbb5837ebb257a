//! SIGKILL of the command, or of the process that becomes the runtime, at each step of a container's life; what lives on
//! is the container's, or is taken away by the next command.

use std::fs;

use lamina::{crash::Point, runtime::Cgroup};

use crate::{
    expect, expect_eq,
    lamina::Host,
    pool::Outcome,
    running::{base, nothing_left, row, soon},
};

/// The points of processes.
pub const IN_RUN: [Point; 9] = [
    Point::RunIntent,
    Point::RunMounted,
    Point::RunMade,
    Point::RunNoted,
    Point::RunBegun,
    Point::StopAsked,
    Point::RemoveEnded,
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
    nothing_left(host, &[id])
}

pub fn kill_at(host: &Host, point: Point) -> Outcome {
    base(host)?;
    if point == Point::InstantFrozen {
        return kill_in_an_instant(host, point);
    }
    host.ok(&["run", "-d", "--name", "bystander", "base:1", "sleep", "1000"])?;
    let start = ["run", "-d", "--name", "victim", "base:1", "sleep", "1000"];
    let args: &[&str] = match point {
        Point::StopAsked => &["stop", "-t", "1", "victim"],
        Point::RemoveEnded | Point::RemoveHome => &["rm", "-f", "victim"],
        _ => &start,
    };
    if args[0] != "run" {
        host.ok(&start)?;
    }
    let said = host.run_to(point.name(), args)?;
    if point == Point::RunMounted {
        // That is the supervisor's child, so the command lives, and tells.
        expect_eq!(said.code, Some(125), "{said:?}");
    } else {
        expect_eq!(said.signal, Some(9), "{said:?}");
    }
    if matches!(point, Point::RunMade | Point::RunNoted) {
        // One that waits to begin is mounted already, and is looked into there.
        let file = host.file("copied");
        fs::write(&file, "copied")?;
        host.ok(&["cp", &file.to_string_lossy(), "victim:/srv/copied"])?;
        host.ok(&["cp", "victim:/srv/copied", &host.file("back").to_string_lossy()])?;
    }
    host.check()?;
    expect_eq!(row(host, "bystander")?["state"], "running");
    let expected: &[&str] = match point {
        Point::RunBegun => &["running"],
        // Told to stop, it is up to the container.
        Point::StopAsked => &["running", "exited"],
        Point::RemoveEnded => &["exited"],
        Point::RunNoted => &["created", "exited"],
        _ => &["created"],
    };
    if point == Point::RemoveHome {
        expect!(row(host, "victim").is_err(), "its row is gone");
    } else {
        let state = row(host, "victim")?["state"].as_str().unwrap_or_default().to_owned();
        expect!(expected.contains(&state.as_str()), "{state}, expected {expected:?}");
        // Whatever is left of it, it can be started, and removed.
        host.ok(&["start", "victim"])?;
        expect_eq!(row(host, "victim")?["state"], "running");
        host.ok(&["rm", "-f", "victim"])?;
    }
    host.ok(&start)?;
    // Its supervisor dies: it goes on, nobody notes its end, and that is told.
    let id = host.json(&["inspect", "victim"])?[0]["id"].as_str().ok_or("an ID")?.to_owned();
    let runs = lamina::runtime::runs_of(&host.root().canonicalize()?);
    let supervisor: i32 = fs::read_to_string(runs.join(&id).join("conmon.pid"))?.trim().parse()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL)?;
    expect_eq!(row(host, "victim")?["state"], "running");
    host.ok(&["stop", "-t", "0", "victim"])?;
    soon("it has ended", || Ok(row(host, "victim")?["status"] == "Exited (255)"))?;
    host.ok(&["rm", "victim"])?;
    host.ok(&["rm", "-f", "bystander"])?;
    host.check()?;
    nothing_left(host, &[id])
}
