//! Frames between host and guest over one virtio-serial port.
//!
//! A frame is a tag byte, a little-endian u32 length and that many bytes. Program output travels as raw bytes, so a
//! program that writes no UTF-8 arrives unchanged; everything else is JSON. Both sides are the same binary, hence
//! there is no version to negotiate.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Longest payload that a reader accepts: more means that the stream is out of step.
const MAX_PAYLOAD: usize = 64 << 20;

/// Tag byte and length.
const HEADER: usize = 5;

/// What the guest needs to know before it can prepare itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Directories of the host that a fresh tmpfs in the guest would hide.
    pub(crate) keep: Vec<PathBuf>,
    /// Directory with the kernel's modules, to appear as `/lib/modules`.
    pub(crate) modules: PathBuf,
    /// A modprobe for the kernel to call when it misses a module.
    pub(crate) modprobe: PathBuf,
}

/// One program to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// Its whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) cwd: PathBuf,
    /// Whether it gets the console as its controlling terminal instead of pipes.
    pub(crate) terminal: bool,
}

/// How a program in the guest ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It never started, for this reason.
    NotStarted(String),
}

impl Exit {
    /// The code a shell would report.
    pub(crate) fn shell_code(&self) -> u8 {
        let code = match self {
            Self::Code(code) => *code,
            Self::Signal(signal) => 128 + signal,
            Self::NotStarted(_) => 127,
        };
        u8::try_from(code & 0xff).unwrap_or(1)
    }
}

/// Everything that is said between host and guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Guest: the agent runs and waits for its setup.
    Hello,
    /// Host: prepare yourself like this.
    Setup(Setup),
    /// Guest: prepared; runs may come.
    Ready,
    /// Host: run this program.
    Run(Run),
    /// Host: kill the program that runs.
    Kill,
    /// Guest: the program wrote this to its standard output.
    Stdout(Vec<u8>),
    /// Guest: the program wrote this to its standard error.
    Stderr(Vec<u8>),
    /// Guest: what the kernel logged meanwhile, one message per line.
    Kmsg(String),
    /// Guest: the program ended.
    Exit(Exit),
}

impl Frame {
    /// The frame's bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let (tag, payload) = match self {
            Self::Hello => (b'h', Vec::new()),
            Self::Setup(setup) => (b's', serde_json::to_vec(setup)?),
            Self::Ready => (b'y', Vec::new()),
            Self::Run(run) => (b'r', serde_json::to_vec(run)?),
            Self::Kill => (b'k', Vec::new()),
            Self::Stdout(bytes) => (b'o', bytes.clone()),
            Self::Stderr(bytes) => (b'e', bytes.clone()),
            Self::Kmsg(text) => (b'm', text.clone().into_bytes()),
            Self::Exit(exit) => (b'x', serde_json::to_vec(exit)?),
        };
        let length = u32::try_from(payload.len()).context("encode frame: payload exceeds 4 GiB")?;
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.push(tag);
        bytes.extend(length.to_le_bytes());
        bytes.extend(payload);
        Ok(bytes)
    }

    /// The frame of this tag and payload.
    fn decode(tag: u8, payload: &[u8]) -> Result<Self> {
        Ok(match tag {
            b'h' => Self::Hello,
            b's' => Self::Setup(serde_json::from_slice(payload)?),
            b'y' => Self::Ready,
            b'r' => Self::Run(serde_json::from_slice(payload)?),
            b'k' => Self::Kill,
            b'o' => Self::Stdout(payload.to_vec()),
            b'e' => Self::Stderr(payload.to_vec()),
            b'm' => Self::Kmsg(String::from_utf8_lossy(payload).into_owned()),
            b'x' => Self::Exit(serde_json::from_slice(payload)?),
            other => bail!("decode frame: unknown tag {other:#04x}"),
        })
    }

    /// Writes the frame in one call, so that frames of several threads never mix under a lock.
    pub(crate) fn write_to(&self, mut to: impl Write) -> Result<()> {
        to.write_all(&self.encode()?).context("send frame")?;
        to.flush().context("send frame")
    }
}

/// Puts frames together from whatever pieces the stream hands out.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// The next whole frame, if it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *header;
        let length = usize::try_from(u32::from_le_bytes(length)).context("decode frame")?;
        if length > MAX_PAYLOAD {
            bail!("decode frame: {length} bytes announced, at most {MAX_PAYLOAD} are sent; the stream is out of step");
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame::decode(tag, payload)?;
        self.bytes.drain(..HEADER + length);
        Ok(Some(frame))
    }

    /// Takes in what the stream has. Zero bytes mean that the other side is gone.
    pub(crate) fn fill(&mut self, mut from: impl Read) -> io::Result<usize> {
        let mut piece = [0; 16 << 10];
        let read = from.read(&mut piece)?;
        self.bytes.extend(piece.iter().take(read));
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
