//! A session with a container's input and output, through its supervisor's socket.
//!
//! The supervisor speaks packets: from it each begins with a byte that tells the stream, to it they are bare input
//! (conmon, `src/conn_sock.c`). The end of this side's input is a half-closed socket.

use std::{
    io::{self, Write},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
        shutdown, socket_with,
    },
    termios::{Winsize, tcgetwinsize},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

use super::{
    detach::{DetachKeys, Typed},
    run_directory::{Process, RunDirectory},
    terminal::RawTerminal,
};
use crate::error::{Act as _, Result};

/// The streams (conmon, `src/utils.h`).
const STDERR: u8 = 3;

/// The most that the supervisor sends or takes at once.
const PACKET: usize = 8192;

/// Signals that go on to the container.
const FORWARDED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// What a session does besides showing output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Hand standard input on.
    pub stdin: bool,
    /// The container has a terminal, whose place this one takes.
    pub terminal: bool,
    /// Hand signals on.
    pub signals: bool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The container ended, or its supervisor did.
    Closed,
    /// The user left with ctrl-p ctrl-q; the container goes on.
    Detached,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Session {
    run: RunDirectory,
    socket: OwnedFd,
    wishes: Wishes,
}

type Signals = SignalDelivery<std::os::unix::net::UnixStream, SignalOnly>;

impl Session {
    /// Connects; what the container writes from now on is kept for this session.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(run: &RunDirectory, wishes: Wishes) -> Result<Self> {
        let path = run.attach_socket();
        let act = || format!("attach to {}", path.display());
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).act(act)?;
        let address = SocketAddrUnix::new(&path).act(act)?;
        connect(&socket, &address).act(act)?;
        Ok(Self { run: run.clone(), socket, wishes })
    }

    /// Tells the container's terminal the size of this one.
    ///
    /// # Errors
    /// The system's.
    pub fn send_size(&self) -> Result<()> {
        let output = io::stdout();
        let Ok(Winsize { ws_row, ws_col, .. }) = tcgetwinsize(output.as_fd()) else { return Ok(()) };
        let path = self.run.control();
        let act = || format!("write {}", path.display());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            // The container has ended.
            Err(Errno::NXIO | Errno::NOENT) => Ok(()),
            // Window resizing is message 1 (conmon, `src/ctrl.c`).
            fifo => rustix::io::write(fifo.act(act)?, format!("1 {ws_row} {ws_col}\n").as_bytes()).act(act).map(drop),
        }
    }

    /// Hands input, output and signals through until the container ends or the user leaves.
    ///
    /// # Errors
    /// The system's; the container goes on.
    pub fn run(&self) -> Result<End> {
        let _raw = if self.wishes.terminal { RawTerminal::enter()? } else { None };
        let mut signals = self.signals()?;
        let stdin = io::stdin();
        let mut input = self.wishes.stdin.then(|| stdin.as_fd());
        let mut keys = DetachKeys::default();
        let init = self.run.init()?;
        loop {
            let mut ready = vec![
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(signals.get_read().as_fd(), PollFlags::IN),
            ];
            ready.extend(input.map(|input| PollFd::from_borrowed_fd(input, PollFlags::IN)));
            match poll(&mut ready, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).act(|| "wait for input and output"),
            }
            let is_ready = |at: usize| ready.get(at).is_some_and(|fd| !fd.revents().is_empty());
            let (output, typed) = (is_ready(0), is_ready(2));
            drop(ready);
            self.hand_on(&mut signals, init.as_ref())?;
            if typed && let Some(from) = input {
                match self.hand_in(from, &mut keys)? {
                    Fed::More => {}
                    Fed::End => input = None,
                    Fed::Leave => return Ok(End::Detached),
                }
            }
            if output && !self.hand_out()? {
                return Ok(End::Closed);
            }
        }
    }

    fn signals(&self) -> Result<Signals> {
        let act = || "catch signals for the container";
        let (read, write) = std::os::unix::net::UnixStream::pair().act(act)?;
        read.set_nonblocking(true).act(act)?;
        write.set_nonblocking(true).act(act)?;
        let forwarded = FORWARDED.into_iter().filter(|_| self.wishes.signals);
        let resized = self.wishes.terminal.then_some(SIGWINCH);
        SignalDelivery::with_pipe(read, write, SignalOnly, forwarded.chain(resized)).act(act)
    }

    fn hand_on(&self, signals: &mut Signals, init: Option<&Process>) -> Result<()> {
        for signal in signals.pending() {
            match (signal, init) {
                (SIGWINCH, _) => self.send_size()?,
                (signal, Some(init)) => init.signal(signal)?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn hand_in(&self, from: BorrowedFd<'_>, keys: &mut DetachKeys) -> Result<Fed> {
        let mut buffer = [0; PACKET];
        let length = match rustix::io::read(from, &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Fed::More),
            // A terminal that is gone.
            Err(Errno::IO) => 0,
            length => length.act(|| "read standard input")?,
        };
        let bytes = &buffer[..length];
        if bytes.is_empty() {
            // The other side may be gone already.
            let _ = shutdown(&self.socket, Shutdown::Write);
            return Ok(Fed::End);
        }
        let (send_on, leave) = match self.wishes.terminal {
            false => (bytes.to_vec(), false),
            true => match keys.typed(bytes) {
                Typed::Leave(before) => (before, true),
                Typed::On(bytes) => (bytes, false),
            },
        };
        if !send_on.is_empty() {
            match send(&self.socket, &send_on, SendFlags::NOSIGNAL) {
                // Its end shows at the output.
                Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno).act(|| "send input to the container"),
            }
        }
        Ok(if leave { Fed::Leave } else { Fed::More })
    }

    /// Shows one packet; tells whether there may be more.
    fn hand_out(&self) -> Result<bool> {
        let mut buffer = [0; PACKET + 1];
        let length = match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
            Err(Errno::CONNRESET) => return Ok(false),
            received => received.act(|| "receive output of the container")?.0,
        };
        match buffer.get(..length).and_then(<[u8]>::split_first) {
            None => Ok(false),
            Some((&STDERR, text)) => show(&mut io::stderr().lock(), text),
            Some((_, text)) => show(&mut io::stdout().lock(), text),
        }
    }
}

enum Fed {
    More,
    End,
    Leave,
}

/// The container's output, which is this command's.
fn show(out: &mut impl Write, text: &[u8]) -> Result<bool> {
    out.write_all(text).and_then(|()| out.flush()).act(|| "write the container's output").map(|()| true)
}
