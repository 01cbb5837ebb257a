//! Failpoints: named instants at which a test kills the process, to show that the next command repairs what is left.
//!
//! Invariant: every durable step has a point before and after it, every point is in [`Point::ALL`], and the crash test
//! reaches each on every driver that [`Point::is_of`] names, in every command that comes by. In release builds a point is
//! nothing.

use crate::driver::DriverKind;

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// An instant between two durable steps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $name,)*
        }

        impl Point {
            /// All points, in the order of the source.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in `LAMINA_CRASH_AT`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

points! {
    /// Nothing of a new snapshot exists yet.
    PrepareStart = "prepare-start",
    /// The intent to make a volume is durable.
    PrepareIntent = "prepare-intent",
    /// The volume exists in the pool, the database says 'creating'.
    PrepareActed = "prepare-acted",
    /// The snapshot is published.
    PreparePublished = "prepare-published",
    /// The file for the archive of a new layer is there, and empty.
    BlobMade = "blob-made",
    /// The archive of a new layer is durable, and no row tells of it.
    BlobWritten = "blob-written",
    /// A layer is downloaded whole, and no row tells of it.
    Downloaded = "downloaded",
    /// What was downloaded is the archive of a new layer, and no row tells of it.
    BlobAdopted = "blob-adopted",
    /// A new layer's volume is sealed, the database still calls it active.
    CommitSealed = "commit-sealed",
    /// The layer has its name; the image that needs it is not published.
    CommitPublished = "commit-published",
    /// The intent to remove a volume is durable.
    RemoveIntent = "remove-intent",
    /// The volume is gone from the pool, its row is not.
    RemoveActed = "remove-acted",
    /// The archive of a removed layer is gone too, the row is not.
    BlobRemoved = "blob-removed",
    /// The row is gone too.
    RemovePublished = "remove-published",
    /// The intent to make a pool is durable.
    PoolIntent = "pool-intent",
    /// The pool exists, the database says 'creating'.
    PoolActed = "pool-acted",
    /// The intent to destroy the pool is durable.
    DestroyIntent = "destroy-intent",
    /// The pool is gone, its row is not.
    DestroyActed = "destroy-acted",
    /// The intent to grow the pool is durable.
    GrowIntent = "grow-intent",
    /// The pool is larger, its row still says 'growing'.
    GrowActed = "grow-acted",
    /// thin: a mounted volume is suspended, its snapshot not made.
    CaptureSuspended = "capture-suspended",
    /// thin: the snapshot of a mounted volume is made, the volume still suspended.
    CaptureTaken = "capture-taken",
    /// thin: a volume has given its space back and still exists.
    SpaceGivenBack = "space-given-back",
    /// overlay, vfs: a volume's tree is complete and has not got its name.
    VolumeFilled = "volume-filled",
    /// overlay, vfs: a volume has lost its name and its tree is there still.
    VolumeUnnamed = "volume-unnamed",
    /// A new pool has its files or directories, and not what makes them a pool.
    PoolHalf = "pool-half",
    /// A new pool is whole, and what tells that it is being made is still there.
    PoolMade = "pool-made",
    /// A part of the pool is gone.
    DestroyHalf = "destroy-half",
    /// thin, btrfs: the backing file is longer, and the kernel does not know it.
    GrowLengthened = "grow-lengthened",
    /// thin: the pool's metadata is about to grow.
    MetadataShort = "metadata-short",
    /// thin: the metadata's file is longer, and the kernel does not know it.
    MetadataLengthened = "metadata-lengthened",
    /// thin: the kernel has the longer metadata.
    MetadataGrown = "metadata-grown",
    /// thin: damaged metadata is found, and nothing done about it.
    RepairStart = "repair-start",
    /// thin: new metadata is made of damaged one, and lies beside it.
    RepairRebuilt = "repair-rebuilt",
    /// thin: the damaged metadata has the name under which it is kept, besides its own.
    RepairKept = "repair-kept",
    /// thin: the new metadata has the name of the damaged one, which is not durable yet.
    RepairNamed = "repair-named",
    /// thin: the new metadata is in place.
    RepairReplaced = "repair-replaced",
    /// thin: the mark that the pool must be checked is taken away.
    RepairCleared = "repair-cleared",
    /// thin: the pool is suspended to take over another size.
    PoolSuspended = "pool-suspended",
    /// thin, btrfs: a backing file is attached, and the pool is not up.
    UpHalf = "up-half",
    /// thin: both files are attached, and no device is on them; btrfs: the mount point is bound to itself, with no pool on it.
    UpBound = "up-bound",
    /// thin, btrfs: the pool is down, and its backing file still attached.
    DownHalf = "down-half",
    /// An archive is saved whole, and has not got its name.
    ArchiveSaved = "archive-saved",
    /// An image and its layers are published.
    ImagePublished = "image-published",
    /// A container's volume is active (thin: its device is there) and not mounted.
    MountReady = "mount-ready",
    /// A container is mounted where nobody sees it; nothing tells yet that its device goes with the mount.
    MountDetached = "mount-detached",
    /// A container is mounted where the user sees it.
    MountAttached = "mount-attached",
    /// A container is unmounted, its volume not yet deactivated.
    Unmounted = "unmounted",
    /// A new container's volume has its limit, the database does not know the container.
    LimitSet = "limit-set",
    /// The intent to make a data volume is durable.
    DataIntent = "data-intent",
    /// A data volume has its directory, the database says 'creating'.
    DataMade = "data-made",
    /// What an image has in a data volume's place is copied, and has not got its name.
    DataCopied = "data-copied",
    /// A data volume is filled, and the database does not know that a container has it.
    DataFilled = "data-filled",
    /// The intent to remove a data volume is durable.
    DataRemoving = "data-removing",
    /// A data volume's directory is gone, its row is not.
    DataRemoved = "data-removed",
    /// A container is to run, and has its directory on /run.
    RunIntent = "run-intent",
    /// Its supervisor was called, and waits for what it is to run.
    RunCalled = "run-called",
    /// Under its supervisor: its root file system is mounted in a namespace of its own, and no runtime runs.
    RunMounted = "run-mounted",
    /// Its first process is made and waits to be told to begin.
    RunMade = "run-made",
    /// It is noted that the container was started; its process waits still.
    RunNoted = "run-noted",
    /// Its process has begun, and what it waited at is there still.
    RunOpened = "run-opened",
    /// Its process has begun, and nobody is told yet.
    RunBegun = "run-begun",
    /// overlay, vfs: the processes of a container are stopped where they are, and nothing of it is copied yet.
    InstantFrozen = "instant-frozen",
    /// The process of a container was sent the signal to stop.
    StopAsked = "stop-asked",
    /// The process of a container that is to be removed has ended, and all else is there still.
    RemoveEnded = "remove-ended",
    /// The container's row is gone; its volume, its anonymous data volumes and its directory are there still.
    RemoveRow = "remove-row",
    /// The container's row and volume are gone, its directory is there still.
    RemoveHome = "remove-home",
}

impl Point {
    /// Whether commands come by this point on pools of `driver`.
    pub const fn is_of(self, driver: DriverKind) -> bool {
        match self {
            Self::CaptureSuspended
            | Self::CaptureTaken
            | Self::SpaceGivenBack
            | Self::MetadataShort
            | Self::MetadataLengthened
            | Self::MetadataGrown
            | Self::RepairStart
            | Self::RepairRebuilt
            | Self::RepairKept
            | Self::RepairNamed
            | Self::RepairReplaced
            | Self::RepairCleared
            | Self::PoolSuspended => matches!(driver, DriverKind::Thin),
            // On the host's own file system, whichever driver has the pool.
            Self::DataIntent
            | Self::DataMade
            | Self::DataCopied
            | Self::DataFilled
            | Self::DataRemoving
            | Self::DataRemoved => matches!(driver, DriverKind::Overlay),
            Self::VolumeFilled | Self::VolumeUnnamed | Self::InstantFrozen => {
                matches!(driver, DriverKind::Overlay | DriverKind::Vfs)
            }
            Self::LimitSet
            | Self::GrowIntent
            | Self::GrowActed
            | Self::GrowLengthened
            | Self::UpHalf
            | Self::UpBound
            | Self::DownHalf => driver.has_device(),
            _ => true,
        }
    }
}

/// Dies here by SIGKILL, telling where, if the environment variable `LAMINA_CRASH_AT` says so: `NAME` is the first
/// arrival at the point of that name, `NAME:N` the N-th, `*:N` the N-th arrival at any point. With `@SIGTERM` or another
/// signal behind it this process gets that one instead.
#[cfg(debug_assertions)]
pub fn point(point: Point) {
    use nix::sys::signal::{Signal, raise};
    use std::{
        io::Write as _,
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
    };

    static AT: OnceLock<Option<(String, u32, Signal)>> = OnceLock::new();
    static ARRIVALS: AtomicU32 = AtomicU32::new(0);
    let at = AT.get_or_init(|| std::env::var("LAMINA_CRASH_AT").ok().map(|text| arrival(&text)));
    if let Some((name, last, signal)) = at
        && (name == point.name() || name == "*")
        && ARRIVALS.fetch_add(1, Ordering::Relaxed) + 1 == *last
    {
        // Neither can fail in a way that matters: a test that sees no such line, or no death, fails.
        let _ = writeln!(std::io::stderr(), "{KILLED_AT}{}", point.name());
        let _ = raise(*signal);
    }
}

/// What a process that dies at a point says before its name.
pub const KILLED_AT: &str = "killed at ";

/// Which name, which arrival, and the signal.
#[cfg(debug_assertions)]
fn arrival(text: &str) -> (String, u32, nix::sys::signal::Signal) {
    let signalled = text.split_once('@').and_then(|(text, signal)| Some((text, signal.parse().ok()?)));
    let (text, signal) = signalled.unwrap_or((text, nix::sys::signal::Signal::SIGKILL));
    let numbered = text.split_once(':').and_then(|(name, count)| Some((name, count.parse().ok()?)));
    let (name, count) = numbered.unwrap_or((text, 1));
    (name.to_owned(), count, signal)
}

/// Nothing in release builds.
#[cfg(not(debug_assertions))]
pub fn point(_: Point) {}
