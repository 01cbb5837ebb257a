//! `lamina logs`.

use std::io::{self, Write};

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::{Global, pool};
use crate::{
    container::{Containers, LogsRequest, Piece},
    error::{Act as _, Error, Kind},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show what comes, until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Show so many of the last lines, or all
    #[arg(short = 'n', long, value_name = "N|all", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Show when each line came
    #[arg(short, long)]
    timestamps: bool,
    /// Show nothing older than this time, or this long ago: 2024-01-02T03:04:05Z, 90s, 10m, 1h30m
    #[arg(long, value_parser = since)]
    since: Option<Timestamp>,
    /// Name or ID
    container: String,
}

#[derive(Clone, Copy, Debug)]
struct Tail(Option<u64>);

fn tail(text: &str) -> std::result::Result<Tail, Error> {
    if text == "all" {
        return Ok(Tail(None));
    }
    let number =
        text.parse().map_err(|_| Error::new(Kind::Invalid, format!("'{text}' is neither a number nor 'all'")))?;
    Ok(Tail(Some(number)))
}

fn since(text: &str) -> std::result::Result<Timestamp, Error> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Some(time) = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        return Ok(time);
    }
    let ago = text.parse::<SignedDuration>().ok().and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.ok_or_else(|| Error::new(Kind::Invalid, format!("'{text}' is neither a time nor a duration such as 10m")))
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let container = containers.find(&self.container)?;
        let request = LogsRequest { follow: self.follow, tail: self.tail.0, since: self.since };
        let (mut out, mut err) = (Stream::new(io::stdout()), Stream::new(io::stderr()));
        let shown = containers.logs(&container, request, |piece| {
            let stream: &mut dyn Show = if piece.stderr { &mut err } else { &mut out };
            stream.show(piece, self.timestamps).act(|| "write the container's output")
        });
        Ok(shown.map_err(|error| match error.errno() {
            Some(libc::EPIPE) => error.as_kind(Kind::Unread),
            _ => error,
        })?)
    }
}

trait Show {
    fn show(&mut self, piece: &Piece, with_time: bool) -> io::Result<()>;
}

struct Stream<W> {
    to: W,
    /// Whether a line has begun and not ended.
    within_line: bool,
}

impl<W: Write> Stream<W> {
    fn new(to: W) -> Self {
        Self { to, within_line: false }
    }
}

impl<W: Write> Show for Stream<W> {
    fn show(&mut self, piece: &Piece, with_time: bool) -> io::Result<()> {
        let mut text = Vec::with_capacity(piece.text.len() + 40);
        if with_time && !self.within_line {
            // As Docker writes it: UTC, nine digits.
            let time = piece.time.parse::<Timestamp>();
            let time = time.map_or_else(|_| piece.time.clone(), |time| format!("{time:.9}"));
            text.extend_from_slice(time.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(&piece.text);
        text.extend(piece.ends_line.then_some(b'\n'));
        self.within_line = !piece.ends_line;
        self.to.write_all(&text)?;
        self.to.flush()
    }
}
