//! Rows that are Lamina's own drivers, through the same calls as the command line makes.
//!
//! The directory drivers lie on a fresh file system on a disk of their own, and the block-level ones have their pool there,
//! so that all have the same disk below; the database lies beside it, for all of them in the same place.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Row, Stage};
use crate::{
    bench::{
        building, command,
        ground::{Directory, patiently},
        registry::connection,
    },
    container::{Container, Containers, Note, Removal},
    driver::{DriverKind, pool},
    error::{Act as _, Error, Kind, Result},
    fs::BlockFs,
    image::{
        catalog::{Catalog, Image},
        import::import,
        registry::pull,
    },
    program::{CONMON, MKFS_BTRFS, MKFS_EXT4, MKFS_XFS, TAR},
    runtime::OciRuntime,
    store::{PoolOptions, Store},
    units::Bytes,
};

/// A driver, and the file system on its volumes or below them.
#[derive(Debug)]
pub(in crate::bench) struct Layered {
    name: &'static str,
    about: &'static str,
    driver: DriverKind,
    fs: BlockFs,
    usual: bool,
    floor: bool,
}

const LAYERED: Layered = Layered {
    name: "btrfs",
    about: "btrfs snapshots, one subvolume per layer",
    driver: DriverKind::Btrfs,
    fs: BlockFs::Btrfs,
    usual: true,
    floor: false,
};

/// Thin snapshots with ext4 on them.
pub(in crate::bench) const THIN_EXT4: Layered = Layered {
    name: "thin/ext4",
    about: "device-mapper thin snapshots, ext4 on each",
    driver: DriverKind::Thin,
    fs: BlockFs::Ext4,
    ..LAYERED
};
/// Thin snapshots with XFS on them.
pub(in crate::bench) const THIN_XFS: Layered = Layered {
    name: "thin/xfs",
    about: "device-mapper thin snapshots, XFS on each",
    fs: BlockFs::Xfs,
    usual: false,
    ..THIN_EXT4
};
/// btrfs snapshots.
pub(in crate::bench) const BTRFS: Layered = LAYERED;
/// overlayfs where files are copied whole.
pub(in crate::bench) const OVERLAY_EXT4: Layered = Layered {
    name: "overlay/ext4",
    about: "overlayfs on ext4, which copies whole files",
    driver: DriverKind::Overlay,
    fs: BlockFs::Ext4,
    ..LAYERED
};
/// overlayfs where a copy shares the blocks.
pub(in crate::bench) const OVERLAY_XFS: Layered = Layered {
    name: "overlay/xfs",
    about: "overlayfs on XFS, whose copies share blocks (reflink)",
    fs: BlockFs::Xfs,
    ..OVERLAY_EXT4
};
/// overlayfs where a copy shares the blocks.
pub(in crate::bench) const OVERLAY_BTRFS: Layered = Layered {
    name: "overlay/btrfs",
    about: "overlayfs on btrfs, whose copies share blocks (reflink)",
    fs: BlockFs::Btrfs,
    ..OVERLAY_EXT4
};
/// Copies.
pub(in crate::bench) const VFS: Layered = Layered {
    name: "vfs",
    about: "a full copy of the image per container, on ext4",
    driver: DriverKind::Vfs,
    fs: BlockFs::Ext4,
    ..LAYERED
};
/// No layers: the floor.
pub(in crate::bench) const BARE: Layered =
    Layered { name: "bare", about: "a directory of ext4 without layers, the floor", floor: true, ..VFS };

impl Row for Layered {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn driver(&self) -> Option<DriverKind> {
        (!self.floor).then_some(self.driver)
    }

    fn copies_files(&self) -> bool {
        self.driver != DriverKind::Thin && self.fs == BlockFs::Ext4
    }

    fn is_usual(&self) -> bool {
        self.usual
    }

    fn usable(&self) -> Result<()> {
        pool::supported(self.driver)?;
        let mkfs = match self.fs {
            BlockFs::Ext4 => MKFS_EXT4,
            BlockFs::Xfs => MKFS_XFS,
            BlockFs::Btrfs => MKFS_BTRFS,
        };
        mkfs.find().map(drop)
    }

    fn stage(&self, below: &Path, size: Bytes) -> Result<Box<dyn Stage>> {
        let mut directory = Directory::new(below, &self.name.replace('/', "-"))?;
        let mut options = PoolOptions { driver: Some(self.driver), ..PoolOptions::default() };
        if self.driver.has_device() {
            options.size = Some(size);
        } else {
            directory.add_disk(self.fs, size)?;
        }
        if self.driver == DriverKind::Thin {
            options.fs = Some(self.fs);
        }
        let (store, _) = Store::open_or_make(directory.path(), &options)?;
        Ok(Box::new(LayeredStage { store, directory, floor: self.floor }))
    }
}

/// The store goes before the directory, whose pool it keeps busy.
#[derive(Debug)]
struct LayeredStage {
    store: Store,
    directory: Directory,
    floor: bool,
}

impl LayeredStage {
    fn containers(&self) -> Containers<'_> {
        Containers::new(&self.store)
    }

    /// Where the floor unpacks a file.
    fn unpacked(&self, name: &str) -> PathBuf {
        self.directory.path().join("pool").join(format!("unpacked-{name}"))
    }

    fn image(&self, name: &str) -> Result<Image> {
        Catalog::new(&self.store).find(&reference(name))
    }

    fn find(&self, name: &str) -> Result<Container> {
        self.containers().find(name)
    }
}

fn reference(name: &str) -> String {
    format!("bench/{name}:latest")
}

impl Stage for LayeredStage {
    fn import(&self, name: &str, tar: &mut (dyn Read + Send)) -> Result<()> {
        import(&self.store, tar, &reference(name).parse()?, "bench").map(drop)
    }

    /// No more than unpacking, on the floor.
    fn import_file(&self, name: &str, tar: &Path) -> Result<()> {
        if !self.floor {
            let mut file = fs::File::open(tar).act(|| format!("open {}", tar.display()))?;
            return self.import(name, &mut file);
        }
        let place = self.unpacked(name);
        fs::create_dir(&place).act(|| format!("make {}", place.display()))?;
        let (tar, place) = (tar.to_string_lossy(), place.to_string_lossy());
        TAR.succeed(&["--extract", "--numeric-owner", "--file", &tar, "-C", &place])
    }

    fn pull(&self, reference: &str) -> Result<()> {
        self.has_layers()?;
        pull(&self.store, &reference.parse()?, None, &connection(), &()).map(drop)
    }

    fn remove_pulled(&self, reference: &str) -> Result<()> {
        Catalog::new(&self.store).remove(reference).map(drop)
    }

    fn write_out(&self) -> Result<()> {
        self.directory.write_out()
    }

    fn settle(&self) -> Result<()> {
        self.store.driver().give_back()?;
        self.write_out()
    }

    fn build(&self, name: &str, dockerfile: &str, context: &Path) -> Result<()> {
        building::build(&self.store, dockerfile, context, &reference(name)).map(drop)
    }

    fn create(&self, name: &str, image: &str) -> Result<()> {
        self.containers().create(&self.image(image)?, &reference(image), Some(name)).map(drop)
    }

    fn mount(&self, name: &str) -> Result<PathBuf> {
        self.containers().mount(&self.find(name)?)
    }

    fn unmount(&self, name: &str) -> Result<()> {
        self.containers().unmount(&self.find(name)?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let container = self.find(name)?;
        // A mount namespace made meanwhile by anybody has the container's mount in it until it ends.
        patiently(|| self.containers().remove(&container, Removal::default()))
    }

    fn has_layers(&self) -> Result<()> {
        if self.floor {
            return Err(Error::new(Kind::Unsupported, "a bare file system has no layers"));
        }
        Ok(())
    }

    fn changes(&self, name: &str) -> Result<usize> {
        self.has_layers()?;
        Ok(self.containers().changes(&self.find(name)?)?.len())
    }

    fn commit(&self, name: &str, image: &str) -> Result<()> {
        self.has_layers()?;
        let reference = reference(image).parse()?;
        self.containers().commit(&self.find(name)?, Some(&reference), Note::default()).map(drop)
    }

    fn remove_image(&self, name: &str) -> Result<()> {
        let place = self.unpacked(name);
        if self.floor && place.exists() {
            return fs::remove_dir_all(&place).act(|| format!("remove {}", place.display()));
        }
        Catalog::new(&self.store).remove(&reference(name)).map(drop)
    }

    fn used(&self) -> Result<Bytes> {
        self.store.status().map(|status| status.used())
    }

    fn volume(&self) -> Result<PathBuf> {
        let path = self.store.layout().volumes();
        fs::create_dir_all(&path).act(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    fn runner(&self, image: &str, program: &[&str]) -> Result<Command> {
        self.has_layers()?;
        CONMON.find()?;
        OciRuntime::find()?;
        let image = reference(image);
        let words = ["run", "--rm", "--network=none", &image];
        Ok(command::lamina(self.directory.path(), &[words.as_slice(), program].concat()))
    }
}
