//! What changed in a container: asked of the mechanism, against walking and comparing both trees.

use std::fs;

use super::{
    held::{Claim, Held, Sampled},
    seconds,
};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground, tree},
    driver::{Access, ChangeKind, DriverKind},
    error::{Act as _, Error, Kind, Result},
    fs::{Mounted, Verdict, compare},
    interrupt,
    store::Key,
    units::Bytes,
};

pub(in crate::bench) const DIFF: Held = Held {
    name: "diff",
    about: "walking and comparing the trees of container and image, by stat and by content, against the store's diff \
            of one changed file among many",
    tests: "Each layer is only a set of differences from the layer before it.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[],
    files: 0,
    claims: &[
        Claim {
            what: "walk comparing metadata",
            against: Some("diff"),
            limit: |driver| (driver == DriverKind::Btrfs).then_some(Limit::RatioAtLeast(100.0)),
        },
        Claim {
            what: "walk comparing content",
            against: Some("diff"),
            limit: |driver| (driver == DriverKind::Btrfs).then_some(Limit::RatioAtLeast(100.0)),
        },
    ],
    run,
};

/// A walk takes seconds, so it is taken only every so many rounds.
const WALK_EVERY: usize = 5;

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let ground = Ground::new(&options.directory, driver)?;
    let store = ground.store();
    let (image, container): (Key, Key) = ("image".parse()?, "container".parse()?);
    // A small file takes a block and an inode at least.
    let room = Bytes(options.files as u64 * 8192);
    ground.layer(&image, None, room, |root| tree::fill(root, options.files))?;
    store.prepare(&container, Some(&image))?;
    let changed = tree::nth(options.files / 2);
    ground.inside(&container, |mounted| {
        let path = mounted.path().join(&changed);
        fs::write(&path, [1; tree::FILE]).act(|| format!("write {}", path.display()))
    })?;
    let diff = || {
        let (_, changes) = store.changes(&container)?;
        let files: Vec<_> = changes.iter().filter(|change| change.path == changed).collect();
        match files.as_slice() {
            [change] if change.kind == ChangeKind::Changed => Ok(()),
            _ => Err(Error::new(Kind::Corrupt, format!("diff tells {changes:?}, and only {changed:?} was written"))),
        }
    };
    let (mut by_stat, mut by_content) = (Sampled::default(), Sampled::default());
    for round in 0..options.samples(25) {
        interrupt::check()?;
        let time = seconds(diff)?;
        by_stat.base.push(time);
        by_content.base.push(time);
        if round % WALK_EVERY == 0 {
            by_stat.subject.push(walk(&ground, (&image, &container), Verdict::Same)?);
            by_content.subject.push(walk(&ground, (&image, &container), Verdict::Unknown)?);
        }
    }
    Ok(vec![by_stat, by_content])
}

/// Seconds for comparing both trees, mounted before the clock starts. `equal` is what is said of the content of files
/// whose metadata is equal.
fn walk(ground: &Ground, (image, container): (&Key, &Key), equal: Verdict) -> Result<f64> {
    let store = ground.store();
    let parent = store.stat(image)?.volume;
    let spec = store.driver().mounts(parent, &[], Access::ReadOnly)?;
    let time = ground.inside(container, |child| {
        let parent = Mounted::detached(&spec)?;
        seconds(|| compare(Some(parent.root()), child.root(), &mut |_| Ok(equal)))
    });
    let released = store.release(image);
    match time {
        Ok(time) => released.map(|()| time),
        Err(error) => Err(error.and_undo(released)),
    }
}
