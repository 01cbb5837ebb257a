//! Sizes of containers: looked at again and again, while they are written, and at no cost to the pool.

use std::{collections::BTreeMap, fs, process::Stdio};

use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

use super::{base, soon};

type Sizes = BTreeMap<String, u64>;

fn sizes(host: &Host) -> Outcome<Sizes> {
    let rows = host.json(&["ps", "-a", "-s"])?;
    let size = |row: &serde_json::Value| Some((row["name"].as_str()?.to_owned(), row["size_rw_bytes"].as_u64()?));
    rows.as_array().into_iter().flatten().map(|row| size(row).ok_or_else(|| format!("no size: {row}").into())).collect()
}

/// How many snapshots the pool ever made.
fn snapshots(host: &Host) -> Outcome<u64> {
    let database = rusqlite::Connection::open(host.root().join("lamina.db"))?;
    Ok(database.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'", [], |row| row.get(0))?)
}

/// The sizes are these, and looking once more takes no snapshot.
fn are(host: &Host, expected: [(&str, u64); 3]) -> Outcome {
    let expected: Sizes = expected.into_iter().map(|(name, size)| (name.to_owned(), size)).collect();
    expect_eq!(sizes(host)?, expected);
    let made = snapshots(host)?;
    for _ in 0..2 {
        expect_eq!(sizes(host)?, expected);
    }
    host.ok(&["inspect", "lives"])?;
    host.ok(&["system", "df"])?;
    expect_eq!(snapshots(host)?, made, "looking made snapshots");
    Ok(())
}

/// A size is right after every write, be it one byte in place, and also while there are more.
pub fn sizes_are_right_and_cost_nothing(host: &Host) -> Outcome {
    base(host)?;
    host.ok(&["run", "-d", "--name", "lives", "base:1", "sh", "-c", "echo first > /f; exec sleep 1000"])?;
    soon("it wrote", || Ok(host.run(&["exec", "lives", "grep", "-q", "first", "/f"])?.code == Some(0)))?;
    for name in ["fresh", "rests"] {
        host.ok(&["create", "--name", name, "base:1"])?;
    }
    let begun = snapshots(host)?;
    are(host, [("fresh", 0), ("lives", 6), ("rests", 0)])?;
    expect_eq!(snapshots(host)?, begun, "neither a container that runs nor an untouched one is copied for its size");
    fs::write(host.mount("rests")?.join("new"), "new")?;
    are(host, [("fresh", 0), ("lives", 6), ("rests", 3)])?;
    host.ok(&["umount", "rests"])?;
    are(host, [("fresh", 0), ("lives", 6), ("rests", 3)])?;

    // One byte of a file of the image, in place.
    let passwd = fs::metadata(host.file("base/etc/passwd"))?.len();
    let first = |byte: &str| {
        let script = format!("echo {byte} | dd of=/etc/passwd bs=1 count=1 conv=notrunc 2>/dev/null");
        host.ok(&["exec", "lives", "sh", "-c", &script]).map(drop)
    };
    first("R")?;
    are(host, [("fresh", 0), ("lives", 6 + passwd), ("rests", 3)])?;
    // Its content is the image's once more, its time is not: a change still, as Docker tells it.
    first("r")?;
    let lives = 6 + passwd;
    are(host, [("fresh", 0), ("lives", lives), ("rests", 3)])?;

    let script = "i=0; while [ $i -lt 300 ]; do echo x >> /g; i=$((i+1)); done";
    let mut writer = host.spawn(&["exec", "lives", "sh", "-c", script], Stdio::null())?;
    let mut seen = lives;
    while writer.try_wait()?.is_none() {
        let now = sizes(host)?["lives"];
        expect!(seen <= now && now <= lives + 600, "{seen}, then {now}");
        seen = now;
    }
    expect!(writer.wait()?.success(), "the writer failed");
    are(host, [("fresh", 0), ("lives", lives + 600), ("rests", 3)])?;
    host.ok(&["stop", "-t", "0", "lives"])?;
    are(host, [("fresh", 0), ("lives", lives + 600), ("rests", 3)])?;
    host.ok(&["start", "lives"])?;
    are(host, [("fresh", 0), ("lives", lives + 600), ("rests", 3)])?;
    host.ok(&["rm", "-f", "lives", "fresh", "rests"]).map(drop)
}
