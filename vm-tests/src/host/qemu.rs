//! QEMU's command line.
//!
//! QEMU dies with this process (`setpriv --pdeathsig`), never reboots, and inherits one end of a socket pair: the end
//! of file on ours is the end of the machine, so nothing ever polls for it.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::program::find;
use crate::guest::PORT;

/// Every guest's kernel arguments. `oops=panic` and `panic=-1` turn a broken kernel into QEMU's end; mitigations and
/// kaslr only cost time here; the log must hold what one case makes the kernel say.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off nokaslr log_buf_len=4M apparmor=0 audit=0";

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    /// By the processor.
    Kvm,
    /// Translated: everywhere possible, several times slower.
    Tcg,
}

impl Accel {
    /// The word for it in the cache and in messages.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// QEMU's arguments. Without `la57=off` a five-level page table makes translated memory access slower.
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,la57=off"],
        }
    }
}

/// Where the guest's first serial line goes.
#[derive(Debug)]
pub(super) enum Console {
    /// Into this file.
    File(PathBuf),
    /// To the user's terminal, with QEMU's escape keys.
    Terminal,
}

/// A command line in the making.
#[derive(Debug)]
pub(super) struct Qemu {
    command: Command,
    append: String,
}

impl Qemu {
    /// The machine's core: processor, memory, kernel.
    pub(super) fn new(accel: Accel, kernel: &Path, initramfs: &Path) -> Result<Self> {
        let mut command = Command::new(find("setpriv")?);
        command.args(["--pdeathsig", "KILL"]).arg(find("qemu-system-x86_64")?);
        command.args(["-name", "lamina-vm-tests", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-machine", "pc", "-smp", "2", "-m", "4096"]).args(accel.arguments());
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        Ok(Self { command, append: KERNEL_ARGUMENTS.to_owned() })
    }

    /// Adds a kernel argument.
    pub(super) fn kernel_argument(&mut self, argument: &str) {
        self.append = format!("{} {argument}", self.append);
    }

    /// Connects the console.
    pub(super) fn console(&mut self, console: &Console) {
        match console {
            Console::File(path) => {
                self.command.arg("-serial").arg(format!("file:{}", path.display())).stdin(Stdio::null());
            }
            Console::Terminal => {
                self.command.args(["-serial", "mon:stdio"]);
            }
        }
    }

    /// Shares a directory of the host, read-only.
    pub(super) fn share(&mut self, dir: &str, tag: &str) {
        let options = "security_model=none,readonly=on,multidevs=remap";
        self.command.arg("-virtfs").arg(format!("local,path={dir},mount_tag={tag},{options}"));
    }

    /// Adds a raw disk. Its content is worth nothing after the run, so QEMU need not sync it.
    pub(super) fn disk(&mut self, path: &Path) {
        let file = path.display().to_string().replace(',', ",,");
        self.command.arg("-drive").arg(format!("if=virtio,format=raw,cache=unsafe,discard=unmap,file={file}"));
    }

    /// Starts the machine; the stream is the other end of its port, and ends with it.
    pub(super) fn start(mut self) -> Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair().context("make a socket pair")?;
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).context("let QEMU inherit the socket")?;
        self.command.arg("-chardev").arg(format!("socket,id=port,fd={}", theirs.as_raw_fd()));
        self.command.args(["-device", "virtio-serial-pci"]);
        self.command.arg("-device").arg(format!("virtserialport,chardev=port,name={PORT}"));
        self.command.arg("-append").arg(&self.append);
        let child = self.command.spawn().context("start qemu-system-x86_64")?;
        Ok((child, ours))
    }
}
