//! A program on a terminal of its own, which this process's input and output are handed through to.
//!
//! It is neither in this process's group nor on its terminal, so that it can go on when the user leaves; then what it
//! writes is read by somebody else and thrown away, lest it waits for ever.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process},
    termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use signal_hook::consts::SIGWINCH;

use super::{
    detach::{DetachKeys, Keys, Typed},
    terminal::RawTerminal,
};
use crate::{
    error::{Act as _, Result},
    interrupt::HandedOn,
};

/// How the session with the program ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It has ended.
    Exited(ExitStatus),
    /// The user left; it goes on.
    Left,
    /// A signal came to this process; it goes on.
    Signalled(i32),
}

/// Its terminal, from outside.
struct Pty {
    master: File,
    child: Child,
    signals: HandedOn,
    keys: DetachKeys,
    /// What was typed and not taken yet.
    waiting: Vec<u8>,
    /// Whether there is more to read from standard input.
    reads: bool,
}

/// Runs `program` to its end or until the user leaves by `keys`; with `stdin` what is typed here goes to it.
///
/// # Errors
/// The system's.
pub(super) fn run(mut program: Command, stdin: bool, keys: Keys) -> Result<Ended> {
    let signals = HandedOn::begin([SIGWINCH])?;
    let (master, slave) = open()?;
    let again = || slave.try_clone().act(|| "share a terminal");
    program.stdin(again()?).stdout(again()?).stderr(again()?).process_group(0);
    let child = program.spawn().act(|| format!("run {}", program.get_program().display()))?;
    // Once nobody has its end any more, reading the other tells so.
    drop((program, slave));
    let _raw = if stdin { RawTerminal::enter()? } else { None };
    let mut pty = Pty { master, child, signals, keys: DetachKeys::new(keys), waiting: Vec::new(), reads: stdin };
    let signal = match pty.hand_through()? {
        Some(left) => left,
        None => return pty.child.wait().act(|| "wait for the OCI runtime").map(Ended::Exited),
    };
    pty.leave()?;
    Ok(signal.map_or(Ended::Left, Ended::Signalled))
}

/// A new terminal that hands everything through as it is: what it means is up to the one behind it.
fn open() -> Result<(File, OwnedFd)> {
    let act = || "make a terminal";
    let pty = nix::pty::openpty(None, None).act(act)?;
    for end in [&pty.master, &pty.slave] {
        fcntl_setfd(end, FdFlags::CLOEXEC).act(act)?;
    }
    let mut raw = tcgetattr(&pty.slave).act(act)?;
    raw.make_raw();
    tcsetattr(&pty.slave, OptionalActions::Now, &raw).act(act)?;
    if let Ok(size) = tcgetwinsize(io::stdout().as_fd()) {
        tcsetwinsize(&pty.slave, size).act(act)?;
    }
    Ok((File::from(pty.master), pty.slave))
}

impl Pty {
    /// Until the program has ended; or the user has left, with the signal that it was.
    fn hand_through(&mut self) -> Result<Option<Option<i32>>> {
        loop {
            let (output, room, typed) = self.wait()?;
            for signal in self.signals.pending().collect::<Vec<_>>() {
                match signal {
                    SIGWINCH => self.resize()?,
                    signal => return Ok(Some(Some(signal))),
                }
            }
            if output && !self.show()? {
                return Ok(None);
            }
            if room {
                let taken = self.master.write(&self.waiting).act(|| "hand input to the terminal")?;
                self.waiting.drain(..taken);
            }
            if typed && self.take()? {
                return Ok(Some(None));
            }
        }
    }

    /// Waits for output, for room for input that waits, for input, or for a signal.
    fn wait(&self) -> Result<(bool, bool, bool)> {
        let stdin = io::stdin();
        let waits = !self.waiting.is_empty();
        let wanted = if waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut ready =
            vec![PollFd::new(&self.master, wanted), PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN)];
        if !waits && self.reads {
            ready.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).act(|| "wait for input and output"),
        }
        let happened = |at: usize| ready.get(at).map_or(PollFlags::empty(), PollFd::revents);
        let master = happened(0);
        Ok((!master.difference(PollFlags::OUT).is_empty(), master.contains(PollFlags::OUT), !happened(2).is_empty()))
    }

    /// Shows what came; tells whether there may be more.
    fn show(&mut self) -> Result<bool> {
        let mut buffer = [0; 8192];
        match self.master.read(&mut buffer) {
            Ok(0) => Ok(false),
            // Nobody has the other end any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            read => {
                let mut out = io::stdout().lock();
                let bytes = &buffer[..read.act(|| "read the terminal")?];
                out.write_all(bytes).and_then(|()| out.flush()).act(|| "write its output").map(|()| true)
            }
        }
    }

    /// Takes what was typed; tells whether it is the wish to leave.
    fn take(&mut self) -> Result<bool> {
        let mut buffer = [0; 8192];
        let length = match rustix::io::read(io::stdin().as_fd(), &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(false),
            // A terminal that is gone.
            Err(Errno::IO) => 0,
            length => length.act(|| "read standard input")?,
        };
        self.reads = length > 0;
        Ok(match self.keys.typed(&buffer[..length]) {
            Typed::Leave(before) => {
                self.master.write_all(&before).act(|| "hand input to the terminal")?;
                true
            }
            Typed::On(bytes) => {
                self.waiting.extend(bytes);
                false
            }
        })
    }

    fn resize(&self) -> Result<()> {
        let Ok(size) = tcgetwinsize(io::stdout().as_fd()) else { return Ok(()) };
        tcsetwinsize(&self.master, size).act(|| "set the terminal's size")?;
        // It is not the terminal's session that runs on it, so the kernel tells nobody.
        match kill_process(Pid::from_child(&self.child), Signal::WINCH) {
            Err(Errno::SRCH) => Ok(()),
            told => told.act(|| "tell the OCI runtime the terminal's size"),
        }
    }

    /// Leaves the program to itself.
    fn leave(self) -> Result<()> {
        let mut reader = Command::new("cat");
        reader.stdin(self.master).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        reader.spawn().map(drop).act(|| "run cat, which reads what the process writes from now on")
    }
}
