//! A running machine: boot it, run programs in it one after another, notice when it is lost.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::disks::Disks;
use super::kernel::Kernel;
use super::qemu::{Console, Qemu};
use super::workspace::{Workspace, target_dir};
use super::{accel, find, initramfs};
use crate::layout::FRESH;
use crate::protocol::{Assembler, Exit, Frame, Run, Setup};

/// How long the guest may take from power-on to ready.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How long the guest may take to kill a program: a process stuck in the kernel cannot be killed.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// Lines of console shown when a guest is lost.
const CONSOLE_LINES: usize = 80;

/// What arrives from the guest, or why nothing does.
#[derive(Debug)]
enum Event {
    Frame(Frame),
    TimedOut,
    Lost,
}

/// How a program's run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself.
    Exited(Exit),
    /// Killed at its time limit.
    TimedOut,
    /// With the machine, for this reason.
    Lost(String),
}

/// A piece of a program's output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Output<'bytes> {
    Stdout(&'bytes [u8]),
    Stderr(&'bytes [u8]),
}

/// QEMU and our end of its port. Dropping it ends QEMU.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Child,
    port: UnixStream,
    assembler: Assembler,
    console: Option<PathBuf>,
    interrupted: Arc<AtomicBool>,
    /// What the kernel logged from power-on to ready.
    pub(crate) boot_log: String,
    _disks: Disks,
}

impl Machine {
    /// Boots with the console in a file, or on the terminal. `used` are files of the host that the guest will use.
    pub(crate) fn boot(workspace: &Workspace, used: &[PathBuf], terminal: bool) -> Result<Self> {
        let agent = env::current_exe().context("find the own binary")?;
        let kernel = Kernel::obtain(workspace)?;
        let initramfs = initramfs::obtain(workspace, &kernel, &agent)?;
        let accel = accel::choose(workspace, &kernel.image, &initramfs)?;
        let disks = Disks::create(workspace)?;
        let log = workspace.path("console.log");
        let console = if terminal { Console::Terminal } else { Console::File(log.clone()) };
        let mut qemu = Qemu::new(accel, &kernel.image, &initramfs)?;
        qemu.console(&console);
        qemu.share("/", "host");
        disks.paths().iter().for_each(|disk| qemu.disk(disk));
        let setup = Setup { keep: kept(used)?, modules: kernel.modules, modprobe: modprobe(workspace)? };
        let (child, port) = qemu.start()?;
        let mut machine = Self {
            qemu: child,
            port,
            assembler: Assembler::default(),
            console: (!terminal).then_some(log),
            interrupted: Arc::default(),
            boot_log: String::new(),
            _disks: disks,
        };
        machine.end_on_signals()?;
        machine.greet(setup).context("boot the test machine")?;
        Ok(machine)
    }

    /// Whether a signal ended the machine.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Closes our end on Ctrl-C and the like: whoever waits for the guest then finds it gone, and cleans up.
    fn end_on_signals(&self) -> Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("watch for signals")?;
        let port = self.port.try_clone().context("duplicate the port")?;
        let interrupted = Arc::clone(&self.interrupted);
        thread::spawn(move || {
            for _ in &mut signals {
                interrupted.store(true, Ordering::Relaxed);
                drop(port.shutdown(Shutdown::Both));
            }
        });
        Ok(())
    }

    /// Leads the agent from its first word to readiness.
    fn greet(&mut self, setup: Setup) -> Result<()> {
        let deadline = Instant::now() + BOOT_LIMIT;
        let mut setup = Some(setup);
        loop {
            match self.next(Some(deadline))? {
                Event::Frame(Frame::Hello) => {
                    let setup = setup.take().context("the agent started twice")?;
                    Frame::Setup(setup).write_to(&self.port)?;
                }
                Event::Frame(Frame::Kmsg(text)) => self.boot_log = text,
                Event::Frame(Frame::Ready) => return Ok(()),
                Event::Frame(other) => bail!("the guest sent {other:?} before it was ready"),
                Event::TimedOut => bail!("not ready after {} s{}", BOOT_LIMIT.as_secs(), self.last_words()),
                Event::Lost if self.interrupted() => bail!("interrupted"),
                Event::Lost => bail!("the guest ended before it was ready{}", self.last_words()),
            }
        }
    }

    /// Runs one program, at most for `limit`; hands its output on as it comes, returns with what the kernel logged.
    pub(crate) fn execute(
        &mut self,
        run: Run,
        limit: Option<Duration>,
        sink: &mut dyn FnMut(Output<'_>),
    ) -> Result<(Ended, String)> {
        let mut log = String::new();
        let mut deadline = limit.map(|limit| Instant::now() + limit);
        let mut killed = false;
        if Frame::Run(run).write_to(&self.port).is_err() {
            return Ok((Ended::Lost(self.last_words()), log));
        }
        loop {
            match self.next(deadline)? {
                Event::Frame(Frame::Stdout(bytes)) => sink(Output::Stdout(&bytes)),
                Event::Frame(Frame::Stderr(bytes)) => sink(Output::Stderr(&bytes)),
                Event::Frame(Frame::Kmsg(text)) => log = text,
                Event::Frame(Frame::Exit(_)) if killed => return Ok((Ended::TimedOut, log)),
                Event::Frame(Frame::Exit(exit)) => return Ok((Ended::Exited(exit), log)),
                Event::Frame(other) => bail!("the guest sent {other:?} during a run"),
                Event::TimedOut if !killed && Frame::Kill.write_to(&self.port).is_ok() => {
                    killed = true;
                    deadline = Some(Instant::now() + KILL_LIMIT);
                }
                Event::TimedOut => {
                    let cause = format!(": it did not kill the case within {} s", KILL_LIMIT.as_secs());
                    self.end();
                    return Ok((Ended::Lost(cause + &self.last_words()), log));
                }
                Event::Lost => return Ok((Ended::Lost(self.last_words()), log)),
            }
        }
    }

    /// Waits for the next frame, until `deadline`.
    fn next(&mut self, deadline: Option<Instant>) -> Result<Event> {
        loop {
            if let Some(frame) = self.assembler.next()? {
                return Ok(Event::Frame(frame));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Event::TimedOut);
            }
            self.port.set_read_timeout(left).context("limit the wait for the guest")?;
            match self.assembler.fill(&self.port) {
                Ok(0) => return Ok(Event::Lost),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Ok(Event::Lost),
                    _ => return Err(error).context("read from the guest"),
                },
            }
        }
    }

    /// The console's last lines, to follow a message. Its file is complete only when QEMU is gone.
    fn last_words(&mut self) -> String {
        self.end();
        let Some(path) = &self.console else {
            return String::new();
        };
        let said = fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&said).replace('\r', "");
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(CONSOLE_LINES)..).unwrap_or_default();
        format!("; last lines of {}:\n    {}", path.display(), last.join("\n    "))
    }

    /// Ends QEMU. Its disks are worth nothing, so there is nothing to shut down first.
    fn end(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// Directories that a fresh tmpfs of the guest would hide: those of the files in use, of the build, and our own.
fn kept(used: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut dirs = vec![env::current_dir().context("find the current directory")?, target_dir()?];
    dirs.extend(env::current_exe()?.parent().map(Path::to_owned));
    dirs.extend(used.iter().filter_map(|file| file.parent()).map(Path::to_owned));
    Ok(hidden(dirs))
}

/// Those of `dirs` that lie below a fresh directory, without those that lie in another of them.
fn hidden(mut dirs: Vec<PathBuf>) -> Vec<PathBuf> {
    dirs.retain(|dir| FRESH.iter().any(|fresh| dir.starts_with(fresh) && dir != Path::new(fresh)));
    dirs.sort();
    dirs.dedup_by(|dir, shorter| dir.starts_with(shorter));
    dirs
}

/// A link named modprobe to busybox, which acts by its name: the host may lack kmod.
fn modprobe(workspace: &Workspace) -> Result<PathBuf> {
    let link = workspace.path("modprobe");
    let busybox = find("busybox")?;
    if fs::read_link(&link).is_ok_and(|target| target == busybox) {
        return Ok(link);
    }
    drop(fs::remove_file(&link));
    std::os::unix::fs::symlink(&busybox, &link).with_context(|| format!("link {}", link.display()))?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::hidden;

    #[test]
    fn only_hidden_directories_are_kept_and_each_once() {
        let dirs = ["/tmp/a/b", "/tmp/a", "/work", "/tmp", "/run/x", "/tmpx"].map(Into::into).to_vec();
        assert_eq!(hidden(dirs), ["/run/x", "/tmp/a"].map(std::path::PathBuf::from));
    }
}
