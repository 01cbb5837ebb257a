//! A layer made here, from what a snapshot has above the image it lies on.

use std::io;

use super::{
    catalog::{Catalog, Image},
    config::Config,
    pack::pack,
};
use crate::{
    driver::{Access, Changes},
    error::{Kind, Result},
    id::{ChainId, DiffId},
    interrupt,
    store::{Held, Store},
    units::Bytes,
};

/// A layer, as yet without a name: that it gets with the image that needs it.
#[derive(Debug)]
pub(crate) struct Stacked {
    chain: ChainId,
    size: Bytes,
    /// The digest of its tar.
    pub(crate) diff_id: DiffId,
}

/// Makes `held`, which is sealed and has these changes above the layers of `below`, the next layer on them.
///
/// # Errors
/// Those of reading it.
pub(crate) fn stack(held: &Held<'_>, changes: &Changes, below: &Config) -> Result<Stacked> {
    let mounted = held.mounted(Access::ReadOnly)?;
    // Only the digest is wanted: the snapshot itself is the layer.
    let packed = pack(mounted.root(), changes, io::sink())?;
    let parent = ChainId::chain(below.diff_ids()).last().copied();
    let chain = ChainId::stack(parent, packed.diff_id);
    Ok(Stacked { chain, size: packed.size, diff_id: packed.diff_id })
}

impl Stacked {
    /// Gives `held`, from which it was made, its name, and has the image published that needs it.
    ///
    /// # Errors
    /// The driver's, and those of `publish`.
    pub(crate) fn publish(&self, store: &Store, held: &Held<'_>, publish: impl Fn() -> Result<Image>) -> Result<Image> {
        loop {
            let is_named = Catalog::new(store).name_layer(held, self.chain, self.size, None)?;
            match publish() {
                // Another command had the same layer, and removed it before anybody needed it: ours is here still.
                Err(error) if error.kind() == Kind::NotFound && !is_named => interrupt::check()?,
                published => return published,
            }
        }
    }
}
