//! Containers that run, on every driver: real processes under a real OCI runtime.

mod allowed;
mod beside;
mod early;
mod hostile;
mod inspected;
mod life;
mod many;
mod sizes;
pub mod terminal;
mod trouble;
mod tutorial;
mod volumes;

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::{Child, Stdio},
    time::Duration,
};

use lamina::{
    driver::DriverKind,
    program::{CONMON, CRUN, RUNC},
};
use libtest_mimic::{Completion, Trial};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    expect,
    lamina::{Host, with_host},
    pool::Outcome,
};

type Case = fn(&Host) -> Outcome;

const CASES: [(&str, Case); 16] = [
    ("the_tutorial_line_by_line", tutorial::the_tutorial_line_by_line),
    ("what_the_command_says_is_what_one_gets", life::what_the_command_says_is_what_one_gets),
    ("a_detached_one_is_looked_into", life::a_detached_one_is_looked_into),
    ("it_is_inspected_as_by_docker", inspected::it_is_inspected_as_by_docker),
    ("it_stops_as_it_is_told", life::it_stops_as_it_is_told),
    ("changes_are_seen_while_it_writes", life::changes_are_seen_while_it_writes),
    ("after_a_reboot_the_truth_is_told", life::after_a_reboot_the_truth_is_told),
    ("many_come_and_go_without_a_trace", many::many_come_and_go_without_a_trace),
    ("listings_are_true_while_they_come_and_go", trouble::listings_are_true_while_they_come_and_go),
    ("runtimes_and_supervisors_die", trouble::runtimes_and_supervisors_die),
    ("runtimes_are_chosen", trouble::runtimes_are_chosen),
    ("what_is_seen_and_allowed_is_dockers", trouble::what_is_seen_and_allowed_is_dockers),
    ("a_terminal_is_one", terminal::a_terminal_is_one),
    ("volumes_are_filled_shared_and_outlive", volumes::volumes_are_filled_shared_and_outlive),
    ("copies_and_limits", volumes::copies_and_limits),
    ("sizes_are_right_and_cost_nothing", sizes::sizes_are_right_and_cost_nothing),
];

/// One case per driver.
pub fn trials() -> Vec<Trial> {
    let case = |driver: DriverKind, name: &str, body: Case| {
        Trial::ignorable_test(format!("running::{driver}::{name}"), move || match missing() {
            Some(what) => Ok(Completion::ignored_with(what)),
            None => with_host(driver, body),
        })
    };
    DriverKind::ALL.into_iter().flat_map(|driver| CASES.map(|(name, body)| case(driver, name, body))).collect()
}

/// What is not installed.
pub fn missing() -> Option<&'static str> {
    if CONMON.find().is_err() {
        return Some("conmon is not installed");
    }
    (CRUN.find().is_err() && RUNC.find().is_err()).then_some("neither crun nor runc is installed")
}

/// A pool, and an image `base:1` in which a shell runs. It has no /etc/hosts, no /proc and no /dev.
pub fn base(host: &Host) -> Outcome {
    host.pool("1G")?;
    let tree = host.file("base");
    for directory in ["bin", "etc", "srv"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox"))?;
    let names = [
        "sh", "cat", "echo", "env", "hostname", "id", "ls", "mount", "pwd", "sleep", "stat", "stty", "tail", "touch",
        "true", "dd", "rm", "kill", "head", "grep", "mkdir",
    ];
    for name in names {
        symlink("busybox", tree.join("bin").join(name))?;
    }
    fs::write(tree.join("bin/bash"), "#!/bin/sh\nexec sh\n")?;
    fs::set_permissions(tree.join("bin/bash"), fs::Permissions::from_mode(0o755))?;
    fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/srv:/bin/sh\n")?;
    fs::write(tree.join("etc/group"), "root:x:0:\nwww:x:34:\n")?;
    fs::write(tree.join("notrun"), "no program")?;
    let tar = host.file("base.tar");
    let mut archive = tar::Builder::new(fs::File::create(&tar)?);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", &tree)?;
    archive.finish()?;
    host.ok(&["import", &tar.to_string_lossy(), "base:1"]).map(drop)
}

/// The row of a container in the listing.
pub fn row(host: &Host, name: &str) -> Outcome<serde_json::Value> {
    let rows = host.json(&["ps", "-a"])?;
    let found = rows.as_array().into_iter().flatten().find(|row| row["name"] == name);
    found.cloned().ok_or_else(|| format!("no container {name} in {rows}").into())
}

/// Follows a container's output until `lines` of it came; the follower is ended.
pub fn followed(host: &Host, name: &str, lines: usize) -> Outcome<Vec<String>> {
    let mut child = host.spawn(&["logs", "-f", name], Stdio::null())?;
    let read = lines_of(&mut child, lines);
    child.kill()?;
    child.wait()?;
    read
}

/// How long what must come may take before a case gives it up, so that none waits for ever.
const LONGEST: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// So many lines of the output of a command that goes on; fewer if it ends, which is an error.
fn lines_of(child: &mut Child, lines: usize) -> Outcome<Vec<String>> {
    let output = child.stdout.as_mut().ok_or("a pipe")?;
    let mut text = String::new();
    let mut byte = [0];
    while text.matches('\n').count() < lines {
        let ready = poll(&mut [PollFd::new(&*output, PollFlags::IN)], Some(&LONGEST))?;
        expect!(ready == 1, "nothing came for {} s after {text:?}", LONGEST.tv_sec);
        expect!(output.read(&mut byte)? == 1, "the output ended after {text:?}");
        text.push(char::from(byte[0]));
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// Tries until it holds, for a time in which it must.
pub fn soon(what: &str, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome {
    for _ in 0..1000 {
        if holds()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{what}: not within 20 seconds").into())
}

/// Nothing of containers is left of this host but what is in its root directory.
pub fn nothing_left(host: &Host, ids: &[String]) -> Outcome {
    let runs = lamina::runtime::runs_of(&host.root().canonicalize()?);
    expect!(lamina::runtime::runs_in(&runs)?.is_empty(), "{} is not empty", runs.display());
    let homes = host.root().join("containers");
    let left = fs::read_dir(&homes).map_or(0, Iterator::count);
    expect!(left == 0, "{left} directories in {}", homes.display());
    for id in ids {
        let processes = lamina::runtime::Cgroup::new(id).exists()?;
        expect!(!processes, "the cgroup of {id} is there still");
    }
    let of_containers = [runs, homes.canonicalize().unwrap_or(homes)];
    let mounts = lamina::fs::mounts_everywhere(|mount| {
        of_containers.iter().any(|place| mount.target.starts_with(place))
            || ids.iter().any(|id| mount.target.to_string_lossy().contains(id))
    })?;
    expect!(mounts.is_empty(), "mounted still: {mounts:?}");
    Ok(())
}
