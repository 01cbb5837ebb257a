//! What `RUN --mount=type=bind` shows of the build context, and that nothing comes of it but what it shows.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use lamina::fs::Mounted;
use nix::mount::{MsFlags, mount};

use super::{base, build, built, cached, context, tree, trouble::written};
use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

/// A file system of its own in the context; unmounted when it is dropped.
struct Below(PathBuf);

impl Below {
    fn new(path: PathBuf) -> Outcome<Self> {
        fs::create_dir_all(&path)?;
        mount(Some("lamina-test"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        Ok(Self(path))
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        if let Err(error) = lamina::fs::unmount(&self.0) {
            eprintln!("unmount {}: {error}", self.0.display());
        }
    }
}

pub fn a_mounted_context_stays_what_it_was(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = r#"FROM base
RUN --mount=type=bind,target=/c,source=a*b cat /c > /literal
RUN --mount=type=bind,target=/c cat /c/below/inner > /inner; for f in /c/new /c/below/new /c/below/inner; do \
    if echo x > $f; then exit 9; fi; done; cat /c/below/inner >> /inner
"#;
    let directory = context(host, dockerfile, &[("a*b", "star"), ("axb", "other")])?;
    let below = Below::new(directory.join("below"))?;
    fs::write(below.0.join("inner"), "inner")?;
    built(host, &["-t", "mounted"])?;
    let root = tree(host, "mounted")?;
    expect_eq!(fs::read_to_string(root.join("literal"))?, "star");
    expect_eq!(fs::read_to_string(root.join("inner"))?, "innerinner");
    expect!(!directory.join("new").exists() && fs::read_dir(&below.0)?.count() == 1, "nothing is written through");
    // The name is no pattern for the cache either: only that file counts.
    fs::write(directory.join("axb"), "changed")?;
    fs::write(directory.join("a*b"), "star")?;
    expect_eq!(cached(&build(host, &[])?), 1);
    drop(below);
    what_is_held_stays(&directory)?;
    changes_are_told(host)
}

/// What the runtime is given is what the path led to when it was looked at, whatever is there when it mounts that.
fn what_is_held_stays(directory: &Path) -> Outcome {
    let (place, away) = (directory.join("held"), directory.join("away"));
    fs::create_dir(&place)?;
    fs::write(place.join("file"), "held")?;
    let held = Mounted::part(fs::File::open(directory)?.as_fd(), Path::new("/held"))?;
    fs::rename(&place, &away)?;
    std::os::unix::fs::symlink("/etc", &place)?;
    expect_eq!(fs::read_to_string(held.path().join("file"))?, "held");
    let written = fs::write(held.path().join("file"), "x").map_err(|error| error.kind());
    expect_eq!(written, Err(std::io::ErrorKind::ReadOnlyFilesystem));
    Ok(fs::remove_file(place)?)
}

/// A context that changes while a command sees it gives no layer: the cache would have it under another content's name.
fn changes_are_told(host: &Host) -> Outcome {
    for mount in ["type=bind,target=/ctx,source=file", "type=bind,target=/ctx,source=file,rw"] {
        let dockerfile = format!(
            "FROM base\nRUN --mount=type=cache,target=/c --mount={mount} busybox mkfifo /c/go; touch /c/started; \
             cat /c/go > /told\n"
        );
        let directory = context(host, &dockerfile, &[("file", "before")])?;
        let child = host.spawn(&["build", &directory.to_string_lossy()], Stdio::null())?;
        let started = written(host)?;
        fs::write(directory.join("file"), "after")?;
        fs::write(started.with_file_name("go"), "go")?;
        let said = Said::from(child.wait_with_output()?);
        let words = "Dockerfile:2:1: mount file of the build context: it changed while the build read it";
        expect!(said.code == Some(1) && said.err.contains(words), "{said:?}");
        fs::remove_file(started)?;
        host.check()?;
    }
    // What a copy shows counts, attributes of files and directories included, and times do not.
    let directory = context(host, "FROM base\nCOPY tree /t\n", &[("tree/deep/file", "x")])?;
    let deep = directory.join("tree/deep");
    let hits = || -> Outcome<_> { Ok(cached(&build(host, &["-t", "keyed"])?)) };
    expect_eq!((hits()?, hits()?), (0, 1));
    fs::File::open(&deep)?.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
    fs::File::open(deep.join("file"))?.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
    expect_eq!(hits()?, 1);
    for path in [deep.join("file"), deep] {
        rustix::fs::setxattr(&path, "user.lamina", b"v", rustix::fs::XattrFlags::empty())?;
        expect_eq!((hits()?, hits()?), (0, 1));
    }
    let copied = tree(host, "keyed")?.join("t/deep");
    let mut value = [0; 8];
    expect_eq!(rustix::fs::getxattr(copied, "user.lamina", &mut value)?, 1);
    host.check()
}
