//! A data volume against the container's layer: bulk and small writes, and reads.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::{Across, How, Workload};
use crate::{
    bench::{
        Unit,
        rows::{Stage, inside, with_container},
        samples::{STAYED_WARM, Samples},
        scale::Scale,
        tree,
    },
    error::{Act as _, Result},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct VolumeOrLayer;

/// See the module's comment.
pub(in crate::bench) const VOLUME: VolumeOrLayer = VolumeOrLayer;

impl Workload for VolumeOrLayer {
    fn name(&self) -> &'static str {
        "volume"
    }

    fn about(&self) -> &'static str {
        "write and read a new file by 1 MiB, and write 4 KiB with fdatasync at random places of it, in the container's layer \
         and in a data volume"
    }

    fn tests(&self) -> &'static str {
        "For write-heavy applications, you should not store the data in the container. Instead, use Docker volumes, which are \
         independent of the running container and are designed to be efficient for I/O."
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

/// Small writes in a run.
const WRITES: u64 = 16;

const CHUNK: usize = 1 << 20;

impl Across for VolumeOrLayer {
    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(scale.bulk.0 * 3)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.3 + super::seconds_for(scale.bulk, 0.1e9)
    }

    fn prepare(&self, stage: &dyn Stage, _: &Scale) -> Result<()> {
        stage.has_layers()?;
        stage.import("small", &mut tree::archive(1)?)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, run: usize, samples: &mut Samples) -> Result<()> {
        with_container(stage, ("writer", "small"), || {
            inside(stage, "writer", |root| {
                let volume = stage.volume()?;
                let mut places = [("container's layer", root), ("volume", volume.as_path())];
                if run % 2 == 1 {
                    places.reverse();
                }
                places.into_iter().try_for_each(|(at, place)| bulk(place, at, scale, samples))
            })
        })
    }
}

fn bulk(place: &Path, at: &str, scale: &Scale, samples: &mut Samples) -> Result<()> {
    let size = scale.bulk;
    let path = place.join("bulk");
    let act = || format!("write and read {}", path.display());
    let file = File::options().read(true).write(true).create_new(true).open(&path).act(act)?;
    let chunk = vec![7; CHUNK];
    let bytes = super::number(size.0);
    let time = super::seconds(|| {
        (0..size.0 / CHUNK as u64).try_for_each(|_| (&file).write_all(&chunk)).and_then(|()| file.sync_all()).act(act)
    })?;
    samples.add("write by 1 MiB, fsync", at, Unit::BytesPerSecond, bytes / time);
    let blocks = size.0 / 4096;
    let time = super::seconds(|| {
        (1..=WRITES).try_for_each(|number| {
            let block = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks;
            file.write_all_at(&[1; 4096], block * 4096).and_then(|()| file.sync_data()).act(act)
        })
    })?;
    samples.add("write 4 KiB at random, fdatasync", at, Unit::Seconds, time / super::number(WRITES));
    match super::cold(place, scale, &|| super::read_through(&path))? {
        Some(time) => samples.add("read by 1 MiB, cold", at, Unit::BytesPerSecond, bytes / time),
        None => samples.cannot("read by 1 MiB, cold", at, STAYED_WARM),
    }
    drop(file);
    fs::remove_file(&path).act(act)
}
