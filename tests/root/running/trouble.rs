//! What is asked while containers come and go, runtimes and supervisors that die, and hosts that lack them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lamina::{
    program::{CONMON, Program},
    runtime::OciRuntime,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{allowed, base, followed, nothing_left, row};
use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

/// `ps` and `inspect` while containers start and end: never an error, and no state that it was not in.
pub fn listings_are_true_while_they_come_and_go(host: &Host) -> Outcome {
    base(host)?;
    host.ok(&["run", "-d", "--name", "stays", "base:1", "sleep", "1000"])?;
    let done = AtomicBool::new(false);
    let (mut ids, file) = (Vec::new(), host.file("id"));
    let asked = thread::scope(|scope| -> Outcome<u32> {
        let asking = scope.spawn(|| ask_all_the_time(host, &done).map_err(|fault| fault.0));
        let mut runs = || -> Outcome {
            for number in 0..20 {
                let name = format!("brief-{number}");
                let rm: &[&str] = if number % 2 == 0 { &["--rm"] } else { &[] };
                let options = ["run", "--name", &name, "--cidfile", &file.to_string_lossy()];
                let args = [&options, rm, &["base:1", "sh", "-c", "exit 3"]].concat();
                expect_eq!(host.run(&args)?.code, Some(3));
                ids.push(fs::read_to_string(&file)?);
                fs::remove_file(&file)?;
                // Stopped for an instant on some drivers, which is not paused.
                host.ok(&["diff", "stays"])?;
            }
            Ok(())
        };
        let ran = runs();
        done.store(true, Ordering::Relaxed);
        let asked = asking.join().map_err(|_| "a thread panicked")?;
        ran.and(asked.map_err(Into::into))
    })?;
    expect!(asked > 5, "asked {asked} times only");
    let rows = host.json(&["ps", "-a"])?;
    expect_eq!(rows.as_array().map(Vec::len), Some(11));
    // A pool that is taken down stays down, whatever the supervisors of what has just ended have still to do.
    host.ok(&["rm", "-f", "stays"])?;
    host.ok(&["run", "-d", "--name", "last", "base:1", "true"])?;
    host.ok(&["wait", "last"])?;
    if host.has_device() {
        super::soon("it goes down", || Ok(host.run(&["pool", "down"])?.code == Some(0)))?;
        let runs = lamina::runtime::runs_of(&host.root().canonicalize()?);
        for id in lamina::runtime::runs_in(&runs)? {
            let run = lamina::runtime::RunDirectory::new(&runs, &id);
            super::soon("its supervisor ends", || Ok(run.supervisor()?.is_none()))?;
        }
        expect!(host.run(&["pool", "down"])?.err.contains("was down already"), "it came up by itself");
    }
    for row in host.json(&["ps", "-a"])?.as_array().into_iter().flatten() {
        expect_eq!((&row["state"], &row["name"] == "last" || row["exit_code"] == 3), (&"exited".into(), true), "{row}");
        host.ok(&["rm", row["name"].as_str().unwrap_or_default()])?;
    }
    checked_and_pruned_meanwhile(host)?;
    nothing_left(host, &ids)
}

/// What comes and goes is no contradiction to `check`, and no failure to `prune`.
fn checked_and_pruned_meanwhile(host: &Host) -> Outcome {
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Outcome {
        let asking = scope.spawn(|| -> Result<(), String> {
            while !done.load(Ordering::Relaxed) {
                for args in [&["check"][..], &["container", "prune", "-f"]] {
                    host.ok(args).map_err(|fault| fault.0)?;
                }
            }
            Ok(())
        });
        let ran = (0..10).try_for_each(|_| host.ok(&["run", "--rm", "base:1", "true"]).map(drop));
        done.store(true, Ordering::Relaxed);
        let asked = asking.join().map_err(|_| "a thread panicked")?;
        ran.and(asked.map_err(Into::into))
    })
}

fn ask_all_the_time(host: &Host, done: &AtomicBool) -> Outcome<u32> {
    let mut asked = 0;
    while !done.load(Ordering::Relaxed) {
        for row in host.json(&["ps", "-a"])?.as_array().into_iter().flatten() {
            let (state, status) = (row["state"].as_str(), row["status"].as_str().unwrap_or_default());
            let true_to_life = match state {
                _ if row["name"] == "stays" => state == Some("running") && status.starts_with("Up "),
                Some("created") => status == "Created",
                Some("running") => status.starts_with("Up "),
                Some("exited") => row["exit_code"] == 3 && status.starts_with("Exited (3) "),
                _ => false,
            };
            expect!(true_to_life, "{row}");
            let said = host.run(&["inspect", row["id"].as_str().unwrap_or_default()])?;
            let gone = said.err.contains("no such") && row["name"] != "stays";
            expect!(said.code == Some(0) || gone, "{said:?}");
        }
        asked += 1;
    }
    Ok(asked)
}

/// A directory with a program of that name that does what `script` says; `$REAL` is the real one.
pub(super) fn instead(host: &Host, name: &str, real: &Path, script: &str) -> Outcome<PathBuf> {
    let directory = host.file(&format!("instead-{name}"));
    fs::create_dir_all(&directory)?;
    let program = directory.join(name);
    fs::write(&program, format!("#!/bin/sh\nREAL={}\n{script}\n", real.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

fn with_path(host: &Host, directory: &Path, args: &[&str]) -> Outcome<Said> {
    Ok(command_with(host, directory, args)?.output()?.into())
}

/// A command that finds the programs in `directory` before others.
pub(super) fn command_with(host: &Host, directory: &Path, args: &[&str]) -> Outcome<Command> {
    let path = format!("{}:{}", directory.display(), std::env::var("PATH")?);
    let mut command = host.command(args);
    command.env("PATH", path);
    Ok(command)
}

/// Runtime and supervisor killed at each step of a start: the command tells, and nothing is left but what can be started
/// again and removed.
pub fn runtimes_and_supervisors_die(host: &Host) -> Outcome {
    base(host)?;
    let runtime = OciRuntime::find()?.program();
    // Half way: the container's cgroup is there, its process is not yet or has just been made.
    let half = "for id; do :; done; $REAL \"$@\" & until stat /sys/fs/cgroup/lamina/$id /sys/fs/cgroup/*/lamina/$id 2>&1 | \
                grep -q Inode || ! kill -0 $!; do :; done; kill -9 $!; kill -9 $$";
    let fakes: [(Program, String, &[i32]); 5] = [
        (runtime, verb("create", "kill -9 $$"), &[125]),
        (runtime, verb("create", half), &[125]),
        // Made, and the runtime's word about it lost.
        (runtime, verb("create", "$REAL \"$@\"; kill -9 $$"), &[125]),
        (CONMON, "kill -9 $$".to_owned(), &[125]),
        // conmon makes a process of its own, which is killed once the container is made: with its last word or without.
        (
            CONMON,
            "$REAL \"$@\"; f=; for a; do [ \"$f\" = --conmon-pidfile ] && kill -9 $(cat $a); f=$a; done".to_owned(),
            &[125, 255],
        ),
    ];
    let mut ids = Vec::new();
    for (at, (program, script, codes)) in fakes.iter().enumerate() {
        let directory = instead(host, program.name, &program.find()?, script)?;
        let said =
            with_path(host, &directory, &["run", "--name", "victim", "-v", "/anonymous", "base:1", "sleep", "1000"])?;
        expect!(said.code.is_some_and(|code| codes.contains(&code)), "{at}: {said:?}");
        host.check()?;
        let found = row(host, "victim")?;
        expect!(["created", "exited"].iter().any(|state| found["state"] == *state), "{at}: {found}");
        ids.push(found["id"].as_str().ok_or("an ID")?.to_owned());
        // Once more, with all of them alive.
        host.ok(&["start", "victim"])?;
        expect_eq!(row(host, "victim")?["state"], "running", "{at}");
        host.ok(&["rm", "-f", "-v", "victim"])?;
        fs::remove_dir_all(directory)?;
    }
    expect_eq!(host.ok(&["volume", "ls", "-q"])?, "");
    ids.push(orphan(host)?);
    ids.extend(runtimes_die_beside_what_runs(host)?);
    host.check()?;
    nothing_left(host, &ids)
}

/// A script that does something else in the place of one verb of a runtime; every other call goes to the real one.
fn verb(verb: &str, then: &str) -> String {
    format!("case \" $* \" in *' {verb} '*) {then};; esac; exec $REAL \"$@\"")
}

/// Runtimes killed at `start`, which lamina does not call; and at `exec`, of which the container takes no notice.
fn runtimes_die_beside_what_runs(host: &Host) -> Outcome<Vec<String>> {
    let mut ids = Vec::new();
    for (runtime, _) in OciRuntime::all().into_iter().filter(|(_, unusable)| unusable.is_none()) {
        let program = runtime.program();
        let fake = |script: &str| instead(host, program.name, &program.find()?, script);
        let directory = fake(&verb("start", "kill -9 $$"))?;
        let run = ["run", "--name", "unbegun", "--runtime", program.name, "base:1", "true"];
        let said = with_path(host, &directory, &run)?;
        let state = row(host, "unbegun")?["state"].as_str().unwrap_or_default().to_owned();
        expect_eq!((said.code, &*state), (Some(0), "exited"), "{said:?}");
        host.ok(&["start", "-a", "unbegun"])?;
        host.ok(&["rm", "unbegun"])?;
        fake(&verb("exec", "kill -9 $$"))?;
        let run = ["run", "-d", "--name", "goes-on", "--runtime", program.name, "base:1", "sleep", "1000"];
        let said = with_path(host, &directory, &run)?;
        expect_eq!(said.code, Some(0), "{said:?}");
        ids.push(said.out.trim().to_owned());
        expect_eq!(host.run(&["exec", "goes-on", "true"])?.code, Some(128 + 9));
        expect_eq!(row(host, "goes-on")?["state"], "running");
        fake("exec $REAL \"$@\"")?;
        host.ok(&["exec", "goes-on", "true"])?;
        host.ok(&["rm", "-f", "goes-on"])?;
        fs::remove_dir_all(directory)?;
    }
    Ok(ids)
}

/// A container whose supervisor was killed: one is told so, and `stop`, which watches it end, notes how.
fn orphan(host: &Host) -> Outcome<String> {
    let script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let id = host.ok(&["run", "-d", "--name", "orphan", "base:1", "sh", "-c", script])?;
    followed(host, "orphan", 1)?;
    let run = lamina::runtime::runs_of(&host.root().canonicalize()?).join(&id);
    let supervisor = Pid::from_raw(fs::read_to_string(run.join("conmon.pid"))?.trim().parse()?);
    kill(supervisor, Signal::SIGKILL)?;
    super::soon("it ends", || Ok(kill(supervisor, None).is_err()))?;
    host.fails(&["attach", "--no-stdin", "orphan"], "supervisor (conmon) has ended")?;
    host.ok(&["stop", "orphan"])?;
    let found = row(host, "orphan")?;
    // Kernels before Linux 6.15 tell how it ended to its parent alone.
    expect!(found["exit_code"] == 5 || found["exit_code"] == 255, "{found}");
    expect!(found["status"].as_str().is_some_and(|status| status.ends_with(" ago")), "{found}");
    host.ok(&["rm", "orphan"])?;
    Ok(id)
}

/// Each runtime that works here runs, one that does not says why, and so does a host without any.
pub fn runtimes_are_chosen(host: &Host) -> Outcome {
    base(host)?;
    let info = host.json(&["info"])?;
    let mut default = None;
    for (runtime, unusable) in OciRuntime::all() {
        let name = runtime.program().name;
        let told = info["runtimes"].as_array().into_iter().flatten().find(|row| row["name"] == name);
        let told = told.ok_or_else(|| format!("{name} is not in {info}"))?;
        match unusable {
            None => {
                default = default.or(Some(name));
                expect!(told["missing"].is_null(), "{told}");
                host.ok(&[
                    "run",
                    "-d",
                    "--name",
                    "chosen",
                    "--runtime",
                    name,
                    "base:1",
                    "sh",
                    "-c",
                    "echo up; sleep 1000",
                ])?;
                followed(host, "chosen", 1)?;
                expect_eq!(host.ok(&["exec", "chosen", "echo", "in"])?, "in");
                host.ok(&["pause", "chosen"])?;
                host.ok(&["unpause", "chosen"])?;
                host.ok(&["stop", "-t", "0", "chosen"])?;
                expect_eq!(row(host, "chosen")?["exit_code"], 137);
                host.ok(&["rm", "chosen"])?;
                expect_eq!(
                    host.run(&["run", "--rm", "--runtime", name, "base:1", "sh", "-c", "exit 4"])?.code,
                    Some(4)
                );
                let said = host.run(&["run", "--rm", "--runtime", name, "base:1", "nosuch"])?;
                expect_eq!(said.code, Some(127), "{said:?}");
            }
            Some(reason) => {
                expect_eq!(told["missing"], reason.to_string());
                let said = host.run(&["run", "--rm", "--runtime", name, "base:1", "true"])?;
                expect!(said.code == Some(125) && said.err.contains(&reason.to_string()), "{said:?}");
            }
        }
    }
    expect_eq!(info["runtime"].as_str(), default);
    let runtimes = OciRuntime::all().map(|(runtime, _)| runtime.program());
    let said = run_without(host, &runtimes, &["run", "--rm", "base:1", "true"])?;
    expect!(said.contains("apt-get install crun") && said.contains("apt-get install runc"), "{said}");
    // Told before there is a container.
    let said = run_without(host, &[CONMON], &["run", "base:1", "true"])?;
    expect!(said.contains("apt-get install conmon"), "{said}");
    expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
    host.check()?;
    nothing_left(host, &[])
}

/// What a command says that fails without these programs, which a mount namespace of its own hides from it.
fn run_without(host: &Host, programs: &[Program], args: &[&str]) -> Outcome<String> {
    let mut hide = String::new();
    for path in programs.iter().filter_map(|program| program.find().ok()) {
        hide.push_str(&format!("mount --bind /dev/null {} && ", path.canonicalize()?.display()));
    }
    let run = host.command(args);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{hide} exec \"$@\""), "sh"]).arg(run.get_program()).args(run.get_args());
    let said: Said = command.output()?.into();
    expect_eq!(said.code, Some(125), "{said:?}");
    Ok(said.err)
}

/// What is masked, read-only to its depth, limited, counted and refused, as Docker has it.
pub fn what_is_seen_and_allowed_is_dockers(host: &Host) -> Outcome {
    base(host)?;
    let sh = |options: &[&str], script: &str| {
        host.ok(&[&["run", "--rm"], options, &["base:1", "sh", "-c", script]].concat())
    };
    // A masked file is empty, a masked directory too; /proc/sys is seen and not written.
    expect_eq!(
        sh(
            &[],
            "cat /proc/timer_list /proc/keys /proc/kcore /proc/interrupts; for d in /sys/firmware /proc/acpi; do ls $d 2>/dev/null; done; true"
        )?,
        ""
    );
    let said = host.run(&["run", "--rm", "base:1", "sh", "-c", "echo 1 > /proc/sys/kernel/panic"])?;
    expect!(said.code == Some(1) && said.err.contains("Read-only file system"), "{said:?}");
    // Read-only means what is mounted below, too.
    let shared = host.file("shared");
    fs::create_dir_all(shared.join("below"))?;
    nix::mount::mount(
        Some("tmpfs"),
        &shared.join("below"),
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=1m"),
    )?;
    let bind = format!("{}:/data:ro", shared.display());
    let said = host.run(&["run", "--rm", "-v", &bind, "base:1", "touch", "/data/below/new"]);
    lamina::fs::unmount(&shared.join("below"))?;
    let said = said?;
    expect!(said.code == Some(1) && said.err.contains("Read-only file system"), "{said:?}");
    let limited = ["run", "-d", "--name", "limited", "--memory", "32M", "--cpus", "0.5", "-v", "/a"];
    let id = host.ok(&[&limited[..], &["base:1", "sleep", "1000"]].concat())?;
    allowed::limits(&id)?;
    let inspected = &host.json(&["inspect", "limited"])?[0];
    expect!(inspected["volumes"].is_null(), "volumes are told twice: {inspected}");
    let source = inspected["Mounts"][0]["Source"].as_str().ok_or("a source")?;
    let mode = |path: &Path| fs::metadata(path).map(|found| found.permissions().mode() & 0o7777);
    let above = Path::new(source).parent().ok_or("a directory above")?;
    expect_eq!((mode(Path::new(source))?, mode(above)?, mode(&host.root().join("volumes"))?), (0o755, 0o701, 0o701));
    // Logs and configuration have rows of their own.
    host.ok(&["run", "--name", "wordy", "base:1", "echo", "0123456789"])?;
    let (logs, files) = (host.space_of("Logs")?, host.space_of("Configuration")?);
    expect!(logs["size_bytes"].as_u64() >= Some(11) && logs["reclaimable_bytes"] == logs["size_bytes"], "{logs}");
    expect!(logs["total"] == 2 && logs["active"] == 1 && files["size_bytes"].as_u64() > Some(4096), "{logs} {files}");
    expect_eq!(host.json(&["ps", "-a", "-s", "--filter", "name=wordy"])?[0]["size_rw_bytes"], 0);
    for (filter, found) in
        [("name=^wordy$", 1), ("name=^word$", 0), ("name=/wor.y", 1), ("exited=0", 1), ("exited=3", 0)]
    {
        expect_eq!(host.json(&["ps", "-a", "--filter", filter])?.as_array().map(Vec::len), Some(found), "{filter}");
    }
    host.fails(&["ps", "--filter", "name=("], "it is no regular expression")?;
    host.fails(&["ps", "--filter", "status=bogus"], "it is one of created, mounted, running, paused, exited")?;
    host.fails(&["ps", "--filter", "bogus=1"], "it is one of id, name")?;
    host.ok(&["rm", "-f", "-v", "limited", "wordy"])?;
    allowed::privileges(host)?;
    allowed::good_values_are_kept(host)?;
    bad_values_are_told(host)?;
    nothing_left(host, &[id])
}

/// Each option that `run` and `create` share, with a value that it cannot have: told by its name, and nothing is made.
fn bad_values_are_told(host: &Host) -> Outcome {
    let long = "a".repeat(64);
    for (option, value, words) in [
        ("--name", "k", "only [a-zA-Z0-9]"),
        ("--network", "bridge", "is not one of none, host"),
        ("--memory", "1M", "minimum memory limit"),
        ("--memory", "-1", "--memory"),
        ("--cpus", "0.001", "the fewest processors"),
        ("--cpus", "100000", "there are only"),
        ("--cpus", "1.x", "is not a number of processors"),
        ("--hostname", "a_b", "invalid hostname format"),
        ("--hostname", &long, "invalid hostname format"),
        ("--runtime", "runq", "is not one of crun, runc"),
        ("--stop-signal", "BOGUS", "invalid signal"),
        ("--stop-timeout", "-1", "--stop-timeout"),
        ("--storage-opt", "bogus=1", "is not size=SIZE"),
        ("--storage-opt", "size=1K", "the smallest is"),
        ("--tmpfs", "rel", "is not an absolute path"),
        ("--tmpfs", "/x:bogus", "invalid tmpfs option 'bogus'"),
        ("--tmpfs", "/x:size=many", "invalid tmpfs option"),
        ("--volume", "/a:/b:bogus", "the only options are ro, rw, nocopy"),
        ("--volume", "/a:/", "must be an absolute path"),
        ("--env", "=x", "invalid environment variable"),
        ("--env-file", "/does/not/exist", "read /does/not/exist"),
        ("--workdir", "rel", "needs to be an absolute path"),
        ("--cidfile", "/proc/nosuch/file", "make the container ID file"),
    ] {
        for (verb, code) in [("run", 125), ("create", 1)] {
            let said = host.run(&[verb, &format!("{option}={value}"), "base:1", "true"])?;
            let failed = said.code == Some(code) || verb == "create" && said.code == Some(2);
            expect!(failed && said.err.contains(words) && said.out.is_empty(), "{verb} {option}={value}: {said:?}");
        }
    }
    expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
    expect_eq!(host.ok(&["volume", "ls", "-q"])?, "");
    Ok(())
}
