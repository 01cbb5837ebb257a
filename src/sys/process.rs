//! Processes by descriptor (`pidfd_open(2)`): waited for and sent signals without mistaking one for another.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
    ptr,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::pidfd;
use crate::error::{Act as _, Result};

/// The exit code that a status stands for, that of a signal being 128 more than its number, as shells have it.
pub fn exit_code(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal))
}

/// How long a parent may take to be told of its child's end.
const TOLD: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A process that cannot be mistaken for another, whoever has its number next.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Process {
    /// The one that has the number `pid` now; `None` if there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(pid: Pid) -> Result<Option<Self>> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The others of a number that only a thread, a group or a session has: `INVAL` before Linux 6.16 (kernel/pid.c).
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(None),
            fd => fd.map(|fd| Some(Self { pid, fd })).act(|| format!("watch process {}", pid.as_raw_nonzero())),
        }
    }

    /// Its number, in this PID namespace.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Readable once it has ended.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Sends it a signal, real-time ones included; one that has ended is no failure.
    ///
    /// # Errors
    /// The kernel's.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match self.send(signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent.act(|| format!("send signal {signal} to process {}", self.id())),
        }
    }

    /// The crates send named signals only.
    fn send(&self, signal: libc::c_int) -> io::Result<()> {
        // SAFETY: all arguments are numbers but for the siginfo, which may be null (pidfd_send_signal(2)).
        let result = unsafe {
            let process = self.fd.as_raw_fd();
            libc::syscall(libc::SYS_pidfd_send_signal, process, signal, ptr::null::<libc::siginfo_t>(), 0)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The exit code of one that has ended, that of a signal being 128 more than its number; `None` if the kernel does not
    /// tell.
    ///
    /// # Errors
    /// The kernel's.
    pub fn exit_code(&self) -> Result<Option<i32>> {
        let act = || format!("ask how process {} ended", self.id());
        // The kernel tells once its parent has been told, which shows as a hang-up where it is told at all.
        match poll(&mut [PollFd::new(&self.fd, PollFlags::empty())], Some(&TOLD)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).act(act),
        }
        let status = pidfd::exit_status(&self.fd).act(act)?.map(ExitStatus::from_raw);
        Ok(status.and_then(exit_code))
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lives(&self) -> Result<bool> {
        self.ends_within(Duration::ZERO).map(|ended| !ended)
    }

    /// Waits for its end, so long at most; tells whether it came. A signal to this process ends the waiting early.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ends_within(&self, most: Duration) -> Result<bool> {
        self.any_within(&mut [self.end()], most)
    }

    /// [`Process::ends_within`], which signals to this process do not end: for what is short and leaves things as they should
    /// be.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_ended_after(&self, most: Duration) -> Result<bool> {
        let begun = Instant::now();
        loop {
            if self.ends_within(most.saturating_sub(begun.elapsed()))? {
                return Ok(true);
            }
            if begun.elapsed() >= most {
                return Ok(false);
            }
        }
    }

    /// [`Process::ends_within`], of whichever comes first, its end or what `other` waits for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ends_within_or(&self, other: PollFd<'_>, most: Duration) -> Result<bool> {
        self.any_within(&mut [self.end(), other], most)
    }

    fn end(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN)
    }

    fn any_within(&self, awaited: &mut [PollFd<'_>], most: Duration) -> Result<bool> {
        // More seconds than a time has room for are for ever.
        let most = Timespec::try_from(most).ok();
        match poll(awaited, most.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno).act(|| format!("wait for process {}", self.id())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    use rustix::process::Pid;

    use super::Process;

    #[test]
    fn a_number_that_only_a_group_has_is_no_process() {
        let script = "sleep 1000 <&- >&- & echo $!";
        let mut leader =
            Command::new("sh").args(["-c", script]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let number = Pid::from_child(&leader);
        let mut line = String::new();
        BufReader::new(leader.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(leader.wait().unwrap().success());
        let member = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let member = Process::open(member).unwrap().expect("it sleeps");
        assert!(Process::open(number).unwrap().is_none());
        member.signal(libc::SIGKILL).unwrap();
    }
}
