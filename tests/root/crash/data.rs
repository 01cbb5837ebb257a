//! SIGKILL while a data volume is made, filled, removed. They lie on the host's own file system, so one driver is enough.

use std::{env, fs, path::PathBuf, process::Command};

use lamina::crash::Point;

use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

pub const POINTS: [Point; 6] =
    [Point::DataIntent, Point::DataMade, Point::DataCopied, Point::DataFilled, Point::DataRemoving, Point::DataRemoved];

/// Names the root directory to a test program that is only to fill a volume, and to be killed at it.
const FILL: &str = "LAMINA_TEST_FILL";

/// What this program does when it was started by [`fill`].
pub fn fill_if_asked() -> Option<Outcome> {
    let root = PathBuf::from(env::var_os(FILL)?);
    Some(crate::volumes::fill(&root, "box", "vol", "/data").map(drop))
}

fn fill(host: &Host, point: Option<Point>) -> Outcome<Said> {
    let mut command = Command::new(env::current_exe()?);
    command.env(FILL, host.root());
    if let Some(point) = point {
        command.env("LAMINA_CRASH_AT", point.name());
    }
    Ok(command.output()?.into())
}

/// Kills a command there, and looks at what is left.
pub fn kill(host: &Host, point: Point) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("data/one", b"one"), ("data/sub/two", b"two")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let place = host.root().join("volumes/vol");
    let killed = |said: Said| {
        expect_eq!(said.signal, Some(9), "{said:?}");
        host.check()
    };
    let volumes = || host.ok(&["volume", "ls", "-q"]);
    match point {
        Point::DataIntent | Point::DataMade => {
            killed(host.run_to(point.name(), &["volume", "create", "vol"])?)?;
            expect!(volumes()?.is_empty() && !place.exists(), "half a volume");
            host.ok(&["volume", "create", "vol"])?;
        }
        Point::DataRemoving | Point::DataRemoved => {
            host.ok(&["volume", "create", "vol"])?;
            fs::write(place.join("_data/file"), "old")?;
            killed(host.run_to(point.name(), &["volume", "rm", "vol"])?)?;
            expect!(volumes()?.is_empty() && !place.exists(), "half a volume");
            host.ok(&["volume", "create", "vol"])?;
            expect_eq!(fs::read_dir(place.join("_data"))?.count(), 0);
        }
        _ => {
            host.ok(&["volume", "create", "vol"])?;
            killed(fill(host, Some(point))?)?;
            let found = fs::read_dir(place.join("_data"))?.count();
            expect_eq!(found, if point == Point::DataCopied { 0 } else { 2 }, "all of it or nothing");
        }
    }
    let said = fill(host, None)?;
    expect_eq!(said.code, Some(0), "{said:?}");
    expect_eq!(fs::read(place.join("_data/one"))?, b"one");
    expect_eq!(fs::read(place.join("_data/sub/two"))?, b"two");
    expect_eq!(fs::read_dir(&place)?.count(), 1, "nothing half is left beside it");
    host.check()
}
