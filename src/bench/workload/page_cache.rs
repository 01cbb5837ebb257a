//! Memory: what many containers that read the same file keep in the page cache.

use std::fs;

use super::{Across, How, Workload};
use crate::{
    bench::{
        Unit,
        rows::{BTRFS_OVERLAY, Row, Stage},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Act as _, Error, Kind, Result},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct PageCache;

/// See the module's comment.
pub(in crate::bench) const PAGE_CACHE: PageCache = PageCache;

impl Workload for PageCache {
    fn name(&self) -> &'static str {
        "page-cache"
    }

    fn about(&self) -> &'static str {
        "by how much the page cache of the machine grows while containers of one image read the same file of it"
    }

    fn tests(&self) -> &'static str {
        "Two containers started from the same image share 100% of the read-only data."
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

impl Across for PageCache {
    /// Also overlayfs over one subvolume: the only way to have both shared blocks and a shared cache.
    fn includes(&self, row: &dyn Row) -> bool {
        row.is_usual() || row.name() == BTRFS_OVERLAY.name()
    }

    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(scale.shared.0 * (1 + scale.readers.iter().max().copied().unwrap_or_default() as u64))
    }

    fn cost(&self, scale: &Scale) -> f64 {
        let read = scale.readers.iter().sum::<usize>() as u64;
        0.2 + super::number(read) * (0.03 + super::seconds_for(scale.shared, 1e9))
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        stage.has_layers()?;
        let size = scale.shared;
        stage.import("shared", &mut tree::stream(move |tar| tree::add_noise(tar, "file".as_ref(), size))?)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        for readers in scale.readers {
            let names: Vec<String> = (0..*readers).map(|number| format!("reader-{number}")).collect();
            let reader = if *readers == 1 { "reader" } else { "readers" };
            let at = format!("{readers} {reader} of {}", scale.shared);
            let mut mounted = Vec::new();
            let grown = names.iter().try_for_each(|name| {
                stage.create(name, "shared")?;
                mounted.push((name, stage.mount(name)?));
                Ok(())
            });
            let grown = grown.and_then(|()| {
                if let Some((_, root)) = mounted.first() {
                    super::drop_caches(scale, root)?;
                }
                let before = cached()?;
                mounted.iter().try_for_each(|(_, root)| super::read_through(&root.join("file")))?;
                Ok(cached()? - before)
            });
            for (name, _) in mounted {
                stage.unmount(name).and_then(|()| stage.remove(name))?;
            }
            samples.add("growth of the page cache", &at, Unit::Bytes, grown?);
        }
        Ok(())
    }
}

/// Bytes in the page cache of all files and devices.
fn cached() -> Result<f64> {
    let act = || "read /proc/meminfo";
    let text = fs::read_to_string("/proc/meminfo").act(act)?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        line.and_then(|number| number.trim().parse::<u64>().ok())
            .ok_or_else(|| Error::new(Kind::Io, format!("{}: it has no line {name}", act())))
    };
    Ok(super::number((kib("Cached:")? + kib("Buffers:")?) * 1024))
}
