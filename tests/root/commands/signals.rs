//! Signals to commands that work or wait.

use std::{
    fs,
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

pub fn a_signal_undoes_what_was_begun(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    let before = host.json(&["images"])?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut child = host.spawn(&["import", "-", "half:1"], Stdio::piped())?;
        let Some(mut stdin) = child.stdin.take() else { return Err("no pipe".into()) };
        // The pipe holds 64 KiB: once this much is written, the command is reading and its snapshot exists.
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1 << 20);
        header.set_mode(0o644);
        tar.append_data(&mut header, "half", &[5; 1 << 20][..])?;
        stdin.write_all(&tar.into_inner()?[..600_000])?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(1), "{said:?}");
        expect!(said.err.contains("interrupted"), "{said:?}");
        drop(stdin);
        expect_eq!(host.json(&["images"])?, before);
        expect_eq!(host.json(&["pool", "status"])?["layers"], 1);
        host.check()?;
    }
    Ok(())
}

/// A command that waited for another one's lock did not hear Ctrl-C.
pub fn a_signal_ends_waiting(host: &Host) -> Outcome {
    host.pool("512M")?;
    let locks = fs::File::options().write(true).open(host.root().join("locks"))?;
    let pool = libc::flock {
        l_type: libc::F_WRLCK.try_into()?,
        l_whence: libc::SEEK_SET.try_into()?,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&locks, FcntlArg::F_OFD_SETLK(&pool))?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let child = host.spawn(&["pool", "down"], Stdio::null())?;
        let call = format!("/proc/{}/syscall", child.id());
        let waits = || fs::read_to_string(&call).is_ok_and(|told| told.starts_with(&format!("{} ", libc::SYS_fcntl)));
        let deadline = Instant::now() + Duration::from_secs(30);
        while !waits() {
            expect!(Instant::now() < deadline, "it never waited for the lock");
            std::thread::yield_now();
        }
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(1), "{said:?}");
        expect!(said.err.contains("interrupted"), "{said:?}");
    }
    drop(locks);
    host.ok(&["pool", "status"]).map(drop)
}
