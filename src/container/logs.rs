//! What a container wrote, as its supervisor kept it: lines `TIME STREAM TAG TEXT`, where the tag `P` says that the line of
//! the container goes on in the next one (conmon's and Kubernetes' format).

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    path::Path,
};

use jiff::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify,
    io::Errno,
};

use super::{Container, Containers};
use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
};

/// How much is read from the end at a time, to find the last lines.
const STEP: u64 = 64 << 10;

/// One piece of output, of a line at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// When it came, RFC 3339 as the supervisor wrote it.
    pub time: String,
    /// Whether it went to standard error.
    pub stderr: bool,
    /// What was written, without the newline.
    pub text: Vec<u8>,
    /// Whether the line ends here.
    pub ends_line: bool,
}

/// Which output is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogsRequest {
    /// As it comes, until the container ends.
    pub follow: bool,
    /// Only so many of the last lines that are there.
    pub tail: Option<u64>,
    /// Nothing that is older.
    pub since: Option<Timestamp>,
}

impl Containers<'_> {
    /// Hands what the container wrote to `show`, piece by piece.
    ///
    /// # Errors
    /// The first of `show`; the system's.
    pub fn logs(
        &self,
        container: &Container,
        request: LogsRequest,
        mut show: impl FnMut(&Piece) -> Result<()>,
    ) -> Result<()> {
        let path = self.home(container).log();
        let act = || format!("read {}", path.display());
        let mut file = match File::open(&path) {
            // It was never started.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            file => file.act(act)?,
        };
        // What is written from now on is for those who follow.
        let end = file.metadata().act(act)?.len();
        let start = match request.tail {
            Some(lines) => start_of_tail(&mut file, lines, end).act(act)?,
            None => 0,
        };
        file.seek(SeekFrom::Start(start)).act(act)?;
        let mut reader = BufReader::new(file.take(if request.follow { u64::MAX } else { end - start }));
        let mut line = Vec::new();
        let mut ended = false;
        let inotify = if request.follow { Some(watch(&path)?) } else { None };
        loop {
            interrupt::check()?;
            let length = reader.read_until(b'\n', &mut line).act(act)?;
            if length > 0 && line.ends_with(b"\n") {
                let piece = parse(&line)?;
                line.clear();
                if request.since.is_none_or(|since| piece.time.parse::<Timestamp>().is_ok_and(|time| time >= since)) {
                    show(&piece)?;
                }
                continue;
            }
            // What was written between the last look and the end of the container is there now.
            let (Some(inotify), false) = (&inotify, ended) else { return Ok(()) };
            ended = !self.waits_for_more(container, inotify)?;
        }
    }

    /// Waits until more is written; tells whether the container may go on writing.
    fn waits_for_more(&self, container: &Container, inotify: &std::os::fd::OwnedFd) -> Result<bool> {
        let run = self.run_directory(container);
        let Some(supervisor) = run.supervisor()? else { return Ok(false) };
        let mut ready = [PollFd::new(inotify, PollFlags::IN), PollFd::new(supervisor.fd(), PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).act(|| "wait for output"),
        }
        let _ = rustix::io::read(inotify, &mut [0_u8; 4096]);
        Ok(self.home(container).exit()?.is_none())
    }
}

fn watch(path: &Path) -> Result<std::os::fd::OwnedFd> {
    let act = || format!("watch {}", path.display());
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).act(act)?;
    inotify::add_watch(&inotify, path, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CLOSE_WRITE).act(act)?;
    Ok(inotify)
}

fn parse(line: &[u8]) -> Result<Piece> {
    let mut fields = line.strip_suffix(b"\n").unwrap_or(line).splitn(4, |byte| *byte == b' ');
    let mut next = || fields.next();
    let piece = || -> Option<Piece> {
        let time = std::str::from_utf8(next()?).ok()?.to_owned();
        let stderr = match next()? {
            b"stdout" => false,
            b"stderr" => true,
            _ => return None,
        };
        let ends_line = match next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Piece { time, stderr, text: next()?.to_vec(), ends_line })
    };
    let mut piece = piece;
    piece().ok_or_else(|| {
        let what = format!("a line of the container's log has another form: '{}'", String::from_utf8_lossy(line));
        Error::new(Kind::Corrupt, what)
    })
}

/// Where the last `lines` lines before `end` begin.
fn start_of_tail(file: &mut File, lines: u64, end: u64) -> std::io::Result<u64> {
    let mut start = end;
    loop {
        start = start.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut reader = BufReader::new(Read::take(&mut *file, end - start));
        let mut at = start;
        if start > 0 {
            // Most likely the middle of one.
            at += u64::try_from(reader.read_until(b'\n', &mut Vec::new())?).unwrap_or(0);
        }
        // Where each line of the container begins that begins here.
        let mut begins = Vec::new();
        let mut new = start == 0;
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if new {
                begins.push(at);
            }
            at += u64::try_from(line.len()).unwrap_or(0);
            new = parse(&line).is_ok_and(|piece| piece.ends_line);
            line.clear();
        }
        let known = u64::try_from(begins.len()).unwrap_or(u64::MAX);
        if known >= lines || start == 0 {
            let skipped = usize::try_from(known.saturating_sub(lines)).unwrap_or(0);
            return Ok(begins.get(skipped).copied().unwrap_or(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::{Piece, parse, start_of_tail};

    #[test]
    fn a_piece_keeps_its_spaces_and_tells_whether_the_line_goes_on() {
        let piece = parse(b"2024-01-02T03:04:05.6+01:00 stderr P  two  spaces \n").unwrap();
        let time = "2024-01-02T03:04:05.6+01:00".to_owned();
        assert_eq!(piece, Piece { time, stderr: true, text: b" two  spaces ".to_vec(), ends_line: false });
        assert!(parse(b"2024 stdout F\n").is_err() && parse(b"x\n").is_err());
    }

    #[test]
    fn the_last_lines_are_found_however_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = File::create(&path).unwrap();
        let mut begins = Vec::new();
        let mut length = 0;
        for number in 0..300 {
            begins.push(length);
            // Some lines of the container come in pieces, longer together than what is read at a time.
            for piece in 0..(1 + number % 3) * 5 {
                let tag = if piece + 1 == (1 + number % 3) * 5 { 'F' } else { 'P' };
                let line = format!("T stdout {tag} {number}-{piece}{}\n", "x".repeat(2000));
                file.write_all(line.as_bytes()).unwrap();
                length += line.len() as u64;
            }
        }
        let mut file = File::open(&path).unwrap();
        for lines in [1, 2, 10, 299, 300] {
            let at = begins[begins.len() - lines];
            assert_eq!(start_of_tail(&mut file, lines as u64, length).unwrap(), at, "{lines}");
        }
        assert_eq!(start_of_tail(&mut file, 1000, length).unwrap(), 0);
        assert_eq!(start_of_tail(&mut file, 0, length).unwrap(), length);
        // What is written meanwhile is not among them.
        assert_eq!(start_of_tail(&mut file, 2, begins[100]).unwrap(), begins[98]);
    }
}
