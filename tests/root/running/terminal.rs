//! A real terminal: a pseudo-terminal of this test, with `lamina` on it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::Stdio,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

use super::{base, row};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

/// What was read of a terminal so far.
pub struct Screen {
    pub master: File,
    pub text: String,
}

impl Screen {
    /// Reads until `words` came; what comes behind them is kept.
    pub fn until(&mut self, words: &str) -> Outcome {
        let mut bytes = [0; 1024];
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        while !self.text.contains(words) {
            let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&patience))?;
            expect!(ready > 0, "no '{words}' in {:?}", self.text);
            let length =
                self.master.read(&mut bytes).map_err(|error| format!("no '{words}' in {:?}: {error}", self.text))?;
            self.text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        let end = self.text.find(words).map_or(0, |at| at + words.len());
        self.text.drain(..end);
        Ok(())
    }

    fn type_in(&mut self, text: &str) -> Outcome {
        Ok(self.master.write_all(text.as_bytes())?)
    }
}

pub fn a_terminal_is_one(host: &Host) -> Outcome {
    base(host)?;
    let pty = nix::pty::openpty(None, None)?;
    let (master, slave): (OwnedFd, OwnedFd) = (pty.master, pty.slave);
    let size = |rows, columns| Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size(33, 99))?;
    let before = format!("{:?}", tcgetattr(&slave)?);
    let mut command = host.command(&["run", "-it", "--name", "typed", "base:1", "sh"]);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    let mut child = command.spawn()?;
    let mut screen = Screen { master: File::from(master.try_clone()?), text: String::new() };
    screen.until("# ")?;
    screen.type_in("stty size; echo $TERM\n")?;
    screen.until("33 99\r\nxterm\r\n")?;
    // It is resized: the command is told, and tells the container.
    tcsetwinsize(&master, size(44, 111))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id())?), nix::sys::signal::Signal::SIGWINCH)?;
    screen.type_in("until [ \"$(stty size)\" = '44 111' ]; do sleep 0.05; done; echo now\"\"resized\n")?;
    screen.until("nowresized")?;
    // Ctrl-C is the container's, not the command's.
    screen.type_in("sh -c 'echo be\"\"gun; exec sleep 1000'\n")?;
    screen.until("begun\r\n")?;
    screen.type_in("\x03")?;
    screen.until("# ")?;
    screen.type_in("echo $?x\n")?;
    screen.until("130x")?;
    // Leave it; the terminal is as it was, and the container goes on.
    screen.type_in("\x10\x11")?;
    expect_eq!(child.wait()?.code(), Some(0));
    expect_eq!(format!("{:?}", tcgetattr(&slave)?), before);
    expect_eq!(row(host, "typed")?["state"], "running");
    // A signal is no key: the command ends with the terminal as it was, however many come, and the container goes on.
    let mut command = host.command(&["attach", "typed"]);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    let mut child = command.spawn()?;
    screen.type_in("echo he\"\"re\n")?;
    screen.until("here\r\n")?;
    expect!(format!("{:?}", tcgetattr(&slave)?) != before, "it is raw meanwhile");
    let command = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    for _ in 0..2 {
        // Until it is waited for, its number is its own.
        nix::sys::signal::kill(command, nix::sys::signal::Signal::SIGTERM)?;
    }
    expect_eq!(child.wait()?.code(), Some(143));
    expect_eq!(format!("{:?}", tcgetattr(&slave)?), before);
    expect_eq!(row(host, "typed")?["state"], "running");
    // Come back and end it.
    let mut command = host.command(&["attach", "typed"]);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    let mut child = command.spawn()?;
    screen.type_in("exit 6\n")?;
    expect_eq!(child.wait()?.code(), Some(6));
    host.ok(&["rm", "typed"])?;
    second(host, &mut screen, &slave)?;
    it_goes(host)?;
    // Without one it is told so, as Docker does.
    let said = host.command(&["run", "-it", "--rm", "base:1", "true"]).stdin(Stdio::null()).output()?;
    expect!(
        said.status.code() == Some(125)
            && String::from_utf8_lossy(&said.stderr).contains("the input device is not a TTY"),
        "{said:?}"
    );
    Ok(())
}

/// A terminal that goes takes its command along, and not the container.
fn it_goes(host: &Host) -> Outcome {
    let pty = nix::pty::openpty(None, None)?;
    // What the command has open itself does not go.
    rustix::io::fcntl_setfd(&pty.master, rustix::io::FdFlags::CLOEXEC)?;
    let command = host.command(&["run", "-it", "--name", "left", "base:1", "sh", "-c", "echo up; sleep 1000"]);
    let mut child = std::process::Command::new("setsid")
        .arg("--ctty")
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(pty.slave.try_clone()?)
        .stdout(pty.slave.try_clone()?)
        .stderr(pty.slave)
        .spawn()?;
    let mut screen = Screen { master: File::from(pty.master), text: String::new() };
    screen.until("up\r\n")?;
    drop(screen);
    expect_eq!(child.wait()?.code(), Some(128 + 1));
    expect_eq!(row(host, "left")?["state"], "running");
    host.ok(&["rm", "-f", "left"]).map(drop)
}

/// A second process on a terminal, which is left as the first one's is.
fn second(host: &Host, screen: &mut Screen, slave: &OwnedFd) -> Outcome {
    let before = format!("{:?}", tcgetattr(slave)?);
    host.ok(&["run", "-d", "--name", "other", "base:1", "sleep", "1000"])?;
    // runc tells its terminal the size a moment after the process has begun.
    let script = "until [ \"$(stty size 2>&1)\" = '44 111' ]; do sleep 0.05; done; [ -t 0 ] && echo sized";
    let mut command = host.command(&["exec", "-it", "other", "sh", "-c", script]);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    let mut child = command.spawn()?;
    screen.until("sized\r\n")?;
    expect_eq!(child.wait()?.code(), Some(0));
    // It is left as the container is, and goes on though nobody reads what it writes.
    let script = "echo be\"\"gun; until [ -e /srv/left ]; do sleep 0.05; done; n=0; \
                  while [ $n -lt 20000 ]; do echo more more more; n=$((n+1)); done; touch /srv/done";
    let mut command = host.command(&["exec", "-it", "--detach-keys", "ctrl-e,x", "other", "sh", "-c", script]);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    let mut child = command.spawn()?;
    screen.until("begun\r\n")?;
    screen.type_in("\x05x")?;
    expect_eq!(child.wait()?.code(), Some(0));
    expect_eq!(format!("{:?}", tcgetattr(slave)?), before);
    host.ok(&["exec", "other", "touch", "/srv/left"])?;
    super::soon("it goes on", || Ok(host.run(&["exec", "other", "stat", "/srv/done"])?.code == Some(0)))?;
    // With a terminal of its own where this process has none, as in a cron job.
    let said = host
        .command(&["exec", "-t", "other", "sh", "-c", "[ -t 1 ] && echo yes; exit 3"])
        .stdin(Stdio::null())
        .output()?;
    expect_eq!((said.status.code(), &*said.stdout), (Some(3), &b"yes\r\n"[..]));
    // What cannot be run is said once there, too, whoever says it.
    let said = host.run(&["exec", "-t", "other", "nosuch"])?;
    let told = format!("{}{}", said.out, said.err);
    expect_eq!((said.code, told.matches("not found in $PATH").count()), (Some(127), 1), "{told}");
    host.ok(&["rm", "-f", "other"]).map(drop)
}
