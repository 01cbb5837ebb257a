//! Finding what lies below many layers: lookup, open and reading of a directory, warm and cold.

use std::{
    fs::{self, File},
    path::Path,
};

use super::{Across, How, Workload};
use crate::{
    bench::{
        Unit,
        ground::Directory,
        rows::{Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Act as _, Result},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct Depth;

/// See the module's comment.
pub(in crate::bench) const DEPTH: Depth = Depth;

impl Workload for Depth {
    fn name(&self) -> &'static str {
        "depth"
    }

    fn about(&self) -> &'static str {
        "look up and open a file of the lowest of many layers, and list a directory to which each layer added a file, cold and \
         warm (the mean of a hundred)"
    }

    fn tests(&self) -> &'static str {
        "Search through the image layers for the file to update. The process starts at the newest layer and works down to \
         the base layer one layer at a time. When results are found, they are added to a cache to speed future operations."
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

/// A lookup that hits a cache is shorter than a clock can tell.
const TIMES: u32 = 100;

impl Across for Depth {
    fn room(&self, scale: &Scale) -> Bytes {
        // vfs has a copy for each layer.
        Bytes(scale.depths.iter().max().copied().unwrap_or_default() as u64 * (4 << 20))
    }

    fn cost(&self, scale: &Scale) -> f64 {
        super::number(scale.depths.iter().sum::<usize>() as u64) * 0.01 + super::number(scale.depths.len() as u64) * 0.1
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let mut tar = tree::stream(|tar| {
            tree::small_files(tar, Path::new("lowest"), 100)?;
            tree::add_directory(tar, Path::new("grown"))?;
            tree::add_file(tar, Path::new("grown/1"), 1, b"x".as_slice())
        })?;
        stage.import("depth-1", &mut tar)?;
        let context = Directory::new(&stage.volume()?, "context")?;
        let file = context.path().join("file");
        fs::write(&file, "added").act(|| format!("write {}", file.display()))?;
        let mut below = 1;
        for depth in scale.depths.iter().copied().filter(|depth| *depth > 1) {
            let mut dockerfile = format!("FROM bench/depth-{below}\n");
            for layer in below + 1..=depth {
                dockerfile += &format!("COPY file /grown/{layer}\n");
            }
            stage.build(&format!("depth-{depth}"), &dockerfile, context.path())?;
            below = depth;
        }
        Ok(())
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        for depth in scale.depths {
            with_container(stage, ("reader", &format!("depth-{depth}")), || {
                inside(stage, "reader", |root| look(root, *depth, scale, samples))
            })?;
        }
        Ok(())
    }
}

fn look(root: &Path, depth: usize, scale: &Scale, samples: &mut Samples) -> Result<()> {
    let at = if depth == 1 { "1 layer".to_owned() } else { format!("{depth} layers") };
    let file = root.join("lowest").join(tree::nth(50));
    let open = || File::open(&file).map(drop).act(|| format!("open {}", file.display()));
    let directory = root.join("grown");
    let list = || -> Result<()> {
        let count = || fs::read_dir(&directory)?.try_fold(0, |count, entry| entry.map(|_| count + 1));
        let found: usize = count().act(|| format!("read {}", directory.display()))?;
        super::expect_number(found, depth, "entries of a directory")
    };
    let measures: [(_, _, &dyn Fn() -> Result<()>); 2] =
        [("lookup and open, cold", "lookup and open, warm", &open), ("readdir, cold", "readdir, warm", &list)];
    for (cold, warm, work) in measures {
        samples.time_cold((cold, &at), (root, scale), work)?;
        let time = super::seconds(|| (0..TIMES).try_for_each(|_| work()))?;
        samples.add(warm, &at, Unit::Seconds, time / f64::from(TIMES));
    }
    Ok(())
}
