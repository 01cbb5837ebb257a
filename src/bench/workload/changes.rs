//! Diff and commit of a container, by how many files of the image it changed.

use std::{fs, path::Path};

use super::{Across, How, Workload};
use crate::{
    bench::{
        rows::{Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Act as _, Error, Kind, Result},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct ChangedFiles;

/// See the module's comment.
pub(in crate::bench) const CHANGES: ChangedFiles = ChangedFiles;

impl Workload for ChangedFiles {
    fn name(&self) -> &'static str {
        "changes"
    }

    fn about(&self) -> &'static str {
        "tell what a container changed of an image of many files, and commit it"
    }

    fn tests(&self) -> &'static str {
        "Each layer is only a set of differences from the layer before it."
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

impl Across for ChangedFiles {
    fn asks_peers(&self) -> bool {
        true
    }

    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(scale.image as u64 * 8192 * 4)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        super::number(scale.changed.len() as u64 * scale.image as u64) * 1e-4 + 0.2
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        stage.has_layers()?;
        stage.import("many", &mut tree::archive(scale.image)?)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        for changed in scale.changed {
            with_container(stage, ("changed", "many"), || {
                inside(stage, "changed", |root| change(root, *changed, scale.image))?;
                let at = format!("{changed} of {} files", scale.image);
                samples.time("diff", &at, || match stage.changes("changed")? {
                    // Some tell the directories that the files are in, too.
                    found if found >= *changed => Ok(()),
                    found => Err(Error::new(Kind::Corrupt, format!("{found} changes are told of {changed}"))),
                })?;
                samples.time("commit", &at, || stage.commit("changed", "committed"))
            })?;
            stage.remove_image("committed")?;
        }
        Ok(())
    }
}

/// Writes into `changed` of the files, spread over all of them.
fn change(root: &Path, changed: usize, files: usize) -> Result<()> {
    (0..changed).try_for_each(|number| {
        let path = root.join(tree::nth(number * (files / changed)));
        fs::write(&path, [1; tree::FILE]).act(|| format!("write {}", path.display()))
    })?;
    super::write_out(root)
}
