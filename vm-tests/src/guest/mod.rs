//! The agent: process 1 of the guest, this same binary started from the host's root file system.
//!
//! It prepares the guest, then runs one program after another for the host. If it fails the kernel panics, and the
//! host sees that the guest is lost: nothing it does can end in a silent success.

mod kernel_log;
mod mounts;
mod process;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::protocol::{Assembler, Frame, Run, Setup};
use kernel_log::KernelLog;

/// The name of the virtio-serial port that the host listens on.
pub(crate) const PORT: &str = "vm-tests";

/// The sending half of the port, shared by the threads that forward output.
#[derive(Debug, Clone)]
struct Sender(Arc<Mutex<File>>);

impl Sender {
    /// Sends one frame whole.
    fn send(&self, frame: &Frame) -> Result<()> {
        let port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frame.write_to(&*port)
    }
}

/// What the host asks for, apart from kills, which the receiving thread obeys itself.
#[derive(Debug)]
enum Order {
    Setup(Setup),
    Run(Run),
}

/// Serves the host for ever.
pub(crate) fn agent() -> Result<()> {
    let port = open_port()?;
    let sender = Sender(Arc::new(Mutex::new(port.try_clone().context("duplicate the port")?)));
    let (orders, inbox) = mpsc::channel();
    thread::spawn(move || {
        if let Err(error) = receive(&port, &orders) {
            process::complain(&error);
        }
    });
    sender.send(&Frame::Hello)?;
    let Order::Setup(setup) = inbox.recv().context("wait for the setup")? else {
        bail!("a run arrived before the setup");
    };
    mounts::prepare(&setup)?;
    let mut log = KernelLog::open()?;
    sender.send(&Frame::Kmsg(log.drain()?))?;
    sender.send(&Frame::Ready)?;
    serve(&sender, &inbox, &mut log)
}

/// Runs what the host sends, one after another.
fn serve(sender: &Sender, inbox: &Receiver<Order>, log: &mut KernelLog) -> Result<()> {
    loop {
        let Order::Run(run) = inbox.recv().context("wait for a run")? else { bail!("a second setup arrived") };
        let exit = process::run(&run, sender)?;
        sender.send(&Frame::Kmsg(log.drain()?))?;
        sender.send(&Frame::Exit(exit))?;
    }
}

/// Hands on what arrives; ends, and with it the agent, when the port does.
fn receive(port: &File, orders: &mpsc::Sender<Order>) -> Result<()> {
    let mut assembler = Assembler::default();
    loop {
        match assembler.fill(port) {
            Ok(0) => bail!("the host closed the port"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("read the port"),
        }
        while let Some(frame) = assembler.next()? {
            match frame {
                Frame::Kill => process::kill_all(),
                Frame::Setup(setup) => orders.send(Order::Setup(setup)).context("hand on the setup")?,
                Frame::Run(run) => orders.send(Order::Run(run)).context("hand on a run")?,
                other => bail!("the host sent {other:?}"),
            }
        }
    }
}

/// Finds the port by its name: without udev there is no link in `/dev/virtio-ports`.
fn open_port() -> Result<File> {
    let class = "/sys/class/virtio-ports";
    for entry in fs::read_dir(class).with_context(|| format!("list {class}"))? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == PORT {
            let node = std::path::Path::new("/dev").join(entry.file_name());
            let opened = File::options().read(true).write(true).open(&node);
            return opened.with_context(|| format!("open {}", node.display()));
        }
    }
    Err(io::Error::from(ErrorKind::NotFound)).with_context(|| format!("find port '{PORT}' in {class}"))
}
