//! A git repository of the image, switched from one version to another.

use std::{fs, path::Path};

use super::{Across, How, Workload};
use crate::{
    bench::{
        command::{other, succeed},
        ground::Directory,
        rows::{Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Act as _, Result},
    program::{GIT, Program},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct Checkout;

/// See the module's comment.
pub(in crate::bench) const CHECKOUT: Checkout = Checkout;

impl Workload for Checkout {
    fn name(&self) -> &'static str {
        "checkout"
    }

    fn about(&self) -> &'static str {
        "git checkout of a version that changes a fifth of the files and removes a tenth, and back again, with sync"
    }

    fn tests(&self) -> &'static str {
        "All changes made to the running container, such as writing new files, modifying existing files, and deleting files, \
         are written to this thin writable container layer."
    }

    fn needs(&self) -> &'static [Program] {
        &[GIT]
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

fn files(scale: &Scale) -> usize {
    scale.sources * 100
}

impl Across for Checkout {
    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(files(scale) as u64 * 8192 * 6)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.3 + super::number(files(scale) as u64) * 1e-3
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let directory = Directory::new(&stage.volume()?, "repository")?;
        let path = directory.path().join("repository");
        fs::create_dir(&path).act(|| format!("make {}", path.display()))?;
        make(&path, files(scale))?;
        let mut tar = tree::stream(move |tar| tar.append_dir_all("repository", &path))?;
        stage.import("repository", &mut tar)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        let at = format!("{} files", files(scale));
        with_container(stage, ("developer", "repository"), || {
            inside(stage, "developer", |root| {
                let repository = root.join("repository");
                for (what, version) in [("checkout", "second"), ("checkout back", "first")] {
                    samples.time(what, &at, || {
                        git(&repository, &["checkout", "--quiet", version])?;
                        super::write_out(root)
                    })?;
                }
                Ok(())
            })
        })
    }
}

fn make(path: &Path, files: usize) -> Result<()> {
    git(path, &["init", "--quiet"])?;
    tree::fill(path, files)?;
    commit(path, "first")?;
    for number in 0..files {
        let file = path.join(tree::nth(number));
        match number % 10 {
            0 => fs::remove_file(&file),
            1 | 2 => fs::write(&file, format!("the second version of {number}")),
            _ => Ok(()),
        }
        .act(|| format!("change {}", file.display()))?;
    }
    commit(path, "second")?;
    git(path, &["checkout", "--quiet", "first"])
}

fn commit(path: &Path, version: &str) -> Result<()> {
    git(path, &["add", "--all"])?;
    git(path, &["commit", "--quiet", "--message", version])?;
    git(path, &["tag", version])
}

/// Whatever the user has configured does not count.
fn git(path: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = other(GIT, &["-c", "user.name=bench", "-c", "user.email=bench@localhost"])?;
    command.args(["-c", "gc.auto=0", "-c", "advice.detachedHead=false", "-c", "safe.directory=*"]);
    command.arg("-C").arg(path).args(arguments);
    command.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")]);
    succeed(command)
}
