//! A session with a container's input and output, through its supervisor's socket.
//!
//! The supervisor speaks packets: from it each begins with a byte that tells the stream, to it they are bare input
//! (conmon, `src/conn_sock.c`). The end of this side's input is a half-closed socket.
//!
//! Invariant: nothing here waits for one direction alone: input that the supervisor does not take yet is kept, and output
//! goes on. Signals are caught from before the container begins until the session ends, and each is handed on.

use std::{
    io::{self, Write},
    os::fd::{AsFd as _, OwnedFd},
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
use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU,
    SIGXFSZ,
};

use super::{
    detach::{DetachKeys, Keys, Typed},
    run_directory::RunDirectory,
    terminal::RawTerminal,
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt::HandedOn,
    sys::process::Process,
};

/// The streams (conmon, `src/utils.h`).
const STDERR: u8 = 3;

/// The most that the supervisor sends or takes at once.
const PACKET: usize = 8192;

/// Signals that go on to the container, and with them the real-time ones. Not those that tell this process of its own
/// children, sockets and errors, nor those by which a shell stops it: a container's first process would ignore them.
const FORWARDED: [i32; 14] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGIO, SIGPROF, SIGVTALRM, SIGWINCH, SIGXCPU,
    SIGXFSZ,
];

/// The SIGINT or SIGTERM that ends the session and is not handed on, as with Docker: a first process that has no handler
/// for them ignores them, and the user would never get away.
const LEAVING: u32 = 3;

/// What a session does besides showing output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Hand standard input on.
    pub stdin: bool,
    /// The container has a terminal, whose place this one takes.
    pub terminal: bool,
    /// Hand signals on.
    pub signals: bool,
    /// What leaves the terminal.
    pub keys: Keys,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This signal came and is not the container's: to one with a terminal signals are keys, and else it was the third
    /// that asks for an end. The container goes on.
    Signalled(i32),
    /// The container ended, or its supervisor did.
    Closed,
    /// The user left with the keys for that; the container goes on.
    Detached,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Session {
    run: RunDirectory,
    socket: OwnedFd,
    wishes: Wishes,
    signals: HandedOn,
    /// How many have asked for an end.
    asked: u32,
}

/// What goes to the container.
#[derive(Debug, Default)]
struct Input {
    keys: DetachKeys,
    /// What was read and not taken yet.
    waiting: Vec<u8>,
    /// The user leaves when that is sent.
    leaves: bool,
    ended: bool,
}

impl Session {
    /// Connects; what the container writes from now on is kept for this session, and signals are the container's.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(run: &RunDirectory, wishes: Wishes) -> Result<Self> {
        let path = run.attach_socket();
        let act = || format!("attach to {}", path.display());
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).act(act)?;
        let address = SocketAddrUnix::new(&path).act(act)?;
        match connect(&socket, &address) {
            Err(Errno::CONNREFUSED | Errno::NOENT) if run.supervisor()?.is_none() => {
                let what = "the container's supervisor (conmon) has ended, and with it the way to its input and output; \
                            'lamina exec' still looks into the container, and after 'lamina restart' it has a new one";
                return Err(Error::new(Kind::Io, what));
            }
            connected => connected.act(act)?,
        }
        Ok(Self { run: run.clone(), socket, wishes, signals: HandedOn::begin(caught(wishes))?, asked: 0 })
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
    pub fn run(&mut self) -> Result<End> {
        let _raw = if self.wishes.terminal { RawTerminal::enter()? } else { None };
        let mut input =
            Input { ended: !self.wishes.stdin, keys: DetachKeys::new(self.wishes.keys), ..Input::default() };
        let init = self.run.init()?;
        loop {
            let (output, room, typed) = self.wait(&input)?;
            if let Some(signal) = self.hand_on(init.as_ref())? {
                return Ok(End::Signalled(signal));
            }
            if output && !self.hand_out()? {
                return Ok(End::Closed);
            }
            if typed {
                self.take_in(&mut input)?;
            }
            if typed || room {
                self.hand_in(&mut input)?;
            }
            if input.leaves && input.waiting.is_empty() {
                return Ok(End::Detached);
            }
        }
    }

    /// Waits for something to do: output to show, room for input that waits, or new input. A signal ends it, too.
    fn wait(&self, input: &Input) -> Result<(bool, bool, bool)> {
        let stdin = io::stdin();
        let waits = !input.waiting.is_empty();
        let wanted = if waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut ready =
            vec![PollFd::new(&self.socket, wanted), PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN)];
        if !waits && !input.ended {
            ready.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).act(|| "wait for input and output"),
        }
        let happened = |at: usize| ready.get(at).map_or(PollFlags::empty(), |fd| fd.revents());
        let socket = happened(0);
        Ok((!socket.difference(PollFlags::OUT).is_empty(), socket.contains(PollFlags::OUT), !happened(2).is_empty()))
    }

    /// Hands signals on; the one that ends the session instead is returned.
    fn hand_on(&mut self, init: Option<&Process>) -> Result<Option<i32>> {
        let signals: Vec<i32> = self.signals.pending().collect();
        for signal in signals {
            self.asked += u32::from(matches!(signal, SIGINT | SIGTERM));
            match (signal, init) {
                (SIGWINCH, _) if self.wishes.terminal => self.send_size()?,
                (SIGINT | SIGTERM, _) if self.asked >= LEAVING => return Ok(Some(signal)),
                (signal, _) if !self.wishes.signals => return Ok(Some(signal)),
                (signal, Some(init)) => init.signal(signal)?,
                (_, None) => {}
            }
        }
        Ok(None)
    }

    fn take_in(&self, input: &mut Input) -> Result<()> {
        let mut buffer = [0; PACKET];
        let length = match rustix::io::read(io::stdin().as_fd(), &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            // A terminal that is gone.
            Err(Errno::IO) => 0,
            length => length.act(|| "read standard input")?,
        };
        let bytes = &buffer[..length];
        if bytes.is_empty() {
            input.ended = true;
            // The other side may be gone already.
            let _ = shutdown(&self.socket, Shutdown::Write);
            return Ok(());
        }
        (input.waiting, input.leaves) = match self.wishes.terminal {
            false => (bytes.to_vec(), false),
            true => match input.keys.typed(bytes) {
                Typed::Leave(before) => (before, true),
                Typed::On(bytes) => (bytes, false),
            },
        };
        Ok(())
    }

    /// Sends what waits, if it is taken.
    fn hand_in(&self, input: &mut Input) -> Result<()> {
        if input.waiting.is_empty() {
            return Ok(());
        }
        match send(&self.socket, &input.waiting, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            // Its end shows at the output.
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => return Err(errno).act(|| "send input to the container"),
        }
        input.waiting.clear();
        Ok(())
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

/// Those that are handed on besides the ones that would end this process.
fn caught(wishes: Wishes) -> Vec<i32> {
    match wishes.signals {
        true => FORWARDED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).collect(),
        false => wishes.terminal.then_some(SIGWINCH).into_iter().collect(),
    }
}

/// The container's output, which is this command's.
fn show(out: &mut impl Write, text: &[u8]) -> Result<bool> {
    let shown = out.write_all(text).and_then(|()| out.flush()).act(|| "write the container's output");
    shown.map(|()| true).map_err(|error| match error.errno() {
        Some(libc::EPIPE) => error.as_kind(Kind::Unread),
        _ => error,
    })
}
