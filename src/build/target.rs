//! Where files go in an image: paths resolved inside its tree, and what is there already.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat},
    io::Errno,
};

use crate::error::{Act as _, Error, Kind, Result};

/// An absolute path of an image: `path` itself, or below `working_directory`, without `.` and `..`.
pub(super) fn absolute(working_directory: impl AsRef<Path>, path: impl AsRef<Path>) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new("/").join(working_directory).join(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// What a path of an image leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Relative to the root, without links; the last `missing` names do not exist.
    pub(super) path: PathBuf,
    pub(super) missing: usize,
    pub(super) is_dir: bool,
}

/// Follows `path` inside the tree at `root`, as far as it exists; a link that leads to nothing is where that will be made.
///
/// # Errors
/// The kernel's reason, as for links that lead in a circle.
pub(super) fn resolve(root: BorrowedFd<'_>, path: &Path) -> Result<Resolved> {
    follow(root, path, LINKS)
}

/// As many links to nothing as one path may have, as in the kernel (`MAXSYMLINKS`).
const LINKS: usize = 40;

fn follow(root: BorrowedFd<'_>, path: &Path, links: usize) -> Result<Resolved> {
    let act = || format!("look for {} in the image", path.display());
    let names: Vec<_> = path.components().filter(|component| matches!(component, Component::Normal(_))).collect();
    for existing in (0..=names.len()).rev() {
        let prefix: PathBuf = names.get(..existing).unwrap_or_default().iter().collect();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = match openat2(root, Path::new(".").join(&prefix), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            fd => fd.act(act)?,
        };
        let is_dir = FileType::from_raw_mode(fstat(&fd).act(act)?.st_mode) == FileType::Directory;
        if existing < names.len() && !is_dir {
            let what = format!("{}: /{} is not a directory", act(), prefix.display());
            return Err(Error::new(Kind::Invalid, what));
        }
        let base = place_of(root, &fd).act(act)?;
        let missing = names.get(existing..).unwrap_or_default();
        if let Some((link, rest)) = missing.split_first()
            && let Ok(leads) = readlinkat(&fd, link.as_os_str(), Vec::new())
        {
            let left =
                links.checked_sub(1).ok_or_else(|| Error::new(Kind::Invalid, format!("{}: too many links", act())))?;
            let leads = absolute(base, OsStr::from_bytes(leads.as_bytes()));
            return follow(root, &rest.iter().fold(leads, |path, name| path.join(name)), left);
        }
        // Joined one by one: an empty rest would add a slash, which only a directory may have.
        let path = missing.iter().fold(base, |path, name| path.join(name));
        return Ok(Resolved { path, missing: missing.len(), is_dir });
    }
    Err(Error::new(Kind::NotFound, act()))
}

/// The path of an open file below `root`, as the kernel knows it.
fn place_of(root: BorrowedFd<'_>, fd: &impl std::os::fd::AsFd) -> Result<PathBuf> {
    let of = |fd: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        std::fs::read_link(&link).act(|| format!("read {link}"))
    };
    let (root, path) = (of(root)?, of(fd.as_fd())?);
    path.strip_prefix(&root)
        .map(Path::to_owned)
        .map_err(|_| Error::new(Kind::Io, format!("{} is not below {}", path.display(), root.display())))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd as _, os::unix::fs::symlink, path::Path};

    use super::{absolute, resolve};

    #[test]
    fn paths_start_at_the_working_directory() {
        for (at, path, wanted) in [
            ("", "a", "/a"),
            ("/w", "a/../b/.", "/w/b"),
            ("w", "x", "/w/x"),
            ("/w", "/x/", "/x"),
            ("/w", "../../..", "/"),
        ] {
            assert_eq!(absolute(at, path), Path::new(wanted), "{at} {path}");
        }
    }

    #[test]
    fn links_lead_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("/../../usr", root.join("up")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let open = fs::File::open(root).unwrap();
        let found = |path: &str| resolve(open.as_fd(), Path::new(path));
        let shown = |path: &str| {
            let found = found(path).unwrap();
            (found.path.display().to_string(), found.missing, found.is_dir)
        };
        assert_eq!(shown("/"), (String::new(), 0, true));
        assert_eq!(shown("/bin"), ("usr/bin".to_owned(), 0, true));
        assert_eq!(shown("/up/new/deep"), ("usr/new/deep".to_owned(), 2, true));
        assert_eq!(shown("/file"), ("file".to_owned(), 0, false));
        assert!(!shown("/usr/bin").0.ends_with('/'));
        // A link to nothing is followed to where that will be.
        for (link, leads) in
            [("hangs", "/not/there"), ("usr/out", "../../../gone"), ("on", "hangs"), ("circle", "circle")]
        {
            symlink(leads, root.join(link)).unwrap();
        }
        assert_eq!(shown("/hangs"), ("not/there".to_owned(), 2, true));
        assert_eq!(shown("/on/x"), ("not/there/x".to_owned(), 3, true));
        assert_eq!(shown("/usr/out/x"), ("gone/x".to_owned(), 2, true));
        assert!(found("/circle/x").is_err());
        assert!(found("/file/x").unwrap_err().to_string().contains("/file is not a directory"));
    }
}
