//! The guest's kernel log, read record by record; each record is handed out once.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::kmsg::message;

/// Longest record the kernel hands out (`CONSOLE_EXT_LOG_MAX`).
const RECORD: usize = 8192;

/// A reader that stands behind the last record it handed out.
#[derive(Debug)]
pub(super) struct KernelLog(File);

impl KernelLog {
    /// Opens the log at its oldest record.
    pub(super) fn open() -> Result<Self> {
        let path = "/dev/kmsg";
        let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
        Ok(Self(opened.with_context(|| format!("open {path}"))?))
    }

    /// All messages since the last call, one per line. The kernel stores a message before the call that caused it
    /// returns, so after a program's end this holds everything that the program provoked directly.
    pub(super) fn drain(&mut self) -> Result<String> {
        let mut text = String::new();
        let mut record = [0; RECORD];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return Ok(text),
                Ok(length) => {
                    let bytes = record.get(..length).unwrap_or_default();
                    text += &message(&String::from_utf8_lossy(bytes));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(text),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The kernel wrapped around: what was lost may have been trouble, so this itself is.
                Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {
                    text += "kernel log overran: messages were lost";
                }
                Err(error) => return Err(error).context("read /dev/kmsg"),
            }
            text.push('\n');
        }
    }
}
