//! What a container has of the host, and of volumes: bound into its tree, not part of its own volume.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use rusqlite::Transaction;

use super::{
    Container, Containers,
    settings::{Settings, Source, VolumeMount},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::Mounted,
    id::ContainerId,
    runtime::{Mount, MountKind, make_bare_points},
    volume::{Draft, Volume, Volumes, attach},
};

/// A data volume that a container is to have.
pub(super) struct Wanted<'store> {
    volume: Found<'store>,
    target: String,
    read_only: bool,
}

enum Found<'store> {
    /// It has a name, and stays whatever becomes of the container.
    Named(Volume),
    /// It was made for this container.
    Anonymous(Draft<'store>),
}

impl Wanted<'_> {
    /// Gives it to the container in the transaction that publishes that.
    pub(super) fn attach(&self, tx: &Transaction<'_>, container: &ContainerId) -> Result<()> {
        match &self.volume {
            Found::Named(volume) => attach(tx, container, volume, &self.target, self.read_only),
            Found::Anonymous(draft) => attach(tx, container, &draft.publish(tx)?, &self.target, self.read_only),
        }
    }
}

impl<'store> Containers<'store> {
    /// The data volumes of the settings, made if they are not there.
    pub(super) fn wanted_volumes(&self, settings: &Settings) -> Result<Vec<Wanted<'store>>> {
        let volumes = Volumes::of(self.store);
        let mut all = Vec::new();
        for VolumeMount { source, target, read_only, .. } in &settings.volumes {
            let volume = match source {
                Source::Host(_) => continue,
                Source::Named(name) => Found::Named(volumes.create(Some(name), &BTreeMap::new())?),
                Source::Anonymous => Found::Anonymous(volumes.draft()?),
            };
            all.push(Wanted { volume, target: target.clone(), read_only: *read_only });
        }
        Ok(all)
    }

    /// All that the container has besides its volume, what lies above others first. With the container's lock held; a
    /// data volume is filled from the tree at `root` before its first use, or from a mount of its own.
    pub(super) fn mounts(
        &self,
        container: &Container,
        settings: &Settings,
        root: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<Mount>> {
        let mut mounts = self.home(container).binds(settings.read_only);
        // What the user puts in the place of one of these is there instead.
        mounts.retain(|mount| !settings.targets().any(|taken| taken == mount.target));
        for volume in &settings.volumes {
            mounts.push(bind(volume, self.host_path(container, volume, root)?));
        }
        mounts.extend(settings.tmpfs.iter().map(|tmpfs| Mount {
            target: tmpfs.target.clone(),
            kind: MountKind::Tmpfs,
            source: "tmpfs".into(),
            options: [&["nosuid", "nodev", "noexec"].map(str::to_owned), tmpfs.options.as_slice()].concat(),
        }));
        mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
        let of_ours = settings.volumes.iter().filter(|volume| !matches!(volume.source, Source::Host(_)));
        of_ours.map(|volume| &volume.target).try_for_each(|target| make_points_in(target, &mounts))?;
        Ok(mounts)
    }

    /// Where on the host what the container has at a volume's place lies. A directory of the host that is missing is
    /// made, as Docker does.
    fn host_path(&self, container: &Container, wanted: &VolumeMount, root: Option<BorrowedFd<'_>>) -> Result<PathBuf> {
        if let Source::Host(path) = &wanted.source {
            let path = Path::new(path);
            if !path.exists() {
                fs::create_dir_all(path).act(|| format!("make {}", path.display()))?;
            }
            return Ok(path.to_owned());
        }
        let volumes = Volumes::of(self.store);
        let attached = volumes.attached(&container.id)?;
        let Some(found) = attached.iter().find(|attached| attached.target == wanted.target) else {
            let what = format!("container {} has no volume at {}; make it anew", container.name, wanted.target);
            return Err(Error::new(Kind::Corrupt, what));
        };
        if volumes.is_used(&found.volume)? {
            return Ok(volumes.path(&found.volume));
        }
        if wanted.no_copy {
            return volumes.enter_empty(&found.volume);
        }
        if let Some(root) = root {
            return volumes.enter(&found.volume, root, Path::new(&wanted.target));
        }
        let key = container.key();
        let mounted = Mounted::detached(&self.store.mounts(&key)?)?;
        // From here on the volume's device goes with the mount.
        self.store.release(&key)?;
        volumes.enter(&found.volume, mounted.root(), Path::new(&wanted.target))
    }
}

/// Makes the places of what is mounted in the data volume at `target`: the runtime cannot where that is read-only.
fn make_points_in(target: &str, mounts: &[Mount]) -> Result<()> {
    let inside = |mount: &Mount| {
        let place = mount.target.strip_prefix(target).filter(|place| place.starts_with('/'))?;
        Some(Mount { target: place.to_owned(), ..mount.clone() })
    };
    let inside: Vec<Mount> = mounts.iter().filter_map(inside).collect();
    let volume = mounts.iter().rfind(|mount| mount.target == target && mount.kind == MountKind::Bind);
    let Some(volume) = volume.filter(|_| !inside.is_empty()) else { return Ok(()) };
    let act = || format!("make mount points in {}", volume.source.display());
    let root = File::open(&volume.source).act(act)?;
    make_bare_points(root.as_fd(), &inside).act(act)
}

/// Its mount.
fn bind(volume: &VolumeMount, source: PathBuf) -> Mount {
    let mut options = ["rbind", "rprivate"].map(str::to_owned).to_vec();
    if volume.read_only {
        // What is mounted below, too, as Docker has it: the first alone leaves that writable.
        options.extend(["ro", "rro"].map(str::to_owned));
    }
    Mount { target: volume.target.clone(), kind: MountKind::Bind, source, options }
}

/// Reads `-v` of the command line: `/HOST:/DIR[:ro|:rw]`, `./HOST:/DIR[:...]`, `NAME:/DIR[:...]`, or `/DIR`.
///
/// # Errors
/// `Invalid`.
pub fn parse_volume(text: &str) -> Result<VolumeMount> {
    let invalid = |why: &str| {
        Err(Error::new(Kind::Invalid, format!("invalid volume specification: '{}': {why}", text.escape_debug())))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return invalid("write VOLUME:/DIR, /HOST:/DIR or /DIR, with :ro behind it"),
    };
    let source = match source {
        None => Source::Anonymous,
        Some(path) if path.starts_with('/') => Source::Host(path.to_owned()),
        Some(path) if path.starts_with('.') => {
            let here = std::path::absolute(path).act(|| format!("find {path}"))?;
            let here = here.to_str().ok_or_else(|| Error::new(Kind::Invalid, "the directory's name is no UTF-8"))?;
            Source::Host(super::settings::clean(here))
        }
        Some(name) => match super::checked_name(name) {
            Ok(name) => Source::Named(name),
            Err(_) => {
                return invalid(
                    "a volume's name has only [a-zA-Z0-9][a-zA-Z0-9_.-], a path of the host begins with / or .",
                );
            }
        },
    };
    if !target.starts_with('/') || target == "/" {
        return invalid("the place inside must be an absolute path, and not '/'");
    }
    let (mut read_only, mut no_copy) = (false, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => no_copy = true,
            // Labels of SELinux, which Docker ignores too where that is off.
            "z" | "Z" if !Path::new("/sys/fs/selinux/enforce").exists() => {}
            "z" | "Z" => return invalid("z and Z give labels of SELinux, which lamina does not; use chcon(1)"),
            _ => return invalid("the only options are ro, rw, nocopy, z and Z"),
        }
    }
    if no_copy && matches!(source, Source::Host(_)) {
        return invalid("nocopy is for volumes, nothing is copied into a directory of the host");
    }
    Ok(VolumeMount { source, target: target.trim_end_matches('/').to_owned(), read_only, no_copy })
}

#[cfg(test)]
mod tests {
    use super::parse_volume;
    use crate::container::settings::Source;

    #[test]
    fn volumes_are_told_from_paths() {
        let host = parse_volume("/a:/b/:ro").unwrap();
        assert_eq!((host.source, host.target.as_str(), host.read_only), (Source::Host("/a".into()), "/b", true));
        assert_eq!(parse_volume("data:/b").unwrap().source, Source::Named("data".into()));
        assert_eq!(parse_volume("/b").unwrap().source, Source::Anonymous);
        let here = std::env::current_dir().unwrap();
        let above = Source::Host(here.parent().unwrap().join("x").to_str().unwrap().to_owned());
        assert_eq!(parse_volume("./.././x:/b").unwrap().source, above);
        assert!(parse_volume("data:/b:nocopy,ro").is_ok_and(|volume| volume.no_copy && volume.read_only));
        for bad in ["", "b", "/a:b", "/a:/b:nocopy", "/a:/", "a/b:/c", "/a:/b:x", "/a:/b:ro:rw"] {
            assert!(parse_volume(bad).is_err(), "{bad}");
        }
    }
}
