//! What others do to a container while it runs: restart it, copy into it, read its output and go.

use std::{
    fs,
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{followed, life::fails_with, row, soon};
use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

/// `restart` of a container that goes by itself keeps it, whoever looks meanwhile.
pub(super) fn restarted_and_goes_by_itself(host: &Host) -> Outcome {
    let script = "trap 'exit 3' TERM; echo ready; while true; do sleep 0.02; done";
    host.ok(&["run", "-d", "--rm", "--name", "auto", "base:1", "sh", "-c", script])?;
    host.ok(&["exec", "auto", "touch", "/kept"])?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Outcome {
        let looking = scope.spawn(|| -> Result<(), String> {
            while !done.load(Ordering::Relaxed) {
                host.ok(&["ps", "-a"]).map_err(|fault| fault.0)?;
            }
            Ok(())
        });
        let restarts = || -> Outcome {
            for round in 0..5 {
                followed(host, "auto", round + 1)?;
                host.ok(&["restart", "auto"])?;
                host.ok(&["exec", "auto", "stat", "/kept"])?;
            }
            Ok(())
        };
        let restarted = restarts();
        done.store(true, Ordering::Relaxed);
        let looked = looking.join().map_err(|_| "a thread panicked")?;
        restarted.and(looked.map_err(Into::into))
    })?;
    host.ok(&["stop", "auto"])?;
    soon("it goes in the end", || Ok(row(host, "auto").is_err()))
}

/// `prune` leaves a container to the command that has still to learn how it ended.
pub(super) fn pruned_before_its_end_is_known(host: &Host) -> Outcome {
    let script = "until [ -e /go ]; do sleep 0.02; done; exit 3";
    let run = host.spawn(&["run", "--name", "awaited", "base:1", "sh", "-c", script], Stdio::null())?;
    let pid = Pid::from_raw(i32::try_from(run.id())?);
    let pruned = || -> Outcome {
        soon("it runs", || Ok(row(host, "awaited").is_ok_and(|row| row["state"] == "running")))?;
        kill(pid, Signal::SIGSTOP)?;
        host.ok(&["exec", "awaited", "touch", "/go"])?;
        soon("it ends", || Ok(row(host, "awaited")?["state"] == "exited"))?;
        host.ok(&["container", "prune", "-f"]).map(drop)
    };
    let pruned = pruned();
    kill(pid, if pruned.is_ok() { Signal::SIGCONT } else { Signal::SIGKILL })?;
    let said = Said::from(run.wait_with_output()?);
    pruned?;
    expect_eq!(said.code, Some(3), "{said:?}");
    host.ok(&["rm", "awaited"]).map(drop)
}

/// A command that copies into a container when that stops: overlayfs gets no second mount of its upper directory.
pub(super) fn a_copy_outlives_the_run(host: &Host) -> Outcome {
    let id = host.ok(&["run", "-d", "--name", "copied", "base:1", "sleep", "1000"])?;
    let mut copy = host.spawn(&["cp", "-", "copied:/srv"], Stdio::piped())?;
    let mut archive = tar::Builder::new(copy.stdin.take().ok_or("a pipe")?);
    for name in ["first", "second"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, std::io::empty())?;
    }
    let note = host.root().join("containers").join(id).join("viewed");
    soon("it looks into the container", || {
        let Ok(note) = fs::File::open(&note) else { return Ok(false) };
        Ok(rustix::fs::flock(&note, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err())
    })?;
    host.ok(&["stop", "-t", "0", "copied"])?;
    if host.driver == lamina::driver::DriverKind::Overlay {
        for args in [
            &["mount", "copied"][..],
            &["start", "copied"],
            &["cp", "copied:/srv", &host.file("").display().to_string()],
        ] {
            fails_with(host, 1, args, "no two mounts of one upper directory")?;
        }
    }
    drop(archive.into_inner()?);
    expect_eq!(Said::from(copy.wait_with_output()?).code, Some(0));
    let target = host.mount("copied")?;
    expect!(target.join("srv/second").exists(), "all of it came");
    host.ok(&["umount", "copied"])?;
    host.ok(&["rm", "copied"]).map(drop)
}

/// A reader that has seen enough ends the command as the signal would, and the container goes on.
pub(super) fn no_reader(host: &Host) -> Outcome {
    let args = ["run", "--name", "unread", "base:1", "sh", "-c", "while true; do echo y; sleep 0.01; done"];
    let mut child = host.spawn(&args, Stdio::null())?;
    std::io::Read::read_exact(&mut child.stdout.take().ok_or("a pipe")?, &mut [0; 2])?;
    let said = Said::from(child.wait_with_output()?);
    expect!(said.code == Some(141) && said.err.contains("container unread any more; it goes on"), "{said:?}");
    expect_eq!(row(host, "unread")?["state"], "running");
    host.ok(&["rm", "-f", "unread"]).map(drop)
}

/// A file of the host that a container has is not taken from it by a copy to its place.
pub(super) fn bound_file(host: &Host) -> Outcome {
    let (bound, new) = (host.file("bound"), host.file("new"));
    fs::write(&bound, "the host's\n")?;
    fs::write(&new, "new\n")?;
    let bind = format!("{}:/cfg", bound.display());
    host.ok(&["run", "-d", "--name", "bound", "-v", &bind, "base:1", "sleep", "1000"])?;
    for place in ["/cfg", "/etc/hosts"] {
        fails_with(host, 1, &["cp", &new.display().to_string(), &format!("bound:{place}")], "device or resource busy")?;
    }
    expect_eq!(host.ok(&["exec", "bound", "cat", "/cfg"])?, "the host's");
    expect_eq!(host.ok(&["diff", "bound"])?, "");
    host.ok(&["rm", "-f", "bound"]).map(drop)
}

/// A signal to the command is one to the container, but for the third that asks for an end: the container does not hear
/// it and goes on. Nor is a killed command an end of it.
pub(super) fn signals_are_the_containers(host: &Host) -> Outcome {
    let script = "n=0; trap 'n=$((n+1)); echo got $n.' INT TERM; trap 'echo resized' WINCH; \
                  while true; do echo beat; sleep 0.05; done";
    let run = ["run", "--name", "front", "base:1", "sh", "-c", script];
    let rounds: [(&[&str], Signal, usize); 3] = [
        (&run, Signal::SIGINT, 0),
        (&["attach", "front"], Signal::SIGTERM, 2),
        (&["start", "-a", "front"], Signal::SIGINT, 4),
    ];
    let heard = |words: &str| soon(words, || Ok(host.run(&["logs", "front"])?.out.contains(words)));
    for (args, signal, before) in rounds {
        let mut child = host.spawn(args, Stdio::null())?;
        let command = Pid::from_raw(i32::try_from(child.id())?);
        let mut output = child.stdout.take().ok_or("a pipe")?;
        // Its output comes: from here on signals are the container's.
        output.read_exact(&mut [0])?;
        kill(command, Signal::SIGWINCH)?;
        heard("resized")?;
        for times in 1..=2 {
            kill(command, signal)?;
            heard(&format!("got {}.", before + times))?;
        }
        kill(command, signal)?;
        let said = Said::from(child.wait_with_output()?);
        expect!(
            said.code == Some(128 + signal as i32) && said.err.contains("container front goes on"),
            "{args:?}: {said:?}"
        );
        expect_eq!(row(host, "front")?["state"], "running");
    }
    expect!(!host.run(&["logs", "front"])?.out.contains("got 7."), "the third is not handed on");
    let mut child = host.spawn(&["attach", "front"], Stdio::null())?;
    child.kill()?;
    expect_eq!(child.wait()?.signal(), Some(9));
    expect_eq!(row(host, "front")?["state"], "running");
    host.ok(&["rm", "-f", "front"]).map(drop)
}

/// A signal to `exec` is one to its process.
pub(super) fn a_signal_to_exec(host: &Host, container: &str) -> Outcome {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut child = host.spawn(&["exec", container, "sh", "-c", "echo up; exec sleep 1000"], Stdio::null())?;
        child.stdout.take().ok_or("a pipe")?.read_exact(&mut [0])?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(128 + signal as i32), "{said:?}");
    }
    let processes = host.ok(&["top", container])?;
    expect!(!processes.contains("sleep 1000"), "it goes on: {processes}");
    Ok(())
}

/// A command that waits for the end of what it has asked to stop does so no longer than its user.
pub(super) fn a_stop_is_interrupted(host: &Host) -> Outcome {
    let script = "trap 'echo asked' TERM; echo up; while true; do sleep 0.05; done";
    host.ok(&["run", "-d", "--name", "slow", "base:1", "sh", "-c", script])?;
    followed(host, "slow", 1)?;
    let stop = host.spawn(&["stop", "-t", "1000", "slow", "slow"], Stdio::null())?;
    soon("it is asked", || Ok(host.run(&["logs", "slow"])?.out.contains("asked")))?;
    kill(Pid::from_raw(i32::try_from(stop.id())?), Signal::SIGINT)?;
    let said = Said::from(stop.wait_with_output()?);
    let told = "lamina: interrupted; container slow was asked to stop, and has not ended yet\nlamina: interrupted";
    expect!(said.code == Some(1) && said.err.starts_with(told) && !said.err.contains("failed"), "{said:?}");
    expect_eq!(row(host, "slow")?["state"], "running");
    host.ok(&["rm", "-f", "slow"]).map(drop)
}

/// `rm` and `restart` always work, also while others look into the container.
pub(super) fn removed_while_looked_into(host: &Host) -> Outcome {
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Outcome {
        let looking = [(); 2].map(|()| {
            scope.spawn(|| -> Result<(), String> {
                while !done.load(Ordering::Relaxed) {
                    // Whether it is there at that instant is chance.
                    host.run(&["exec", "looked-into", "true"]).map_err(|fault| fault.0)?;
                }
                Ok(())
            })
        });
        let removed = (0..8).try_for_each(|_| {
            host.ok(&["run", "-d", "--name", "looked-into", "base:1", "sleep", "1000"])?;
            host.ok(&["restart", "-t", "0", "looked-into"])?;
            host.ok(&["rm", "-f", "looked-into"]).map(drop)
        });
        done.store(true, Ordering::Relaxed);
        let looked =
            looking.into_iter().try_for_each(|looking| looking.join().map_err(|_| "a thread panicked".to_owned())?);
        removed.and(looked.map_err(Into::into))
    })
}
