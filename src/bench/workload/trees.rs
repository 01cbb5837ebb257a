//! Deep directory trees, and many small files: made, walked, changed, deleted.

use std::{
    fs, io,
    path::{Path, PathBuf},
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
pub(in crate::bench) struct Trees;

/// See the module's comment.
pub(in crate::bench) const TREES: Trees = Trees;

impl Workload for Trees {
    fn name(&self) -> &'static str {
        "trees"
    }

    fn about(&self) -> &'static str {
        "change a file 64 directories deep in the image; make such a tree, and one of small files, in the container; walk the \
         image's, cold and warm; change 1 % of the image's small files for the first time; delete the image's trees; with \
         sync where it writes"
    }

    fn tests(&self) -> &'static str {
        "Large files, lots of layers, and deep directory trees can make the impact more noticeable."
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

const DEPTH: usize = 64;

fn deep() -> PathBuf {
    (0..DEPTH).map(|level| format!("deep{level}")).collect()
}

impl Across for Trees {
    fn room(&self, scale: &Scale) -> Bytes {
        Bytes((scale.tree as u64 + 100) * 8192 * 3)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.3 + super::number(scale.tree as u64) * 5e-4
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let files = scale.tree;
        let mut tar = tree::stream(move |tar| {
            tree::add_directory(tar, Path::new("image"))?;
            tree::small_files(tar, Path::new("image"), files)?;
            let deep = deep();
            for level in deep.ancestors().collect::<Vec<_>>().iter().rev().filter(|path| !path.as_os_str().is_empty()) {
                tree::add_directory(tar, level)?;
            }
            tree::add_file(tar, &deep.join("file"), 6, b"bottom".as_slice())
        })?;
        stage.import("trees", &mut tar)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        with_container(stage, ("gardener", "trees"), || inside(stage, "gardener", |root| work(root, scale, samples)))
    }
}

fn work(root: &Path, scale: &Scale, samples: &mut Samples) -> Result<()> {
    let files = scale.tree;
    let at = format!("{files} files");
    let image = root.join("image");
    let bottom = root.join(deep()).join("file");
    samples.time("first change, 64 deep", "", || append(&bottom).and_then(|()| super::write_out(root)))?;
    deep_tree(root, scale, samples)?;
    samples.time("make", &at, || {
        let new = root.join("new");
        fs::create_dir(&new).act(|| format!("make {}", new.display()))?;
        tree::fill(&new, files)?;
        super::write_out(root)
    })?;
    samples.time_cold(("walk, cold", &at), (root, scale), &|| walk(&image, files))?;
    samples.time("walk, warm", &at, || walk(&image, files))?;
    samples.time("first change of 1 %", &at, || {
        (0..files).step_by(100).try_for_each(|number| append(&image.join(tree::nth(number))))?;
        super::write_out(root)
    })?;
    samples.time("delete", &at, || {
        fs::remove_dir_all(&image).act(|| format!("remove {}", image.display()))?;
        super::write_out(root)
    })
}

/// Makes a deep tree, and walks and deletes the image's.
fn deep_tree(root: &Path, scale: &Scale, samples: &mut Samples) -> Result<()> {
    samples.time("make, 64 deep", "", || {
        let new = root.join("new-deep").join(deep());
        fs::create_dir_all(&new).act(|| format!("make {}", new.display()))?;
        let file = new.join("file");
        fs::write(&file, b"bottom").act(|| format!("write {}", file.display()))?;
        super::write_out(root)
    })?;
    let top = root.join("deep0");
    samples.time_cold(("walk, cold, 64 deep", ""), (root, scale), &|| walk(&top, 1))?;
    samples.time("walk, warm, 64 deep", "", || walk(&top, 1))?;
    samples.time("delete, 64 deep", "", || {
        fs::remove_dir_all(&top).act(|| format!("remove {}", top.display()))?;
        super::write_out(root)
    })
}

fn append(path: &Path) -> Result<()> {
    let add = || io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(path)?, b"changed");
    add().act(|| format!("append to {}", path.display()))
}

/// Looks at every file, as `find` or `ls -lR` do.
fn walk(root: &Path, files: usize) -> Result<()> {
    let mut found = 0;
    let mut left = vec![root.to_owned()];
    let act = |path: &Path| format!("walk {}", path.display());
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).act(|| act(&directory))? {
            let entry = entry.act(|| act(&directory))?;
            if entry.metadata().act(|| act(&directory))?.is_dir() {
                left.push(entry.path());
            } else {
                found += 1;
            }
        }
    }
    super::expect_number(found, files, "files of a tree")
}
