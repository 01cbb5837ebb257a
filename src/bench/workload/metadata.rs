//! Changes of metadata that touch no data: of a large file, and of a directory with many files.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use super::{Across, How, Workload};
use crate::{
    bench::{
        rows::{Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Act as _, Result},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct Metadata;

/// See the module's comment.
pub(in crate::bench) const METADATA: Metadata = Metadata;

impl Workload for Metadata {
    fn name(&self) -> &'static str {
        "metadata"
    }

    fn about(&self) -> &'static str {
        "chmod, chown, rename and open for writing, without a write, of large files of the image; the same of a directory with \
         many files, and chmod of each of them; each with sync"
    }

    fn tests(&self) -> &'static str {
        "If a file or directory exists in a lower layer within the image … The first time another layer needs to modify the \
         file … the file is copied into that layer and modified."
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

type Change = fn(&Path) -> io::Result<()>;

const CHANGES: [(&str, Change); 4] = [
    ("chmod", |path| fs::set_permissions(path, Permissions::from_mode(0o700))),
    ("chown", |path| chown(path, Some(1), Some(1))),
    ("rename", |path| fs::rename(path, path.with_extension("renamed"))),
    ("open for writing", |path| OpenOptions::new().write(true).open(path).map(drop)),
];

const DIRECTORY: &str = "directory";

impl Across for Metadata {
    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(scale.large.0 * 8 + scale.directory as u64 * 16_384)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.3 + super::seconds_for(scale.large, 0.1e9) + super::number(scale.directory as u64) * 1e-3
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let (large, files) = (scale.large, scale.directory);
        let mut tar = tree::stream(move |tar| {
            for (name, _) in CHANGES {
                tree::add_noise(tar, Path::new(name), large)?;
            }
            tree::add_directory(tar, Path::new(DIRECTORY))?;
            (0..files).try_for_each(|number| {
                tree::add_file(tar, &Path::new(DIRECTORY).join(number.to_string()), 1, io::repeat(b'x'))
            })
        })?;
        stage.import("metadata", &mut tar)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        with_container(stage, ("changer", "metadata"), || {
            inside(stage, "changer", |root| {
                let at = format!("file of {}", scale.large);
                for (what, change) in CHANGES {
                    attempt(samples, what, &at, root, || change(&root.join(what)))?;
                }
                change_directory(samples, scale, root)
            })
        })
    }
}

fn change_directory(samples: &mut Samples, scale: &Scale, root: &Path) -> Result<()> {
    let at = format!("directory of {} files", scale.directory);
    let path = root.join(DIRECTORY);
    for (what, change) in CHANGES.into_iter().filter(|(what, _)| matches!(*what, "chmod" | "chown")) {
        attempt(samples, what, &at, root, || change(&path))?;
    }
    attempt(samples, "chmod of each", &at, root, || {
        (0..scale.directory)
            .try_for_each(|number| fs::set_permissions(path.join(number.to_string()), Permissions::from_mode(0o600)))
    })?;
    attempt(samples, "rename", &at, root, || fs::rename(&path, root.join("renamed")))
}

/// Does it and writes it out. overlayfs refuses to rename a directory of the image, which is what is told then.
fn attempt(
    samples: &mut Samples,
    what: &'static str,
    at: &str,
    root: &Path,
    work: impl FnOnce() -> io::Result<()>,
) -> Result<()> {
    let mut refused = false;
    let time = super::seconds(|| {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => refused = true,
            done => done.act(|| format!("{what} of a {at}"))?,
        }
        super::write_out(root)
    })?;
    if refused {
        samples.cannot(what, at, "overlayfs refuses it (EXDEV): programs copy the directory instead");
    } else {
        samples.add(what, at, crate::bench::Unit::Seconds, time);
    }
    Ok(())
}
