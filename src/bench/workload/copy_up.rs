//! The first and the second write into files of the image, by their size, and what they take.

use std::{fs::OpenOptions, io, os::unix::fs::FileExt as _, path::Path};

use super::{Across, How, Workload};
use crate::{
    bench::{
        Unit,
        machine::available_memory,
        rows::{BTRFS_OVERLAY, Row, Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Act as _, Result},
    units::Bytes,
};

/// See the module's comment.
#[derive(Debug)]
pub(in crate::bench) struct CopyUp;

/// See the module's comment.
pub(in crate::bench) const COPY_UP: CopyUp = CopyUp;

impl Workload for CopyUp {
    fn name(&self) -> &'static str {
        "copy-up"
    }

    fn about(&self) -> &'static str {
        "write 4 KiB into a file of the image, just read, in a fresh container, and fsync; once more; space that the first \
         write took"
    }

    fn tests(&self) -> &'static str {
        "A copy_up operation can incur a noticeable performance overhead. Large files … can make the impact more noticeable. \
         This is mitigated by the fact that each copy_up operation only occurs the first time a given file is modified."
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

const BLOCK: u64 = 4096;

impl Across for CopyUp {
    fn includes(&self, row: &dyn Row) -> bool {
        row.is_usual() || row.name() == BTRFS_OVERLAY.name()
    }

    fn asks_peers(&self) -> bool {
        true
    }

    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(scale.files.iter().sum())
    }

    fn copied(&self, scale: &Scale) -> Bytes {
        self.room(scale)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        let bytes = Bytes(scale.files.iter().sum());
        0.1 + super::seconds_for(bytes, 0.5e9)
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let files = scale.files;
        let mut tar = tree::stream(move |tar| {
            files.iter().try_for_each(|size| tree::add_noise(tar, Path::new(&name(*size)), Bytes(*size)))
        })?;
        stage.import("files", &mut tar)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, run: usize, samples: &mut Samples) -> Result<()> {
        with_container(stage, ("writer", "files"), || {
            inside(stage, "writer", |root| {
                scale.files.iter().try_for_each(|size| write(stage, root, *size, run, samples))
            })
        })
    }
}

fn name(size: u64) -> String {
    format!("file-{size}")
}

fn write(stage: &dyn Stage, root: &Path, size: u64, run: usize, samples: &mut Samples) -> Result<()> {
    let path = root.join(name(size));
    let at = Bytes(size).to_string();
    if size > available_memory()?.0 / 2 {
        for what in ["first write", "space of the first write", "second write"] {
            samples.cannot(what, &at, "the file, which is just read, would not stay in memory");
        }
        return Ok(());
    }
    super::read_through(&path)?;
    super::write_out(root)?;
    let before = stage.used();
    let block = (run as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % (size / BLOCK).max(1);
    samples.time("first write", &at, || write_block(&path, block))?;
    super::write_out(root)?;
    match (before, stage.used()) {
        (Ok(before), Ok(after)) => {
            let grown = super::number(after.0) - super::number(before.0);
            samples.add("space of the first write", &at, Unit::Bytes, grown);
        }
        (Err(error), _) | (_, Err(error)) => samples.cannot("space of the first write", &at, error.to_string()),
    }
    samples.time("second write", &at, || write_block(&path, block))
}

fn write_block(path: &Path, block: u64) -> Result<()> {
    let write = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&[7; 4096], block * BLOCK)?;
        file.sync_all()
    };
    write().act(|| format!("write into {}", path.display()))
}
