//! Containers run, looked into, stopped, copied while they write, and removed.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{base, beside, early, followed, lines_of, nothing_left, row, soon};
use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

/// Prints a line of each kind for ever.
const TALKER: &str = "i=0; while true; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.05; done";

pub(super) fn fails_with(host: &Host, code: i32, args: &[&str], words: &str) -> Outcome {
    let said = host.run(args)?;
    expect!(
        said.code == Some(code) && said.err.contains(words),
        "{args:?} should end with {code}, '{words}': {said:?}"
    );
    Ok(())
}

pub fn what_the_command_says_is_what_one_gets(host: &Host) -> Outcome {
    base(host)?;
    let said = host.run(&["run", "--rm", "base:1", "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    expect_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(7), "out\n", "err\n"));
    let (ids, file) = (RefCell::new(Vec::new()), host.file("id"));
    let sh = |options: &[&str], script: &str| -> Outcome<String> {
        let run = ["run", "--rm", "--cidfile", &file.to_string_lossy()];
        let said = host.ok(&[&run, options, &["base:1", "sh", "-c", script]].concat());
        ids.borrow_mut().push(fs::read_to_string(&file)?);
        fs::remove_file(&file)?;
        said
    };
    expect_eq!(sh(&["-u", "www"], "id -u; id -g; echo $HOME")?, "33\n34\n/srv");
    expect_eq!(
        sh(&["-u", "7:8", "-w", "/srv"], "id -u; id -G; grep Groups: /proc/self/status; pwd")?,
        "7\n8\nGroups:\t8 \n/srv"
    );
    as_the_caller(host)?;
    expect_eq!(
        sh(
            &["-e", "A=1", "-e", "B=x y", "-h", "named", "--memory", "0", "--cpus", "0"],
            "echo $A $B; hostname; cat /etc/hostname"
        )?,
        "1 x y\nnamed\nnamed"
    );
    // Its first process, in namespaces of its own, with nothing but a loopback device, and no way out by system calls.
    expect_eq!(sh(&[], "echo $$; cat /proc/net/dev | tail -n +3 | while read n r; do echo $n; done")?, "1\nlo:");
    let all = sh(&["--network", "host"], "cat /proc/net/dev")?;
    expect_eq!(all.lines().count(), fs::read_to_string("/proc/net/dev")?.lines().count());
    expect!(sh(&[], "mount -t tmpfs x /srv 2>&1 || true")?.contains("permission denied"), "a mount must be refused");
    expect_eq!(sh(&[], "grep Seccomp: /proc/self/status")?, "Seccomp:\t2");
    for path in ["/srv/x", "/etc/hosts"] {
        fails_with(host, 1, &["run", "--rm", "--read-only", "base:1", "touch", path], "Read-only file system")?;
    }
    let shared = host.file("shared");
    fs::create_dir_all(&shared)?;
    let bind = format!("{}:/data", shared.display());
    expect_eq!(
        sh(&["-v", &bind, "--tmpfs", "/scratch:size=1m"], "echo hi > /data/f; stat -f -c %T /scratch")?,
        "tmpfs"
    );
    expect_eq!(fs::read(shared.join("f"))?, b"hi\n");
    fails_with(
        host,
        1,
        &["run", "--rm", "-v", &format!("{bind}:ro"), "base:1", "touch", "/data/g"],
        "Read-only file system",
    )?;
    // Standard input, and its end; more of it than fits anywhere on the way, while as much comes back.
    let sent = (0..1_000_000).map(|line| format!("{line}\n")).collect::<String>();
    let mut child = host.spawn(&["run", "--rm", "-i", "base:1", "cat"], Stdio::piped())?;
    let mut stdin = child.stdin.take().ok_or("a pipe")?;
    let (wrote, said) = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let wrote = std::io::Write::write_all(&mut stdin, sent.as_bytes());
            drop(stdin);
            wrote
        });
        let said = child.wait_with_output();
        (writing.join(), said)
    });
    wrote.map_err(|_| "a thread panicked")??;
    let said = Said::from(said?);
    expect!(said.code == Some(0) && said.out == sent, "{:?}, {} of {} bytes", said.code, said.out.len(), sent.len());
    more_memory_than_allowed(host)?;
    refused(host)?;
    nothing_left(host, &ids.into_inner())
}

/// The kernel kills it.
fn more_memory_than_allowed(host: &Host) -> Outcome {
    host.ok(&[
        "create",
        "--name",
        "greedy",
        "--memory",
        "16M",
        "base:1",
        "sh",
        "-c",
        "x=$(dd if=/dev/zero bs=1M count=64 | tail -c 64000000)",
    ])?;
    let greedy = host.run(&["start", "-a", "greedy"])?;
    expect!(greedy.code != Some(0), "it must not fit: {greedy:?}");
    expect_eq!(host.json(&["inspect", "greedy"])?[0]["State"]["OOMKilled"], true);
    host.ok(&["rm", "greedy"]).map(drop)
}

/// Its own arguments reach the entrypoint; the caller's limit of open files is the container's; its umask keeps no user of the container from its files.
fn as_the_caller(host: &Host) -> Outcome {
    let most = Command::new("sh").args(["-c", "ulimit -Hn"]).output()?;
    expect_eq!(host.ok(&["run", "--rm", "--entrypoint", "echo", "base:1", "a", "-n"])?, "a -n");
    let seen = host.ok(&["run", "--rm", "base:1", "sh", "-c", "ulimit -Hn"])?;
    expect_eq!(seen.as_bytes(), most.stdout.trim_ascii());
    let script = "cat /etc/hosts /etc/resolv.conf > /dev/null && stat -c %a /made /made/below /etc/hosts";
    let run = host.command(&["run", "--rm", "-u", "www", "-v", "/made/below", "base:1", "sh", "-c", script]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    let said = Said::from(command.output()?);
    // crun makes what is missing above a mount point with the sticky bit.
    let modes = ["755\n755\n644\n", "1755\n755\n644\n"];
    expect!(said.code == Some(0) && modes.contains(&&*said.out), "{said:?}");
    Ok(())
}

/// What cannot be run, with Docker's exit codes; nothing stays of it.
fn refused(host: &Host) -> Outcome {
    for (code, args, words) in [
        (125, &["run", "--bogus", "base:1"][..], "bogus"),
        (125, &["run", "--memory", "1x", "base:1", "true"], "--memory"),
        (125, &["run", "--cpus=-1", "base:1", "true"], "--cpus"),
        (125, &["run", "-v", "rel:rel", "base:1", "true"], "absolute path"),
        (125, &["run", "nosuch:1", "true"], "no such image"),
        (125, &["run", "base:1"], "no command specified"),
        (125, &["run", "--rm", "-u", "nobody", "base:1", "true"], "no user 'nobody'"),
        (127, &["run", "--rm", "base:1", "nosuch"], "not found in $PATH"),
        (126, &["run", "--rm", "base:1", "/notrun"], "ermission denied"),
        (126, &["run", "--rm", "base:1", "/etc"], "OCI runtime: "),
    ] {
        fails_with(host, code, args, words)?;
    }
    // "Created" it stays without --rm, as Docker's.
    fails_with(host, 127, &["run", "--name", "failed", "base:1", "nosuch"], "not found in $PATH")?;
    expect_eq!(row(host, "failed")?["status"], "Created");
    host.ok(&["rm", "failed"])?;
    expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
    Ok(())
}

pub fn a_detached_one_is_looked_into(host: &Host) -> Outcome {
    base(host)?;
    let id = host.ok(&["run", "-d", "--name", "talker", "-e", "OF=image", "base:1", "sh", "-c", TALKER])?;
    let lines = followed(host, "talker", 3)?;
    expect_eq!(lines[..3], ["out 1", "out 2", "out 3"]);
    expect_eq!(
        host.ok(&["exec", "-e", "TERM=x", "talker", "sh", "-c", "echo $HOSTNAME $TERM"])?,
        format!("{} x", &id[..12])
    );
    beside::no_reader(host)?;
    beside::bound_file(host)?;
    let said = host.run(&["logs", "-t", "--tail", "4", "talker"])?;
    for line in said.out.lines().chain(said.err.lines()) {
        let (time, text) = line.split_once(' ').ok_or("a time")?;
        expect!(
            time.len() == 30 && time.ends_with('Z') && (text.starts_with("out") || text.starts_with("err")),
            "{line}"
        );
    }
    expect_eq!(said.out.lines().count() + said.err.lines().count(), 4);
    expect!(host.run(&["logs", "talker"])?.err.starts_with("err 1\nerr 2\n"), "standard error is told from output");
    expect_eq!(
        host.ok(&["exec", "-e", "MY=1", "-w", "/srv", "-u", "www", "talker", "sh", "-c", "echo $OF $MY; pwd; id -u"])?,
        "image 1\n/srv\n33"
    );
    fails_with(host, 5, &["exec", "talker", "sh", "-c", "exit 5"], "")?;
    fails_with(host, 127, &["exec", "talker", "nosuch"], "not found in $PATH")?;
    let told = host.run(&["exec", "talker", "nosuch"])?.err;
    expect_eq!(told.matches("not found in $PATH").count(), 1, "once: {told}");
    fails_with(host, 126, &["exec", "talker", "/notrun"], "ermission denied")?;
    host.ok(&["exec", "-d", "talker", "touch", "/made"])?;
    soon("what goes on by itself", || Ok(host.run(&["exec", "talker", "stat", "/made"])?.code == Some(0)))?;
    let top = host.ok(&["top", "talker"])?;
    expect!(top.starts_with("UID") && top.contains(TALKER), "{top}");
    expect_eq!(row(host, "talker")?["state"], "running");
    let inspected = &host.json(&["inspect", "talker"])?[0];
    expect_eq!(inspected["State"]["Running"], true);
    expect_eq!(inspected["Config"]["Cmd"][2], TALKER);
    fails_with(host, 1, &["rm", "talker"], "you cannot remove a running container")?;
    fails_with(host, 1, &["mount", "talker"], "it runs")?;
    fails_with(host, 125, &["run", "--name", "talker", "base:1", "true"], "is in use by container")?;
    fails_with(host, 1, &["pool", "down"], "run")?;
    host.ok(&["rm", "-f", "talker"])?;
    fails_with(host, 1, &["logs", "talker"], "no such container")?;
    nothing_left(host, &[id])
}

pub fn it_stops_as_it_is_told(host: &Host) -> Outcome {
    base(host)?;
    let id = host.ok(&[
        "run",
        "-d",
        "--name",
        "polite",
        "base:1",
        "sh",
        "-c",
        "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.05; done",
    ])?;
    followed(host, "polite", 1)?;
    host.ok(&["pause", "polite"])?;
    expect!(row(host, "polite")?["status"].as_str().is_some_and(|text| text.ends_with("(Paused)")), "it is paused");
    fails_with(host, 1, &["exec", "polite", "true"], "is paused")?;
    fails_with(host, 1, &["start", "polite"], "cannot start a paused container")?;
    fails_with(host, 1, &["pause", "polite"], "already paused")?;
    host.ok(&["unpause", "polite"])?;
    let waiting = host.spawn(&["wait", "polite"], Stdio::null())?;
    let mut following = host.spawn(&["logs", "-f", "polite"], Stdio::null())?;
    expect_eq!(lines_of(&mut following, 1)?, ["ready"]);
    host.ok(&["stop", "polite"])?;
    expect_eq!(lines_of(&mut following, 1)?, ["bye"], "a follower has its last words");
    soon("a follower ends with it", || Ok(following.try_wait()?.is_some()))?;
    expect_eq!(Said::from(following.wait_with_output()?).code, Some(0));
    expect_eq!(Said::from(waiting.wait_with_output()?).out, "3\n");
    expect!(host.ok(&["logs", "polite"])?.ends_with("bye"), "its last words are kept");
    let status = row(host, "polite")?["status"].as_str().unwrap_or_default().to_owned();
    expect!(status.starts_with("Exited (3) ") && status.ends_with(" ago"), "{status}");
    fails_with(host, 1, &["exec", "polite", "true"], "is not running")?;
    fails_with(host, 1, &["kill", "polite"], "is not running")?;
    // Once more, and what it wrote before is there still; then it does not listen.
    host.ok(&["restart", "polite"])?;
    followed(host, "polite", 3)?;
    host.ok(&["kill", "-s", "KILL", "polite"])?;
    host.ok(&["rm", "polite"])?;
    early::a_signal(host)?;
    early::a_stop(host)?;
    early::before_it_has_a_row(host)?;
    if host.driver == lamina::driver::DriverKind::Overlay {
        // The same on all.
        early::a_hung_supervisor(host)?;
    }
    beside::restarted_and_goes_by_itself(host)?;
    beside::a_copy_outlives_the_run(host)?;
    beside::pruned_before_its_end_is_known(host)?;
    host.ok(&[
        "run",
        "-d",
        "--name",
        "deaf",
        "base:1",
        "sh",
        "-c",
        "trap '' TERM; echo ready; while true; do sleep 0.05; done",
    ])?;
    followed(host, "deaf", 1)?;
    beside::a_signal_to_exec(host, "deaf")?;
    beside::a_stop_is_interrupted(host)?;
    beside::removed_while_looked_into(host)?;
    host.ok(&["stop", "-t", "0", "deaf"])?;
    expect_eq!(row(host, "deaf")?["exit_code"], 137);
    host.ok(&["rm", "deaf"])?;
    beside::signals_are_the_containers(host)?;
    // One that goes by itself, watched or not.
    host.ok(&["run", "-d", "--rm", "--name", "brief", "base:1", "true"])?;
    soon("it goes by itself", || Ok(host.json(&["ps", "-a"])? == serde_json::json!([])))?;
    soon("nothing stays", || Ok(nothing_left(host, std::slice::from_ref(&id)).is_ok()))?;
    soon("its supervisor has done its work", || Ok(host.run(&["pool", "down"])?.code == Some(0)))
}

pub fn changes_are_seen_while_it_writes(host: &Host) -> Outcome {
    base(host)?;
    // One file of constant size and time, whose content goes on.
    let script = "mkdir /d; i=100; while true; do i=$((i+1)); echo $i | dd of=/d/n conv=notrunc 2>/dev/null; \
                  touch -d 2024-01-01 /d/n; [ $i = 101 ] && echo ready; sleep 0.01; done";
    host.ok(&["run", "-d", "--name", "writer", "base:1", "sh", "-c", script])?;
    followed(host, "writer", 1)?;
    expect_eq!(host.ok(&["diff", "writer"])?, "A /d\nA /d/n");
    let mut seen = Vec::new();
    for tag in ["live:1", "live:2"] {
        let said = host.run(&["-v", "commit", "writer", tag])?;
        expect!(said.code == Some(0) && said.err.contains("could not write for"), "{said:?}");
        let read = ["run", "--rm", tag, "cat", "/d/n"];
        seen.push(host.ok(&read)?.parse::<u32>()?);
    }
    expect!(seen[0] > 100 && seen[1] > seen[0], "each commit has its own instant: {seen:?}");
    // No mount point of a runtime is in the image: in its tree as little as in its layer.
    let id = host.ok(&["create", "live:2"])?;
    let tree = host.mount(&id)?;
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(&tree)?.chain(fs::read_dir(tree.join("etc"))?) {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    expect_eq!(names, ["bin", "d", "etc", "group", "notrun", "passwd", "srv"]);
    host.ok(&["umount", &id])?;
    // What the container put into such a place is its own.
    host.ok(&["exec", "writer", "sh", "-c", "echo x > /etc/mine"])?;
    expect_eq!(host.ok(&["diff", "writer"])?, "A /d\nA /d/n\nC /etc\nA /etc/mine");
    host.ok(&["stop", "-t", "0", "writer"])?;
    expect_eq!(host.ok(&["diff", "writer"])?, "A /d\nA /d/n\nC /etc\nA /etc/mine");
    host.ok(&["rm", "writer", &id])?;
    a_commit_shares_what_did_not_change(host)
}

/// Also where the runtime has made mount points that the image lacks.
fn a_commit_shares_what_did_not_change(host: &Host) -> Outcome {
    let write = |name: &str, image: &str, options: &[&str]| -> Outcome {
        host.ok(&[&["run", "--name", name, image, "dd", "if=/dev/zero", "of=/big"], options].concat())?;
        host.ok(&["commit", name, &format!("{name}:1")])?;
        host.ok(&["rm", name]).map(drop)
    };
    write("whole", "base:1", &["bs=1M", "count=16"])?;
    write("part", "whole:1", &["bs=4k", "count=1", "conv=notrunc"])?;
    // Nor does a hole become zeros on its way out.
    host.ok(&[
        "run",
        "--name",
        "holes",
        "base:1",
        "dd",
        "if=/dev/zero",
        "of=/holes",
        "bs=1",
        "count=1",
        "seek=67108864",
    ])?;
    let copy = host.file("holes");
    host.ok(&["cp", "holes:/holes", &copy.to_string_lossy()])?;
    let (length, blocks) = (fs::metadata(&copy)?.len(), fs::metadata(&copy)?.blocks());
    expect!(length == (64 << 20) + 1 && blocks < 2048, "{length} bytes in {blocks} blocks");
    if !host.driver.has_device() {
        return Ok(());
    }
    let images = host.json(&["images"])?;
    let part = images.as_array().into_iter().flatten().find(|image| image["repository"] == "part");
    let own = part.and_then(|image| image["own_bytes"].as_u64()).ok_or_else(|| format!("{images}"))?;
    expect!(own < 4 << 20, "an image with 4 KiB changed in 16 MiB has {own} bytes of its own");
    Ok(())
}

pub fn after_a_reboot_the_truth_is_told(host: &Host) -> Outcome {
    base(host)?;
    let runs = || Ok::<_, crate::pool::Fault>(lamina::runtime::runs_of(&host.root().canonicalize()?));
    let mut ids = Vec::new();
    for name in ["lost", "kept", "auto"] {
        let rm: &[&str] = if name == "auto" { &["--rm"] } else { &[] };
        ids.push(host.ok(&[&["run", "-d", "--name", name], rm, &["base:1", "sleep", "1000"]].concat())?);
    }
    host.ok(&["create", "--name", "never", "base:1", "true"])?;
    // The supervisors first, so that no end is noted: as at a loss of power. Then all that /run and the kernel had.
    for id in &ids {
        for file in ["conmon.pid", "init.pid"] {
            let process: i32 = fs::read_to_string(runs()?.join(id).join(file))?.trim().parse()?;
            kill(Pid::from_raw(process), Signal::SIGKILL)?;
        }
    }
    fs::remove_dir_all(runs()?)?;
    soon("the processes end", || {
        Ok(ids.iter().all(|id| lamina::runtime::Cgroup::new(id).processes().is_ok_and(|left| left.is_empty())))
    })?;
    host.ok(&["pool", "down"])?;
    host.ok(&["ps"])?;
    for (name, state, status) in
        [("lost", "exited", "Exited (255)"), ("kept", "exited", "Exited (255)"), ("never", "created", "Created")]
    {
        let row = row(host, name)?;
        expect_eq!((row["state"].as_str(), row["status"].as_str()), (Some(state), Some(status)), "{name}");
    }
    expect!(row(host, "auto").is_err(), "what goes by itself has gone");
    // A number of a process that is another's by now deceives nobody.
    let run = runs()?.join(&ids[0]);
    fs::create_dir_all(&run)?;
    for file in ["conmon.pid", "init.pid"] {
        fs::write(run.join(file), std::process::id().to_string())?;
    }
    expect_eq!(row(host, "lost")?["state"], "exited");
    host.ok(&["start", "kept"])?;
    expect_eq!(row(host, "kept")?["state"], "running");
    // Busy elsewhere: a mount namespace of somebody else keeps the tree. It goes all the same.
    let init = host.json(&["inspect", "kept"])?[0]["State"]["Pid"].as_i64().ok_or("a process")?;
    let holder = Command::new("nsenter")
        .args(["--target", &init.to_string(), "--mount", "/bin/busybox", "unshare", "-m", "/bin/sleep", "1000"])
        .stdin(Stdio::null())
        .spawn();
    let mut holder = holder?;
    host.ok(&["rm", "-f", "kept"])?;
    expect!(row(host, "kept").is_err(), "it is gone for the user");
    holder.kill()?;
    holder.wait()?;
    host.ok(&["rm", "lost", "never"])?;
    host.check()?;
    nothing_left(host, &ids)
}
