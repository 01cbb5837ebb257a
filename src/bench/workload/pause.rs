//! How long a container that writes cannot write while it is committed.
//!
//! Told by the writer itself, not by what commits: its process reads from a pipe that holds one page, and the other end
//! notes how long each page had to wait for it. The longest such wait is at least the pause, whatever else it has of the
//! file system's own delays.

use std::{
    fs::File,
    io::Write as _,
    os::fd::AsFd as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, mkfifoat},
    io::Errno,
    pipe::fcntl_setpipe_size,
};

use super::{
    held::{Claim, Held, Sampled},
    rebuild,
};
use crate::{
    bench::{
        Limit, Options, Unit,
        command::{lamina, succeed},
        ground::{Directory, Ground},
        living::Living,
    },
    container::{Containers, Note},
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    image::import::import,
    interrupt,
    program::{BUSYBOX, CONMON},
    runtime::OciRuntime,
};

pub(in crate::bench) const PAUSE: Held = Held {
    name: "pause",
    about: "a container that writes without an end, and has written 100 MiB, is committed: the longest time in which it could \
            not write, against the time of the whole commit",
    tests: "All changes made to the running container, such as writing new files, modifying existing files, and deleting \
            files, are written to this thin writable container layer.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs, DriverKind::Overlay],
    needs: &[BUSYBOX, CONMON],
    files: 2,
    claims: &[Claim { what: "longest pause", against: Some("the commit"), limit }],
    run,
};

/// A copy of files needs the processes stopped for as long as it takes; a snapshot does not.
fn limit(driver: DriverKind) -> Option<Limit> {
    (driver != DriverKind::Overlay).then_some(Limit::RatioAtMost(0.1))
}

const PAGE: usize = 4096;

/// Some 40 MB a second, which no disk of a pool makes the writer wait for by itself.
const BREATH: Duration = Duration::from_micros(50);

/// Longer than any pause; then the container's process does not read any more.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

const IMAGE: &str = "bench/shell";
const COMMITTED: &str = "bench/committed";

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    OciRuntime::find()?;
    let ground = Ground::new(&options.directory, driver)?;
    import(ground.store(), &*rebuild::shell()?, &IMAGE.parse()?, "bench")?;
    let feed = Directory::new(&options.directory, "feed")?;
    let path = feed.path().join("pipe");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).act(|| format!("make {}", path.display()))?;
    let first = options.file_size.0 / 10;
    let mut sampled = Sampled::default();
    for _ in 0..options.samples(7) {
        interrupt::check()?;
        let (pause, commit) = once(&ground, &path, first)?;
        sampled.subject.push(pause);
        sampled.base.push(commit);
        succeed(lamina(ground.root(), &["rmi", COMMITTED]))?;
    }
    Ok(vec![sampled])
}

/// A new container, which has written so much when its commit begins: seconds of the longest pause and of the commit.
fn once(ground: &Ground, path: &Path, first: u64) -> Result<(f64, f64)> {
    let pipe = Feed::open(path)?;
    let bind = format!("{}:/feed", path.parent().unwrap_or(path).display());
    let dd = ["/bin/busybox", "dd", "if=/feed/pipe", "of=/written", "bs=4k"];
    let words = [&["-v", &bind, IMAGE], dd.as_slice()].concat();
    let _container = Living::start(ground.root(), "writer", &words)?;
    (0..first.div_ceil(PAGE as u64)).try_for_each(|_| pipe.give().map(drop))?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let feeding = scope.spawn(|| {
            let mut waits = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                waits.push(pipe.give()?);
                thread::sleep(BREATH);
            }
            Ok(waits)
        });
        let committed = commit(ground);
        ended.store(true, Ordering::Relaxed);
        let waits: Result<Vec<Wait>> =
            feeding.join().unwrap_or_else(|_| Err(Error::new(Kind::Io, "the thread that feeds the container died")));
        let (begun, time) = committed?;
        let during = |wait: &&Wait| wait.begun + wait.time >= begun && wait.begun <= begun + time;
        let longest = waits?.iter().filter(during).map(|wait| wait.time).max();
        let longest = longest.ok_or_else(|| Error::new(Kind::Io, "nothing was written during the commit"))?;
        Ok((longest.as_secs_f64(), time.as_secs_f64()))
    })
}

fn commit(ground: &Ground) -> Result<(Instant, Duration)> {
    let containers = Containers::new(ground.store());
    let (container, reference) = (containers.find("writer")?, COMMITTED.parse()?);
    let begun = Instant::now();
    containers.commit(&container, Some(&reference), Note::default())?;
    Ok((begun, begun.elapsed()))
}

/// How long one page waited.
struct Wait {
    begun: Instant,
    time: Duration,
}

/// The end of the pipe that gives. It is open for reading, too, so that it opens before there is a reader.
struct Feed(File);

impl Feed {
    fn open(path: &Path) -> Result<Self> {
        let act = || format!("open {}", path.display());
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(path, flags, Mode::empty()).act(act)?;
        fcntl_setpipe_size(&pipe, PAGE).act(act)?;
        Ok(Self(pipe.into()))
    }

    /// Gives one page, once the one before was taken.
    fn give(&self) -> Result<Wait> {
        let act = || "write into the pipe that a container reads";
        let begun = Instant::now();
        loop {
            match (&self.0).write(&[b'x'; PAGE]) {
                Ok(_) => return Ok(Wait { begun, time: begun.elapsed() }),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).act(act),
            }
            match poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::OUT)], Some(&PATIENCE)) {
                Ok(0) => return Err(Error::new(Kind::Io, "a container has not read from its pipe for a minute")),
                Ok(_) => {}
                Err(Errno::INTR) => interrupt::check()?,
                Err(errno) => return Err(errno).act(act),
            }
        }
    }
}
