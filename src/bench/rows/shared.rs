//! overlayfs over one read-only btrfs subvolume, with its upper directory on the same btrfs: containers share the page cache
//! of the image, as layers of files do, and the first write into a file shares its blocks, as snapshots do.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use super::{BTRFS, Row, Stage, leave};
use crate::{
    bench::ground::Directory,
    driver::{Access, DriverKind},
    error::{Act as _, Error, Kind, Result},
    fs::{MountSpec, Mounted},
    image::{catalog::Catalog, import::import},
    store::{Key, PoolOptions, Store},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct Shared;

/// See the module's comment.
pub(in crate::bench) const BTRFS_OVERLAY: Shared = Shared;

impl Row for Shared {
    fn name(&self) -> &'static str {
        "btrfs+overlay"
    }

    fn about(&self) -> &'static str {
        "overlayfs over one read-only btrfs subvolume, its upper directory on the same btrfs"
    }

    fn copies_files(&self) -> bool {
        false
    }

    fn is_usual(&self) -> bool {
        false
    }

    fn usable(&self) -> Result<()> {
        BTRFS.usable()?;
        crate::driver::pool::supported(DriverKind::Overlay)
    }

    fn stage(&self, below: &Path, size: Bytes) -> Result<Box<dyn Stage>> {
        let directory = Directory::new(below, self.name())?;
        let options = PoolOptions { driver: Some(DriverKind::Btrfs), size: Some(size), ..PoolOptions::default() };
        let (store, _) = Store::open_or_make(directory.path(), &options)?;
        Ok(Box::new(SharedStage { store, directory }))
    }
}

/// The store goes before the directory, whose pool it keeps busy.
#[derive(Debug)]
struct SharedStage {
    store: Store,
    directory: Directory,
}

impl SharedStage {
    /// Where a volume of btrfs lies as a directory.
    fn place(&self, key: &Key, access: Access) -> Result<PathBuf> {
        match self.store.driver().mounts(self.store.stat(key)?.volume, &[], access)? {
            MountSpec::Bind { directory, .. } => Ok(directory),
            other => Err(Error::new(Kind::Unsupported, format!("a btrfs volume is no directory: {other:?}"))),
        }
    }

    fn target(&self, name: &str) -> PathBuf {
        self.store.layout().mounts().join(name)
    }
}

fn no_commit<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "images are neither built nor committed from such containers"))
}

fn upper(name: &str) -> Result<Key> {
    format!("upper-{name}").parse()
}

fn reference(name: &str) -> String {
    format!("bench/{name}:latest")
}

impl Stage for SharedStage {
    fn import(&self, name: &str, tar: &mut (dyn Read + Send)) -> Result<()> {
        import(&self.store, tar, &reference(name).parse()?, "bench").map(drop)
    }

    fn write_out(&self) -> Result<()> {
        self.directory.write_out()
    }

    fn settle(&self) -> Result<()> {
        self.store.driver().give_back()?;
        self.write_out()
    }

    fn build(&self, _: &str, _: &str, _: &Path) -> Result<()> {
        no_commit()
    }

    /// A volume for what it writes, which notes whose image it lies on.
    fn create(&self, name: &str, image: &str) -> Result<()> {
        let top = Catalog::new(&self.store).find(&reference(image))?.top();
        let top = top.ok_or_else(|| Error::new(Kind::Invalid, format!("image {image} has no layers")))?;
        self.store.prepare(&upper(name)?, None)?;
        let place = self.place(&upper(name)?, Access::ReadWrite)?;
        let lower = self.place(&top, Access::ReadOnly)?;
        let make = || -> std::io::Result<()> {
            fs::create_dir(place.join("upper"))?;
            fs::create_dir(place.join("work"))?;
            std::os::unix::fs::symlink(&lower, place.join("lower"))
        };
        make().act(|| format!("make directories in {}", place.display()))
    }

    fn mount(&self, name: &str) -> Result<PathBuf> {
        let place = self.place(&upper(name)?, Access::ReadWrite)?;
        let act = || format!("mount {name}");
        let lower = fs::read_link(place.join("lower")).act(act)?;
        let base = place.parent().unwrap_or(Path::new("/")).to_owned();
        let below = |path: &Path| path.strip_prefix(&base).unwrap_or(path).display().to_string();
        let spec = MountSpec::Overlay {
            lowers: vec![below(&lower)],
            upper: Some((below(&place.join("upper")), below(&place.join("work")))),
            base: base.clone(),
        };
        let target = self.target(name);
        fs::create_dir(&target).act(act)?;
        Mounted::detached(&spec)?.attach(&target)?;
        Ok(target)
    }

    fn unmount(&self, name: &str) -> Result<()> {
        leave(&self.target(name))
    }

    fn remove(&self, name: &str) -> Result<()> {
        crate::bench::ground::patiently(|| self.store.remove(&upper(name)?))
    }

    fn changes(&self, _: &str) -> Result<usize> {
        no_commit()
    }

    fn commit(&self, _: &str, _: &str) -> Result<()> {
        no_commit()
    }

    fn remove_image(&self, name: &str) -> Result<()> {
        Catalog::new(&self.store).remove(&reference(name)).map(drop)
    }

    fn used(&self) -> Result<Bytes> {
        self.store.status().map(|status| status.used())
    }

    fn volume(&self) -> Result<PathBuf> {
        let path = self.directory.path().join("volumes");
        fs::create_dir_all(&path).act(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    fn runner(&self, _: &str, _: &[&str]) -> Result<Command> {
        no_commit()
    }
}
