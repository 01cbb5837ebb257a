//! Differences by what the pool knows: chunks that two devices do not share, and files that lie on them.

use std::{collections::BTreeSet, fs::File};

use super::{Thin, filesystem::mount_spec, lifecycle::BASE};
use crate::{
    block::thin_metadata::Difference,
    driver::{Access, Changes},
    error::{Act as _, Result},
    fs::{FilePair, Mounted, Verdict, compare},
    id::VolumeId,
    sys::block::{EXTENT_NOT_PLAIN, extents},
};

impl Thin {
    /// What differs between `id` and its nearest parent, or the base volume, in the pool's own mappings.
    pub(super) fn difference(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Difference> {
        let parent = parents.first().map_or(BASE, |parent| parent.get());
        self.pool.with_metadata(|metadata| metadata.compare(u64::from(parent), u64::from(id.get())))
    }

    pub(super) fn tree_changes(&self, id: VolumeId, parents: &[VolumeId]) -> Result<Changes> {
        let difference = self.difference(id, parents)?;
        if difference.own.is_empty() && difference.gone.is_empty() {
            return Ok(Changes::new());
        }
        self.seen(id, &mut |child| self.compared(child, parents, &difference))
    }

    /// How the tree at `child`, which shows `id`, differs from that of its nearest parent.
    pub(super) fn changes_in(&self, child: &Mounted, id: VolumeId, parents: &[VolumeId]) -> Result<Changes> {
        self.compared(child, parents, &self.difference(id, parents)?)
    }

    fn compared(&self, child: &Mounted, parents: &[VolumeId], difference: &Difference) -> Result<Changes> {
        let Some(parent) = parents.first() else {
            return compare(None, child.root(), &mut |_| Ok(Verdict::Unknown));
        };
        let changed = Changed::new(difference, self.spec.chunk.0);
        self.seen(*parent, &mut |parent| {
            compare(Some(parent.root()), child.root(), &mut |pair| same_content(&changed, pair))
        })
    }

    fn seen(&self, id: VolumeId, look: &mut dyn FnMut(&Mounted) -> Result<Changes>) -> Result<Changes> {
        self.pool.while_active(id.get(), Access::ReadOnly, |device| {
            look(&Mounted::detached(&mount_spec(self.spec.fs, device, Access::ReadOnly))?)
        })
    }
}

/// Chunks of a device whose content may differ.
struct Changed {
    chunks: BTreeSet<u64>,
    size: u64,
}

impl Changed {
    fn new(difference: &Difference, size: u64) -> Self {
        let own = difference.own.iter().map(|mapping| mapping.virtual_chunk);
        Self { chunks: own.chain(difference.gone.iter().copied()).collect(), size }
    }

    fn touches(&self, start: u64, length: u64) -> bool {
        let end = start.saturating_add(length).div_ceil(self.size);
        self.chunks.range(start / self.size..end).next().is_some()
    }
}

/// Two files are the same for certain if their bytes lie at the same places of the device and none of these places is
/// on a chunk that changed. Where they differ in that, only their bytes can tell.
fn same_content(changed: &Changed, pair: &FilePair<'_>) -> Result<Verdict> {
    let act = || format!("ask where {} lies", pair.path.display());
    let ask = |file: File| match extents(&file) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error).act(act),
    };
    let (parent, child) = (ask(pair.parent.0.open_file()?)?, ask(pair.child.0.open_file()?)?);
    let (Some(parent), Some(child)) = (parent, child) else { return Ok(Verdict::Unknown) };
    let plain = parent.iter().all(|extent| extent.flags & EXTENT_NOT_PLAIN == 0);
    if parent != child || !plain || child.iter().any(|extent| changed.touches(extent.physical, extent.length)) {
        return Ok(Verdict::Unknown);
    }
    Ok(Verdict::Same)
}

#[cfg(test)]
mod tests {
    use super::Changed;
    use crate::block::thin_metadata::{Difference, Mapping};

    #[test]
    fn an_extent_touches_the_chunks_that_it_reaches_into() {
        let own = vec![Mapping { virtual_chunk: 3, chunk: 9 }];
        let changed = Changed::new(&Difference { own, gone: vec![7] }, 100);
        for (start, length, touches) in
            [(0, 300, false), (0, 301, true), (399, 1, true), (400, 300, false), (400, 301, true), (800, 1, false)]
        {
            assert_eq!(changed.touches(start, length), touches, "{start}+{length}");
        }
    }
}
