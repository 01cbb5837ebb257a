//! Memory: what many containers that read the same file keep of it in the page cache.
//!
//! Counted are the page frames that hold the file, each once however many containers see it: a number of their own, which
//! nothing else on the machine changes, unlike the size of the whole cache.

use std::{collections::HashSet, fs::File, io, path::PathBuf};

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
    sys::page_frames::MappedFile,
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
        "memory that holds a file of the image after containers read it, each through its own mount: the distinct page frames \
         of the page cache (mmap, /proc/self/pagemap)"
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
            let held = names.iter().try_for_each(|name| {
                stage.create(name, "shared")?;
                let root = stage.mount(name).map_err(|error| error.and_undo(stage.remove(name)))?;
                mounted.push((name, root));
                Ok(())
            });
            let held = held.and_then(|()| {
                if let Some((_, root)) = mounted.first() {
                    super::drop_caches(scale, root)?;
                }
                frames(mounted.iter().map(|(_, root)| root.join("file")))
            });
            let mut gone = mounted.iter().map(|(name, _)| stage.unmount(name).and_then(|()| stage.remove(name)));
            let gone = gone.try_for_each(|gone| gone);
            let held = match held {
                Ok(held) => gone.map(|()| held)?,
                Err(error) => return Err(error.and_undo(gone)),
            };
            match held {
                Some(frames) => {
                    let bytes = super::number((frames * rustix::param::page_size()) as u64);
                    samples.add("memory of the file", &at, Unit::Bytes, bytes);
                }
                None => {
                    samples.cannot("memory of the file", &at, "the machine has too little memory to keep all of it")
                }
            }
        }
        Ok(())
    }
}

/// How many page frames hold these files, once all of them were read; `None` if some of their pages are not in memory any
/// more. They stay mapped until all are counted, so that no frame can hold one of them after the other.
fn frames(paths: impl Iterator<Item = PathBuf>) -> Result<Option<usize>> {
    let mut mapped = Vec::new();
    for path in paths {
        super::read_through(&path)?;
        let file = File::open(&path).and_then(|file| MappedFile::map(&file));
        mapped.push(file.act(|| format!("map {}", path.display()))?);
    }
    let mut frames = HashSet::new();
    for file in &mapped {
        match file.frames() {
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::NotFound) => {
                return Err(Error::with_source(Kind::Unsupported, "count page frames by /proc/self/pagemap", error));
            }
            found => {
                let found = found.act(|| "read /proc/self/pagemap")?;
                if found.len() < file.pages() {
                    return Ok(None);
                }
                frames.extend(found);
            }
        }
    }
    Ok(Some(frames.len()))
}
