//! The overlay driver: one directory per volume with what it changed, stacked by overlayfs. Copy-on-write by whole
//! files, for comparison with the block-level drivers.
//!
//! Invariant: a volume's directory is a plain overlay upper directory, whose meaning depends on no other state: no
//! redirects, no metadata-only copies, no index (see the options in `fs/mount.rs`). So it can be copied, and stacked
//! below any child. A volume without parents is no overlay at all, but its directory itself.
//!
//! What overlayfs cannot do, and Docker's overlay2 cannot either: writing a file of a lower layer through one of
//! several hard links parts it from the others; renaming a directory of a lower layer gives `EXDEV`; a character
//! device 0:0 cannot be in a layer, because that is what a whiteout is. [`Driver::capture`] of a volume that is written
//! meanwhile copies file by file, each as it was when it was opened, but not all of one instant: a directory of the
//! host cannot be frozen.

mod changes;

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::{
    fs::{Dir, FileType, Mode, fstat, mkdirat, mknodat},
    io::Errno,
    mount::{FsOpenFlags, fsopen},
};

use super::{
    Access, Changes, Driver, DriverKind,
    pool::PoolSpec,
    shelf::{self, Shelf, Shelved},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::{MountSpec, Mounted, Place, Verdict, compare, remove_tree, set_metadata},
    id::VolumeId,
};

/// As many directories as overlayfs stacks (`OVL_MAX_STACK`, fs/overlayfs/params.h).
const MAX_LOWERS: usize = 500;

/// See [`Driver`].
#[derive(Debug)]
pub struct Overlay {
    shelf: Shelf,
}

pub(super) fn supported() -> Result<()> {
    match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Ok(()),
        Err(Errno::NODEV) => Err(Error::new(Kind::Unsupported, "this kernel has no overlayfs (CONFIG_OVERLAY_FS)")),
        Err(errno) => Err(errno).act(|| "look for overlayfs"),
    }
}

pub(super) fn create(spec: &PoolSpec) -> Result<()> {
    supported()?;
    shelf::create(spec, holds_layers)
}

pub(super) fn destroy(spec: &PoolSpec) -> Result<()> {
    shelf::destroy(spec)
}

/// Tries in `base` whether its file system can hold an upper directory: it must keep whiteouts and `trusted.*`
/// attributes, and tell the types of entries when a directory is read.
fn holds_layers(base: BorrowedFd<'_>) -> Result<()> {
    let try_all = || -> Result<()> {
        mkdirat(base, shelf::PROBE, Mode::RWXU).act(|| "make a directory")?;
        let place = Place { dir: base, name: shelf::PROBE };
        place.set_xattr(c"trusted.overlay.opaque", b"y")?;
        let dir = place.open_dir()?;
        mknodat(&dir, c"whiteout", FileType::CharacterDevice, Mode::empty(), 0).act(|| "make a whiteout")?;
        let mut entries = Dir::read_from(&dir).act(|| "read a directory")?;
        if entries.any(|entry| entry.is_ok_and(|entry| entry.file_type() == FileType::Unknown)) {
            return Err(Error::new(
                Kind::Unsupported,
                "reading a directory does not tell the types of entries (d_type)",
            ));
        }
        Ok(())
    };
    let tried = try_all().act(|| "this file system cannot hold layers of overlayfs");
    let removed = remove_tree(base, shelf::PROBE);
    match tried {
        Ok(()) => removed,
        Err(error) => Err(error.and_undo(removed)),
    }
}

impl Overlay {
    pub(super) fn open(spec: &PoolSpec) -> Result<Self> {
        Ok(Self { shelf: Shelf::open(spec)? })
    }
}

impl Shelved for Overlay {
    const KIND: DriverKind = DriverKind::Overlay;

    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn make_child(&self, id: VolumeId, parent: VolumeId) -> Result<()> {
        let parent = self.shelf.tree(parent)?;
        // The root of a mounted overlay shows the metadata of the upper directory, so that must be the parent's.
        self.shelf.make(id, Access::ReadWrite, |tree| {
            let stat = fstat(&parent).act(|| "look at the parent")?;
            let mut xattrs = Place::new(&parent, c".").xattrs()?;
            xattrs.retain(|name, _| !name.to_bytes().starts_with(b"trusted.overlay."));
            set_metadata(Place::new(&tree, c"."), &stat, &xattrs)
        })
    }

    fn spec(&self, id: VolumeId, parents: &[VolumeId], access: Access) -> Result<MountSpec> {
        let base = self.shelf.base();
        if parents.is_empty() {
            return Ok(MountSpec::Bind { directory: base.join(id.to_string()), access });
        }
        let names = parents.iter().map(VolumeId::to_string);
        let (lowers, upper) = match access {
            Access::ReadOnly => (std::iter::once(id.to_string()).chain(names).collect(), None),
            Access::ReadWrite => (names.collect::<Vec<_>>(), Some((id.to_string(), format!("../work/{id}")))),
        };
        if lowers.len() > MAX_LOWERS {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "mount volume {id}: it lies on {} layers and overlayfs stacks at most {MAX_LOWERS}",
                    lowers.len()
                ),
            ));
        }
        Ok(MountSpec::Overlay { base, lowers, upper })
    }

    fn compared(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes> {
        let upper = self.shelf.tree(id)?;
        let Some((parent, above)) = parents.split_first() else {
            return compare(None, upper.as_fd(), &mut |_| Ok(Verdict::Unknown));
        };
        let parent = Mounted::detached(&self.mounts(*parent, above, Access::ReadOnly)?)?;
        changes::changes(parent.root(), upper.as_fd())
    }
}
