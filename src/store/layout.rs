//! Where things lie below the root directory. Every path of the store is made here.
//!
//! ```text
//! ROOT/lamina.db     what volumes mean (SQLite, write-ahead log)
//! ROOT/locks         one byte per volume, locked by whoever works on it; byte 0 is the pool
//! ROOT/blobs/CACHE   the archive that a layer came from, or its outline, for 'lamina save'
//! ROOT/downloads/HEX what was downloaded of a layer that is not whole yet
//! ROOT/pool/         the driver's own: backing files, mount point, directories
//! ROOT/builds/       what running builds need, one directory each
//! ROOT/build-caches/ what cache mounts of builds hold
//! ROOT/volumes/NAME  the data volume NAME, with its content in _data
//! ROOT/containers/ID what is kept of a container besides its volume: output, how it ended, files that are bound into it
//! ROOT/mounts/ID     where `lamina mount` shows a container; 0700, so that an image's setuid files serve nobody else
//! ```

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    error::{Act as _, Result},
    fs::make_private,
    id::{CacheId, ContainerId},
};

/// The database's name: a directory that has it is a root directory.
pub(super) const DATABASE: &str = "lamina.db";

/// The paths below one root directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The paths below `root`, with the directories that every command needs made. The root is the one path that the
    /// kernel has for it, whichever links lead there: the mount table, which tells what is mounted, knows no other.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn new(root: &Path) -> Result<Self> {
        make_private(root)?;
        let root = fs::canonicalize(root).act(|| format!("find root directory {}", root.display()))?;
        let layout = Self { root };
        make_private(&layout.pool())?;
        make_private(&layout.blobs())?;
        make_private(&layout.downloads())?;
        make_private(&layout.mounts())?;
        fs::set_permissions(layout.mounts(), Permissions::from_mode(0o700))
            .act(|| format!("close directory {} to others", layout.mounts().display()))?;
        Ok(layout)
    }

    /// The root directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    /// The lock file.
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The driver's directory.
    pub fn pool(&self) -> PathBuf {
        self.root.join("pool")
    }

    /// Where builds have what they need while they run.
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// Where cache mounts of builds lie.
    pub fn build_caches(&self) -> PathBuf {
        self.root.join("build-caches")
    }

    /// The parent of all kept archives of layers.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where the archive is kept that a layer came from.
    pub fn blob(&self, layer: &CacheId) -> PathBuf {
        self.blobs().join(layer.as_str())
    }

    /// Where layers are downloaded to.
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// The parent of all data volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The parent of what is kept of containers besides their volumes.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The parent of all mount points.
    pub fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    /// Where a container is mounted.
    pub fn mount_point(&self, container: &ContainerId) -> PathBuf {
        self.mounts().join(container.as_str())
    }
}
