//! The commands that are killed, in groups that one root directory serves, and the points that each group is there for.

use lamina::crash::Point;

use crate::{expect, lamina::Host, pool::Outcome};

/// Commands that are tried on one root directory, and the points that they must have been killed at in the end.
pub struct Group {
    pub name: &'static str,
    pub steps: &'static [Step],
    pub points: &'static [Point],
}

/// A command that changes something.
pub struct Step {
    pub args: &'static [&'static str],
    /// Given before the command, each time, to make what it needs or to undo what it did. They may find that done.
    pub before: &'static [&'static [&'static str]],
    /// A container that is mounted then, or may be.
    pub mounted: Option<&'static str>,
    /// What there is in the end, however often it was given.
    pub effect: Effect,
}

#[derive(Clone, Copy)]
pub enum Effect {
    Nothing,
    Image(&'static str),
    NoImage(&'static str),
    Container(&'static str),
    NoContainer(&'static str),
    File(&'static str),
    /// The container is mounted, or not.
    Mounted(&'static str, bool),
    /// The pool has the size that was asked for.
    Grown,
}

const fn step(effect: Effect, args: &'static [&'static str], before: &'static [&'static [&'static str]]) -> Step {
    Step { args, before, mounted: None, effect }
}

const fn mounted(name: &'static str, step: Step) -> Step {
    Step { mounted: Some(name), ..step }
}

/// The points of making a layer, in all groups that do.
const LAYER: [Point; 7] = [
    Point::PrepareStart,
    Point::PrepareIntent,
    Point::PrepareActed,
    Point::VolumeFilled,
    Point::CommitSealed,
    Point::CommitPublished,
    Point::ImagePublished,
];

pub const IMPORT: Group = Group {
    name: "import",
    steps: &[step(Effect::Image("second"), &["import", "second.tar", "second:1"], &[&["rmi", "second:1"]])],
    points: &[Point::BlobMade, Point::BlobWritten],
};

const LOAD: Group = Group {
    name: "load",
    steps: &[step(Effect::Image("loaded"), &["load", "-i", "archive.tar"], &[&["rmi", "loaded:1"]])],
    points: &[Point::BlobMade, Point::BlobWritten],
};

const PULL: Group = Group {
    name: "pull",
    steps: &[step(Effect::Image("pulled"), &["pull", "--plain-http", "PULLED"], &[&["rmi", "PULLED"]])],
    points: &[Point::Downloaded, Point::BlobAdopted, Point::BlobMade, Point::BlobWritten],
};

/// A file, a directory and a setting: three images, of which the first two bring a layer.
const BUILD: Group = Group {
    name: "build",
    steps: &[step(Effect::Image("built"), &["build", "-t", "built:1", "CONTEXT"], &[&["rmi", "built:1"]])],
    points: &[],
};

/// A container of limited size.
pub const LIMIT: Group = Group {
    name: "limit",
    steps: &[step(
        Effect::Container("limited"),
        &["create", "--name", "limited", "--storage-opt", "size=64M", "base:1"],
        &[&["rm", "limited"]],
    )],
    points: &[Point::LimitSet],
};

pub const COMMIT: Group = Group {
    name: "commit",
    steps: &[
        step(Effect::Image("committed"), &["commit", "written", "committed:1"], &[&["rmi", "committed:1"]]),
        mounted(
            "written",
            step(Effect::Image("live"), &["commit", "written", "live:1"], &[&["rmi", "live:1"], &["mount", "written"]]),
        ),
    ],
    points: &[Point::CaptureSuspended, Point::CaptureTaken],
};

/// Containers come and go, images go and are written out.
pub const LIVES: Group = Group {
    name: "lives",
    steps: &[
        step(Effect::Container("made"), &["create", "--name", "made", "base:1"], &[&["rm", "made"]]),
        mounted("victim", step(Effect::Mounted("victim", true), &["mount", "victim"], &[&["umount", "victim"]])),
        step(Effect::Mounted("victim", false), &["umount", "victim"], &[&["mount", "victim"]]),
        step(Effect::NoContainer("victim"), &["rm", "victim"], &[&["create", "--name", "victim", "base:1"]]),
        step(Effect::NoImage("other"), &["rmi", "other:1"], &[&["import", "other.tar", "other:1"]]),
        step(Effect::File("saved.tar"), &["save", "-o", "saved.tar", "base:1"], &[]),
    ],
    points: &[
        Point::PrepareStart,
        Point::PrepareIntent,
        Point::PrepareActed,
        Point::PreparePublished,
        Point::MountReady,
        Point::MountDetached,
        Point::MountAttached,
        Point::Unmounted,
        Point::VolumeUnnamed,
        Point::SpaceGivenBack,
        Point::RemoveIntent,
        Point::RemoveActed,
        Point::BlobRemoved,
        Point::RemovePublished,
        Point::ArchiveSaved,
    ],
};

pub const GROUPS: [Group; 7] = [IMPORT, LOAD, PULL, BUILD, LIMIT, COMMIT, LIVES];

/// A pool is made, goes down, comes up, grows, and is destroyed.
pub const POOL: Group = Group {
    name: "pool",
    steps: &[
        step(Effect::Nothing, &["pool", "down"], &[&["pool", "up"]]),
        step(Effect::Nothing, &["pool", "up"], &[&["pool", "down"]]),
        step(Effect::Grown, &["pool", "grow", "GROWN"], &[]),
    ],
    points: &[
        Point::PoolIntent,
        Point::PoolHalf,
        Point::PoolMade,
        Point::PoolActed,
        Point::UpHalf,
        Point::UpBound,
        Point::DownHalf,
        Point::GrowIntent,
        Point::GrowLengthened,
        Point::MetadataLengthened,
        Point::PoolSuspended,
        Point::GrowActed,
        Point::DestroyIntent,
        Point::DestroyHalf,
        Point::DestroyActed,
    ],
};

impl Group {
    /// The points that must have been reached.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        let makes_layers = [IMPORT.name, LOAD.name, PULL.name, BUILD.name, COMMIT.name].contains(&self.name);
        self.points.iter().chain(LAYER.iter().filter(move |_| makes_layers)).copied()
    }

    /// The points that have not been reached and must be.
    pub fn missed(&self, host: &Host, reached: &[String]) -> Vec<Point> {
        let is_missed = |point: &Point| point.is_of(host.driver) && !reached.iter().any(|name| name == point.name());
        self.points().filter(is_missed).collect()
    }

    /// No less was tried than what this group is there for.
    pub fn require(&self, host: &Host, reached: &[String]) -> Outcome {
        let missed = self.missed(host, reached);
        expect!(missed.is_empty(), "no command of {} was killed at {missed:?}, only at {reached:?}", self.name);
        Ok(())
    }
}
