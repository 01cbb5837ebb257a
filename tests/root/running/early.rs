//! What comes to a container before it has begun.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use lamina::{
    program::CONMON,
    runtime::{runs_in, runs_of},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    row, soon,
    trouble::{command_with, instead},
};
use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

const UNDONE: &str = "interrupted; what was begun is undone";

/// conmon, which waits to be let in.
struct Gate {
    fifo: PathBuf,
    programs: PathBuf,
}

impl Gate {
    fn new(host: &Host) -> Outcome<Self> {
        let fifo = host.file("gate");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        let script = format!("read go < {}; exec $REAL \"$@\"", fifo.display());
        let programs = instead(host, CONMON.name, &CONMON.find()?, &script)?;
        Ok(Self { fifo, programs })
    }

    /// A command that has come there, and what lets it in.
    fn reached_by(&self, host: &Host, args: &[&str]) -> Outcome<(Child, File)> {
        let mut command = command_with(host, &self.programs, args)?;
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut opened = None;
        soon("conmon is called", || {
            // There is no other side until it is.
            opened = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.fifo).ok();
            Ok(opened.is_some())
        })?;
        Ok((child, opened.ok_or("a fifo")?))
    }

    fn remove(self) -> Outcome {
        fs::remove_dir_all(self.programs)?;
        Ok(fs::remove_file(self.fifo)?)
    }
}

fn pid(child: &Child) -> Outcome<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

/// A signal that comes while a container is made is its command's: nothing begins, and what was made goes.
pub(super) fn a_signal(host: &Host) -> Outcome {
    let gate = Gate::new(host)?;
    let undone = |said: &Said| -> Outcome {
        expect!(said.code == Some(125) && said.err.contains(UNDONE) && !said.out.contains("begun"), "{said:?}");
        soon("nothing of it stays", || Ok(host.json(&["ps", "-a"])? == serde_json::json!([])))
    };
    for (options, signal) in [("-d", Signal::SIGTERM), ("-i", Signal::SIGINT), ("-i", Signal::SIGHUP)] {
        let (child, mut open) = gate.reached_by(host, &["run", "--rm", options, "base:1", "echo", "begun"])?;
        kill(pid(&child)?, signal)?;
        open.write_all(b"go\n")?;
        undone(&Said::from(child.wait_with_output()?))?;
    }
    // In the last instant: its process waits to begin.
    for options in ["-d", "-i"] {
        undone(&host.run_to("run-made@SIGTERM", &["run", "--rm", options, "base:1", "echo", "begun"])?)?;
    }
    gate.remove()
}

/// One that is to be stopped is stopped once it has begun.
pub(super) fn a_stop(host: &Host) -> Outcome {
    let gate = Gate::new(host)?;
    let (run, mut open) = gate.reached_by(host, &["run", "-d", "--name", "late", "base:1", "sleep", "1000"])?;
    soon("it is made", || Ok(row(host, "late").is_ok()))?;
    let stop = host.spawn(&["stop", "-t", "0", "late"], Stdio::null())?;
    soon("it waits for whoever starts it", || {
        // Of these locks no process is told, but nobody else waits for one of this file.
        let inode = fs::metadata(host.root().join("locks"))?.ino();
        let locks = fs::read_to_string("/proc/locks")?;
        Ok(locks.lines().any(|line| line.contains("-> OFDLCK") && line.contains(&format!(":{inode} "))))
    })?;
    open.write_all(b"go\n")?;
    expect_eq!(Said::from(run.wait_with_output()?).code, Some(0));
    let said = Said::from(stop.wait_with_output()?);
    expect!(said.code == Some(0) && said.out == "late\n", "{said:?}");
    expect_eq!(row(host, "late")?["state"], "exited");
    host.ok(&["rm", "late"])?;
    gate.remove()
}

/// What is made before a container has a row is nobody's only when its maker is dead.
pub(super) fn before_it_has_a_row(host: &Host) -> Outcome {
    for signal in [Signal::SIGCONT, Signal::SIGKILL] {
        let mut run = host.command(&["run", "-d", "--name", "early", "base:1", "sleep", "1000"]);
        let run =
            run.env("LAMINA_CRASH_AT", "run-called@SIGSTOP").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stopped = pid(&run)?;
        let looked = while_it_is_made(host, stopped);
        kill(stopped, if looked.is_ok() { signal } else { Signal::SIGKILL })?;
        let said = Said::from(run.wait_with_output()?);
        looked?;
        if signal == Signal::SIGCONT {
            expect_eq!((said.code, row(host, "early")?["state"].as_str()), (Some(0), Some("running")), "{said:?}");
            host.ok(&["rm", "-f", "early"])?;
        } else {
            expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
        }
        expect_eq!(directories(host)?, (0, 0), "when it is gone");
    }
    Ok(())
}

fn while_it_is_made(host: &Host, maker: Pid) -> Outcome {
    soon("it stops", || Ok(fs::read_to_string(format!("/proc/{maker}/status"))?.contains("State:\tT")))?;
    host.ok(&["create", "--name", "other", "base:1", "true"])?;
    host.ok(&["rm", "other"])?;
    host.check()?;
    expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
    host.fails(&["pool", "destroy", "--yes"], "another command is at work")?;
    expect_eq!(directories(host)?, (1, 1), "while its maker lives");
    Ok(())
}

/// How many there are of containers, on disk and on /run.
fn directories(host: &Host) -> Outcome<(usize, usize)> {
    let homes = fs::read_dir(host.root().join("containers"))?.count();
    Ok((homes, runs_in(&runs_of(&host.root().canonicalize()?))?.len()))
}

/// conmon that hangs is ended with the command, which takes its time: it might be about to begin.
pub(super) fn a_hung_supervisor(host: &Host) -> Outcome {
    let file = host.file("hangs");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", file.display());
    let programs = instead(host, CONMON.name, &CONMON.find()?, &script)?;
    let mut run: Command = command_with(host, &programs, &["run", "-d", "--rm", "base:1", "true"])?;
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    soon("conmon hangs", || Ok(file.exists()))?;
    let hung = Pid::from_raw(fs::read_to_string(&file)?.trim().parse()?);
    kill(pid(&run)?, Signal::SIGINT)?;
    let said = Said::from(run.wait_with_output()?);
    expect!(said.code == Some(125) && said.err.contains(UNDONE), "{said:?}");
    expect_eq!(kill(hung, None), Err(nix::errno::Errno::ESRCH));
    expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
    fs::remove_file(file)?;
    Ok(fs::remove_dir_all(programs)?)
}
