//! SIGKILL while a thin-pool's metadata grows by itself, and while damaged metadata is replaced.

use std::fs;

use lamina::{
    crash::Point,
    store::{Key, Store},
    units::Bytes,
};

use super::{create_args, prepare, untouched};
use crate::{
    damage::damage_metadata,
    expect, expect_eq,
    full::{expect_messages, scatter, store_and_layer},
    lamina::Host,
    pool::Outcome,
};

/// The points that only `check --repair` comes by.
pub const IN_REPAIR: [Point; 6] = [
    Point::RepairStart,
    Point::RepairRebuilt,
    Point::RepairKept,
    Point::RepairNamed,
    Point::RepairReplaced,
    Point::RepairCleared,
];

/// The points at which metadata grows by itself.
pub const IN_GROWTH: [Point; 2] = [Point::MetadataShort, Point::MetadataGrown];

fn kill(host: &Host, point: Point, args: &[&str]) -> Outcome {
    let said = host.run_to(point.name(), args)?;
    expect_eq!(said.signal, Some(9), "{said:?}");
    Ok(())
}

/// Makes snapshots of the wide layer with leaves of their own, until metadata is to grow.
fn fill(store: &Store, layer: &Key, made: &mut u32) -> Outcome {
    while store.status()?.metadata.free() >= Bytes(store.status()?.metadata.total.0 / 4) {
        let key: Key = format!("c{made}").parse()?;
        store.prepare(&key, Some(layer))?;
        scatter(store, &key, 20)?;
        *made += 1;
    }
    Ok(())
}

pub fn kill_extending(host: &Host) -> Outcome {
    let (store, layer) = store_and_layer(host)?;
    prepare(host)?;
    let mut made = 0;
    fill(&store, &layer, &mut made)?;
    let create = ["create", "--name", "made", "base:1"];
    // Killed before, there is nothing; after the file grew, the next takes that over; resumed, the kernel has it.
    for (point, total) in [(Point::MetadataShort, 4), (Point::MetadataLengthened, 4), (Point::PoolSuspended, 8)] {
        kill(host, point, &create)?;
        host.check()?;
        expect_eq!(store.status()?.metadata.total, Bytes::mib(total), "metadata after {point:?}");
    }
    fill(&store, &layer, &mut made)?;
    kill(host, Point::MetadataGrown, &create)?;
    expect_eq!(store.status()?.metadata.total, Bytes::mib(16));
    drop(store);
    host.ok(&["pool", "down"])?;
    host.check()?;
    untouched(host)?;
    host.ok(&create).map(drop)
}

/// Each time another damaged one is kept; what a killed repair made beside it goes.
pub fn kill_repairing(host: &Host) -> Outcome {
    expect_messages();
    host.ok(&create_args(host))?;
    prepare(host)?;
    let pool = host.root().join("pool");
    let names = || -> Outcome<Vec<String>> {
        let mut names = fs::read_dir(&pool)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    let mut expected = vec!["data".to_owned(), "metadata".to_owned()];
    for (repairs, point) in IN_REPAIR.into_iter().enumerate() {
        host.ok(&["pool", "down"])?;
        damage_metadata(host)?;
        kill(host, point, &["check", "--repair"])?;
        host.ok(&["check", "--repair"])?;
        host.check()?;
        untouched(host)?;
        expected.push(format!("metadata.damaged-{}", repairs + 1));
        expect_eq!(names()?, expected, "after a kill at {point:?}");
    }
    // What a killed repair left goes with the pool, too.
    host.ok(&["pool", "down"])?;
    damage_metadata(host)?;
    kill(host, Point::RepairRebuilt, &["check", "--repair"])?;
    expect!(names()?.len() > expected.len(), "a killed repair leaves its new file");
    host.ok(&["pool", "destroy", "--yes"])?;
    host.ok(&create_args(host)).map(drop)
}
