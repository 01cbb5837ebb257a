//! A pool for one test: made in a fresh directory below `LAMINA_TEST_DIR` (or /var/tmp), gone afterwards, also after a
//! panic. Its UUID begins with `7e57`, so that whatever might be left is known for a test's.

use std::{
    env, fmt,
    os::fd::AsFd as _,
    panic::Location,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use lamina::{
    Error, Kind,
    driver::{Access, Changes, Driver, DriverKind, pool, pool::PoolSpec},
    fs::{BlockFs, Mounted, Verdict, apparent, compare},
    id::{CacheId, VolumeId},
    units::Bytes,
};
use libtest_mimic::{Completion, Failed};

/// What a case comes to.
pub type Outcome<T = ()> = Result<T, Fault>;

/// Any error, with the line of the `?` that it passed first.
#[derive(Debug)]
pub struct Fault(pub String);

// Not Display itself, or this could not be.
impl<E: fmt::Display> From<E> for Fault {
    #[track_caller]
    fn from(error: E) -> Self {
        let at = Location::caller();
        Self(format!("{}:{}: {error}", at.file(), at.line()))
    }
}

/// Fails the case unless both are equal, and tells them.
#[macro_export]
macro_rules! expect_eq {
    ($found:expr, $expected:expr $(, $($what:tt)+)?) => {
        match (&$found, &$expected) {
            (found, expected) if found == expected => {}
            (found, expected) => {
                #[allow(unused_mut, unused_assignments)]
                let mut what = String::from(stringify!($found));
                $(what = format!($($what)+);)?
                return Err($crate::pool::Fault::from(format!("{what}: found {found:?}, expected {expected:?}")));
            }
        }
    };
}

/// Fails the case unless the condition holds.
#[macro_export]
macro_rules! expect {
    ($condition:expr, $($what:tt)+) => {{
        let holds: bool = $condition;
        if !holds {
            return Err($crate::pool::Fault::from(format!($($what)+)));
        }
    }};
}

/// A volume and those that it lies on, nearest first.
#[derive(Clone, Debug)]
pub struct Volume {
    pub id: VolumeId,
    pub parents: Vec<VolumeId>,
}

/// The pool.
pub struct Pool {
    pub spec: PoolSpec,
    driver: Option<Box<dyn Driver>>,
    next: AtomicU64,
    destroyed: bool,
    // Removed last.
    _directory: tempfile::TempDir,
}

/// What the kernel may say while a pool of this kind is tried.
fn expect_messages(kind: DriverKind) {
    let parts: &[&str] = match kind {
        // When it is asked for what there is already, or is there no more.
        DriverKind::Thin => &["device-mapper: thin:", "device-mapper: ioctl:", "device-mapper: table:"],
        // Linux 6.1 warns when it is asked to send a path above PATH_MAX, which later ones only refuse.
        DriverKind::Btrfs => &["fs/btrfs/send.c"],
        DriverKind::Overlay | DriverKind::Vfs => &[],
    };
    for part in parts {
        println!("VM-EXPECT-KMSG: {part}");
    }
}

/// Runs `case` on a fresh pool; ignored where this machine cannot have such a pool.
pub fn with_pool(kind: DriverKind, size: Bytes, case: fn(&mut Pool) -> Outcome) -> Result<Completion, Failed> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("needs root"));
    }
    let make = || {
        expect_messages(kind);
        Pool::new(kind, size)
    };
    match pool::supported(kind).and_then(|()| make()) {
        Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::MissingProgram) => {
            Ok(Completion::ignored_with(error.to_string()))
        }
        made => {
            let mut pool = made?;
            case(&mut pool).and_then(|()| pool.destroy()).map_err(|fault| fault.0)?;
            Ok(Completion::Completed)
        }
    }
}

impl Pool {
    fn new(kind: DriverKind, size: Bytes) -> Result<Self, Error> {
        let base = env::var_os("LAMINA_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let directory = tempfile::Builder::new()
            .prefix("lamina-test-")
            .tempdir_in(&base)
            .map_err(|error| Error::with_source(Kind::Io, format!("make a directory in {}", base.display()), error))?;
        let spec = PoolSpec {
            kind,
            uuid: format!("7e57{}", &CacheId::random().as_str()[..28]),
            directory: directory.path().join("pool"),
            size,
            chunk: Bytes::kib(64),
            fs: if env::var_os("LAMINA_TEST_FS").is_some_and(|fs| fs == "xfs") { BlockFs::Xfs } else { BlockFs::Ext4 },
            data: None,
            metadata: None,
        };
        pool::create(&spec)?;
        let mut made = Self { spec, driver: None, next: AtomicU64::new(1), destroyed: false, _directory: directory };
        made.driver = Some(pool::open(&made.spec)?);
        Ok(made)
    }

    /// What it is made of is under test, too.
    pub fn driver(&self) -> &dyn Driver {
        self.driver.as_deref().unwrap_or_else(|| unreachable!("the pool is open but in reopen and destroy"))
    }

    /// Takes the pool down and brings it up again.
    pub fn reopen(&mut self) -> Outcome {
        self.driver = None;
        pool::close(&self.spec)?;
        self.driver = Some(pool::open(&self.spec)?);
        Ok(())
    }

    fn destroy(&mut self) -> Outcome {
        self.driver = None;
        pool::destroy(&self.spec)?;
        self.destroyed = true;
        Ok(())
    }

    /// A number that no volume has yet.
    pub fn next(&self) -> Outcome<VolumeId> {
        Ok(VolumeId::new(self.next.fetch_add(1, Ordering::Relaxed))?)
    }

    /// A new writable volume on `parent`, or an empty one.
    pub fn active(&self, parent: Option<&Volume>) -> Outcome<Volume> {
        let id = self.next()?;
        let Some(parent) = parent else {
            self.driver().create(id)?;
            return Ok(Volume { id, parents: Vec::new() });
        };
        let parents: Vec<VolumeId> = [parent.id].iter().chain(&parent.parents).copied().collect();
        self.driver().snapshot(id, &parents)?;
        Ok(Volume { id, parents })
    }

    /// Mounts `volume`, works in it, unmounts and releases it.
    pub fn with<T>(&self, volume: &Volume, access: Access, work: impl FnOnce(&Path) -> Outcome<T>) -> Outcome<T> {
        let done = {
            let mounted = self.mount(volume, access)?;
            work(&mounted.path())
        };
        self.driver().release(volume.id)?;
        done
    }

    /// Works in `volume`.
    pub fn write<T>(&self, volume: &Volume, work: impl FnOnce(&Path) -> Outcome<T>) -> Outcome<T> {
        self.with(volume, Access::ReadWrite, work)
    }

    /// Looks into `volume`.
    pub fn read<T>(&self, volume: &Volume, work: impl FnOnce(&Path) -> Outcome<T>) -> Outcome<T> {
        self.with(volume, Access::ReadOnly, work)
    }

    pub fn mount(&self, volume: &Volume, access: Access) -> Outcome<Mounted> {
        let spec = self.driver().mounts(volume.id, &volume.parents, access)?;
        Ok(Mounted::detached(&spec)?)
    }

    /// A sealed volume on `parent` that `work` has filled.
    pub fn layer(&self, parent: Option<&Volume>, work: impl FnOnce(&Path) -> Outcome) -> Outcome<Volume> {
        let volume = self.active(parent)?;
        self.write(&volume, work)?;
        self.driver().seal(volume.id)?;
        Ok(volume)
    }

    /// A sealed sibling of `volume` as it is now.
    pub fn capture(&self, volume: &Volume) -> Outcome<Volume> {
        let id = self.next()?;
        self.driver().capture(id, volume.id, Access::ReadOnly)?;
        Ok(Volume { id, parents: volume.parents.clone() })
    }

    /// The changes that the driver tells, after making sure that a full walk over both trees tells the same.
    pub fn changes(&self, volume: &Volume) -> Outcome<Changes> {
        let told = self.driver().changes(volume.id, &volume.parents)?;
        let walked = match volume.parents.split_first() {
            None => {
                let child = self.mount(volume, Access::ReadOnly)?;
                compare(None, child.root().as_fd(), &mut |_| Ok(Verdict::Unknown))?
            }
            Some((id, above)) => {
                let parent = self.mount(&Volume { id: *id, parents: above.to_vec() }, Access::ReadOnly)?;
                let child = self.mount(volume, Access::ReadOnly)?;
                compare(Some(parent.root()), child.root(), &mut |_| Ok(Verdict::Unknown))?
            }
        };
        expect_eq!(told, walked, "changes of {} and a walk", volume.id);
        if let Some(written) = self.driver().written(volume.id, &volume.parents)? {
            let child = self.mount(volume, Access::ReadOnly)?;
            expect_eq!(written, apparent(child.root(), &told)?, "bytes that {} wrote, and a walk", volume.id);
        }
        for id in volume.parents.first().into_iter().chain([&volume.id]) {
            self.driver().release(*id)?;
        }
        expect!(told.is_sorted(), "changes are not sorted: {told:?}");
        Ok(told)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // After a failure only: what the case found is the news, and a pool that cannot be destroyed leaves its
        // directory to tell.
        self.driver = None;
        if !self.destroyed && pool::destroy(&self.spec).is_err() {
            self._directory.disable_cleanup(true);
        }
    }
}
