//! Peers: measured where they are installed, and nothing of them stays, whatever ends them.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use lamina::{
    bench::{PEERS, Row},
    program::DOCKER_REGISTRY,
};
use libtest_mimic::Completion;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Place, list, read};
use crate::{expect, expect_eq, pool::Outcome};

/// Whether it is podman's, which may be there and not run in this machine's namespaces and cgroups.
fn is_podman(row: &str) -> bool {
    row.starts_with("podman/")
}

/// What a Docker or containerd of the machine's own would be seen by.
fn outside() -> BTreeSet<PathBuf> {
    let entries = |place: &str| fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    [
        "/etc/docker",
        "/etc/containerd",
        "/run/docker",
        "/run/containerd",
        "/var/lib/docker",
        "/var/lib/containerd",
        "/opt",
    ]
    .into_iter()
    .flat_map(entries)
    .chain(["/run/docker", "/run/containerd"].map(PathBuf::from).into_iter().filter(|path| path.exists()))
    .collect()
}

/// Processes whose command line names a directory of the bench `id`, and `word`.
fn processes(id: u32, word: &str) -> Outcome<Vec<i32>> {
    let mine = format!("-{id}-");
    let named = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains("lamina-bench-") && line.contains(&mine) && line.contains(word)).then_some(pid)
    };
    Ok(fs::read_dir("/proc")?.flatten().filter_map(named).collect())
}

fn expect_no_trace(id: u32, before: &BTreeSet<PathBuf>, said: &str) -> Outcome<()> {
    expect_eq!(processes(id, "")?, Vec::<i32>::new(), "processes left: {said}");
    let mine = format!("-{id}-");
    let left: Vec<_> = fs::read_dir("/run")?.flatten().map(|entry| entry.file_name()).collect();
    let left: Vec<_> = left.iter().filter(|name| name.to_string_lossy().contains(&mine)).collect();
    expect!(left.is_empty(), "left in /run: {left:?}: {said}");
    expect_eq!(&outside(), before, "what others see of Docker");
    Ok(())
}

pub(super) fn measured() -> Outcome<Completion> {
    let usable: Vec<_> = PEERS.into_iter().filter(|row| row.usable().is_ok()).map(Row::name).collect();
    if usable.is_empty() {
        return Ok(Completion::ignored_with("neither Docker nor containerd nor podman is installed"));
    }
    let place = Place::new()?;
    let json = place.file("bench.json");
    let before = outside();
    let workloads = ["copy-up", "containers", "changes", "images"];
    let mut command =
        place.command(&["--tiny", "--driver", "btrfs", "--peers", "docker,containerd,podman", "--workload"]);
    command.arg(workloads.join(",")).arg("--json").arg(&json).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn()?;
    let id = child.id();
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    expect!(output.status.success(), "lamina bench: {}: {said}", output.status);
    expect!(!said.contains("WARN"), "{said}");
    let report = read(&json)?;
    for (row, workload) in PEERS.into_iter().flat_map(|row| workloads.map(|workload| (row.name(), workload))) {
        let of_row = |entry: &&serde_json::Value| entry["workload"] == workload && entry["row"] == row;
        let series = list(&report, "series").filter(of_row).count();
        if workload == "images" && row.starts_with("containerd/") && DOCKER_REGISTRY.find().is_err() {
            continue;
        }
        let absent: Vec<_> = list(&report, "absent").filter(of_row).filter(|entry| entry["what"] == "").collect();
        if is_podman(row) && absent.iter().any(|absent| absent["failed"] == false) {
            continue;
        }
        expect_eq!((series > 0, absent.len()), (usable.contains(&row), usize::from(series == 0)), "{row}: {absent:?}");
    }
    // What has no layers below writes no whole files, and what copies files does.
    let space = |row: &str| {
        let first = |entry: &&serde_json::Value| {
            entry["row"] == row && entry["what"] == "space of the first write" && entry["at"] == "1 MiB"
        };
        list(&report, "series").find(first).and_then(|entry| entry["median"].as_f64())
    };
    for row in usable.iter().filter(|row| row.contains("/overlay") && (!is_podman(row) || space(row).is_some())) {
        expect!(space(row).is_some_and(|bytes| bytes >= 1_048_576.0), "{row} took {:?} bytes", space(row));
    }
    for row in usable.iter().filter(|row| row.ends_with("/btrfs")) {
        expect!(space(row).is_some_and(|bytes| bytes < 524_288.0), "{row} took {:?} bytes", space(row));
    }
    place.expect_nothing(&output.stderr)?;
    expect_no_trace(id, &before, &said)?;
    Ok(Completion::Completed)
}

/// Docker's daemon, once it has made a container, as is seen in the bench's mount namespace.
fn busy_daemon(bench: &mut Child, pools: &Path) -> Outcome<i32> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        for pid in processes(bench.id(), "dockerd ")? {
            let pools = Path::new("/proc").join(pid.to_string()).join("root").join(pools.strip_prefix("/")?);
            let disks = fs::read_dir(pools).into_iter().flatten().flatten();
            let made = |disk: fs::DirEntry| fs::read_dir(disk.path().join("pool/docker/containers")).ok()?.next();
            if disks.filter_map(made).next().is_some() {
                return Ok(pid);
            }
        }
        expect!(bench.try_wait()?.is_none(), "the bench ended");
        expect!(Instant::now() < deadline, "Docker makes no container");
        thread::yield_now();
    }
}

/// Docker's daemon is killed in the second workload, and in the third comes Ctrl-C.
pub(super) fn broken() -> Outcome<Completion> {
    let names = ["docker/overlay2", "containerd/overlayfs"];
    if let Some(error) = PEERS.iter().filter(|row| names.contains(&row.name())).find_map(|row| row.usable().err()) {
        return Ok(Completion::ignored_with(error.to_string()));
    }
    let place = Place::new()?;
    let json = place.file("bench.json");
    let before = outside();
    let mut command = place.command(&["--tiny", "--driver", "overlay/ext4", "--peers", &names.join(","), "--json"]);
    command.arg(&json).args(["--workload", "copy-up,containers,changes"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let id = child.id();
    let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let mut said = String::new();
    let mut wait_for = |workload: &str, said: &mut String| -> Outcome<()> {
        while !said.lines().any(|line| line.starts_with(&format!("lamina: {workload}"))) {
            expect!(lines.read_line(said)? > 0, "it ended: {said}");
        }
        Ok(())
    };
    wait_for("containers", &mut said)?;
    kill(Pid::from_raw(busy_daemon(&mut child, &place.pools)?), Signal::SIGKILL)?;
    wait_for("changes", &mut said)?;
    kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGINT)?;
    lines.read_to_string(&mut said)?;
    expect_eq!(child.wait()?.code(), Some(1), "exit code: {said}");
    let report = read(&json)?;
    expect_eq!(report["complete"], serde_json::Value::from(false), "complete");
    let of =
        |entry: &serde_json::Value, workload: &str, row: &str| entry["workload"] == workload && entry["row"] == row;
    for (workload, row) in [("copy-up", names[0]), ("copy-up", names[1]), ("containers", names[1])] {
        expect!(list(&report, "series").any(|entry| of(entry, workload, row)), "no {workload} on {row}: {report}");
    }
    let failed = |entry: &serde_json::Value| of(entry, "containers", names[0]) && entry["failed"] == true;
    expect!(list(&report, "absent").any(failed), "the killed daemon is not told: {report}");
    place.expect_nothing(said.as_bytes())?;
    expect_no_trace(id, &before, &said)?;
    Ok(Completion::Completed)
}
