//! A layer made here, from what a snapshot has above the image it lies on.

use std::io;

use super::{catalog::Catalog, config::Config, pack::pack};
use crate::{
    driver::{Access, Changes},
    error::Result,
    id::{ChainId, DiffId},
    store::{Held, Store},
};

/// Makes `held`, which is sealed and has these changes above the layers of `below`, the next layer on them. It is still
/// held: published it is with the image that needs it.
///
/// # Errors
/// Those of reading it; `Exists` if another command made the same layer meanwhile.
pub(crate) fn stack(store: &Store, held: &Held<'_>, changes: &Changes, below: &Config) -> Result<DiffId> {
    let mounted = held.mounted(Access::ReadOnly)?;
    // Only the digest is wanted: the snapshot itself is the layer.
    let packed = pack(mounted.root(), changes, io::sink())?;
    drop(mounted);
    let parent = ChainId::chain(below.diff_ids()).last().copied();
    let chain = ChainId::stack(parent, packed.diff_id);
    Catalog::new(store).name_layer(held, chain, packed.size, None)?;
    Ok(packed.diff_id)
}
