//! What a container has of the host, and of volumes: bound into its tree, not part of its own volume.

use std::path::{Path, PathBuf};

use super::{
    Container,
    settings::{Source, VolumeMount},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    runtime::{Mount, MountKind},
};

/// Where on the host what `container` has at a volume's place lies. A directory of the host that is missing is made, as
/// Docker does.
pub(super) fn host_path(container: &Container, volume: &VolumeMount) -> Result<PathBuf> {
    match &volume.source {
        Source::Host(path) => {
            let path = Path::new(path);
            if !path.exists() {
                std::fs::create_dir_all(path).act(|| format!("make {}", path.display()))?;
            }
            Ok(path.to_owned())
        }
        Source::Named(_) | Source::Anonymous => Err(Error::new(
            Kind::Unsupported,
            format!(
                "container {} has a volume at {}, and named volumes are not there yet",
                container.name, volume.target
            ),
        )),
    }
}

/// Its mount.
pub(super) fn bind(volume: &VolumeMount, source: PathBuf) -> Mount {
    let mut options = ["rbind", "rprivate"].map(str::to_owned).to_vec();
    if volume.read_only {
        options.push("ro".to_owned());
    }
    Mount { target: volume.target.clone(), kind: MountKind::Bind, source, options }
}

/// Reads `-v` of the command line: `/HOST:/DIR[:ro|:rw]`, `NAME:/DIR[:...]`, or `/DIR`.
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
        Some(name) => match super::checked_name(name) {
            Ok(name) => Source::Named(name),
            Err(_) => {
                return invalid("a volume's name has only [a-zA-Z0-9][a-zA-Z0-9_.-], a path of the host begins with /");
            }
        },
    };
    if !target.starts_with('/') || target == "/" {
        return invalid("the place inside must be an absolute path, and not '/'");
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            _ => return invalid("the only options are ro and rw"),
        }
    }
    Ok(VolumeMount { source, target: target.trim_end_matches('/').to_owned(), read_only })
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
        for bad in ["", "b", "/a:b", "/a:/", "a/b:/c", "/a:/b:x", "/a:/b:ro:rw"] {
            assert!(parse_volume(bad).is_err(), "{bad}");
        }
    }
}
