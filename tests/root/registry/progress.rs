//! What a pull and a push show: on a terminal a line per layer with a bar while it is on its way, elsewhere plain lines.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    process::Child,
};

use rustix::termios::{Winsize, tcsetwinsize};

use super::{
    Case, count,
    faults::layer,
    http,
    server::{Body, Server},
    together::Gate,
};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome, running::terminal::Screen};

pub(super) const CASE: Case = ("a_terminal_shows_each_layer", &[], a_terminal_shows_each_layer);

/// The command, with a terminal for its standard error, and the other side of that.
fn on_terminal(host: &Host, args: &[&str]) -> Outcome<(Child, Screen)> {
    let pty = nix::pty::openpty(None, None)?;
    let (master, slave): (OwnedFd, OwnedFd) = (pty.master, pty.slave);
    tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 })?;
    let child = host.command(args).env("TERM", "xterm").stdout(slave.try_clone()?).stderr(slave).spawn()?;
    Ok((child, Screen { master: File::from(master), text: String::new() }))
}

/// All that comes until the command has ended, which must be well.
fn to_the_end(mut screen: Screen, mut child: Child) -> Outcome<String> {
    let mut bytes = Vec::new();
    match screen.master.read_to_end(&mut bytes) {
        // Nobody has the other side any more.
        Err(error) if error.raw_os_error() == Some(libc::EIO) => {}
        result => drop(result?),
    }
    screen.text.push_str(&String::from_utf8_lossy(&bytes));
    expect!(child.wait()?.success(), "{:?}", screen.text);
    Ok(screen.text)
}

/// Bytes that come when a gate is opened.
struct Gated<R>(Gate, R);

impl<R: Read> Read for Gated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.wait();
        self.1.read(buffer)
    }
}

fn a_terminal_shows_each_layer(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    let (one, two) = (layer("one", 1)?, layer("two", 2)?);
    let short = [&one, &two].map(|layer| layer.digest.hex()[..12].to_owned());
    server.image("some:1", std::slice::from_ref(&one), "amd64")?;
    http(host, "pull", &server.reference("some:1"))?;
    let gate = Gate::default();
    let (size, body, opens) = (two.body.size, two.body.clone(), gate.clone());
    server.image("some:2", &[one, two.clone()], "amd64")?;
    let slow = move || -> Box<dyn Read> {
        let (first, rest) = (body.read(0).unwrap().take(100_000), body.read(100_000).unwrap());
        Box::new(first.chain(Gated(opens.clone(), rest)))
    };
    server.blob("some", two.digest, Body::of(size, slow));

    let there = server.reference("some:2");
    let (child, mut screen) = on_terminal(host, &["pull", "--plain-http", &there])?;
    screen.until("2: Pulling from some\r\n")?;
    screen.until(&format!("{}: Already exists", short[0]))?;
    screen.until(&format!("{}: Downloading [", short[1]))?;
    gate.open();
    let shown = to_the_end(screen, child)?;
    expect!(shown.contains(&format!("{}: Pull complete", short[1])), "{shown:?}");
    expect!(shown.contains("Status: Downloaded newer image"), "{shown:?}");
    // A line is written over, not added.
    expect!(shown.contains("\u{1b}[2K") && count(&shown, "Pulling from") == 0, "{shown:?}");

    let copy = server.reference("copy:1");
    host.ok(&["tag", &there, &copy])?;
    let (child, screen) = on_terminal(host, &["push", "--plain-http", &copy])?;
    let shown = to_the_end(screen, child)?;
    expect_eq!(shown.matches(": Pushed").count().min(2), 2, "{shown:?}");

    // Elsewhere there are the ends alone.
    host.ok(&["rmi", &copy])?;
    host.ok(&["rmi", &there])?;
    let said = http(host, "pull", &there)?;
    let lines: Vec<&str> = said.lines().collect();
    let ends = [format!("{}: Already exists", short[0]), format!("{}: Pull complete", short[1])];
    expect_eq!(lines[..3], ["2: Pulling from some", &ends[0], &ends[1]], "{said:?}");
    expect!(!said.contains('\u{1b}') && !said.contains('\r'), "{said:?}");
    let quiet = host.run(&["pull", "-q", "--plain-http", &there])?;
    expect_eq!((quiet.out.trim_end(), quiet.err.as_str()), (there.as_str(), ""));
    host.check()
}
