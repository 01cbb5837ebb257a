//! A pool from its making to its end: created, brought up, taken down, destroyed.
//!
//! Invariant: a pool is brought up only after its files were found to be whole and ours, without the kernel: it formats
//! metadata that is all zeros, and writes to metadata that is not.

use super::{
    backing::Backing,
    filesystem::{make, require_mkfs, uuid_of},
    pool::{Pool, control, device_path, remove_patiently},
};
use std::fs;

use crate::{
    block::{
        Info, LoopFile, Names,
        thin_metadata::{Metadata, Source, Superblock},
        thin_pool::{METADATA_BLOCK, Message, PoolTable},
    },
    crash,
    driver::{Access, making::Making, pool::PoolSpec},
    error::{Act as _, Error, Kind, Result},
    units::Bytes,
};

/// The empty volume that every first layer starts from.
pub(super) const BASE: u32 = 0;

const SMALLEST_POOL: Bytes = Bytes::mib(64);
const CHUNK_UNIT: Bytes = Bytes::kib(64);
const LARGEST_CHUNK: Bytes = Bytes::gib(1);
const SMALLEST_METADATA: Bytes = Bytes::mib(4);
/// 15.8 GiB; the kernel uses a little more (`THIN_METADATA_MAX_SECTORS`), LVM stays as far below.
pub(super) const LARGEST_METADATA: Bytes = Bytes::mib(16_179);

/// The two backings of `spec`.
pub(super) struct Backings {
    pub(super) data: Backing,
    pub(super) metadata: Backing,
}

impl Backings {
    pub(super) fn of(spec: &PoolSpec) -> Self {
        Self {
            data: Backing::new(spec.data.as_ref(), &spec.directory, "data"),
            metadata: Backing::new(spec.metadata.as_ref(), &spec.directory, "metadata"),
        }
    }

    fn both(&self) -> [&Backing; 2] {
        [&self.data, &self.metadata]
    }

    /// Makes the pool active, or leaves nothing attached.
    fn activate(&self, spec: &PoolSpec) -> Result<Pool> {
        let names = Names::new(&spec.uuid)?;
        let (data, data_loop) = self.data.attach()?;
        crash::point(crash::Point::UpHalf);
        let attached = self.metadata.attach();
        let (metadata, metadata_loop) = match attached {
            Ok(attached) => attached,
            Err(error) => return Err(error.and_undo(data_loop.map_or(Ok(()), LoopFile::detach))),
        };
        crash::point(crash::Point::UpBound);
        let up = || {
            let control = control()?;
            let chunk = spec.chunk;
            let length = Bytes(self.data.size()?.0 / chunk.0 * chunk.0).sectors();
            let table = PoolTable { length, metadata, data, chunk: chunk.sectors() };
            let number = control.activate(&names.pool(), &table.line(), false)?.number;
            Ok(Pool { control, names: names.clone(), table, number })
        };
        up().map_err(|error: Error| {
            let undo = [data_loop, metadata_loop].into_iter().flatten().map(LoopFile::detach);
            undo.fold(error, Error::and_undo)
        })
    }
}

/// 48 bytes for each chunk: the rule of thin-provisioning.rst for one mapping in one snapshot, with room for the
/// sharing of nodes to end.
pub(super) fn metadata_size(data: Bytes, chunk: Bytes) -> Bytes {
    let wanted = Bytes(data.0 / chunk.0 * 48);
    Bytes(wanted.0.clamp(SMALLEST_METADATA.0, LARGEST_METADATA.0)).round_up(METADATA_BLOCK)
}

fn check_sizes(size: Bytes, chunk: Bytes) -> Result<()> {
    let invalid = |what: String| Err(Error::new(Kind::Invalid, what));
    if chunk < CHUNK_UNIT || chunk > LARGEST_CHUNK || !chunk.0.is_multiple_of(CHUNK_UNIT.0) {
        return invalid(format!("chunk of {chunk} is not a multiple of {CHUNK_UNIT} up to {LARGEST_CHUNK}"));
    }
    let smallest = SMALLEST_POOL.max(Bytes(chunk.0.saturating_mul(64)));
    if size < smallest {
        return invalid(format!("pool of {size} is too small; with chunks of {chunk} it needs at least {smallest}"));
    }
    Ok(())
}

/// See [`super::super::pool::create`].
pub(in crate::driver) fn create(spec: &PoolSpec) -> Result<()> {
    check_sizes(spec.size, spec.chunk)?;
    Names::new(&spec.uuid)?;
    require_mkfs(spec.fs)?;
    drop(control()?);
    fs::create_dir_all(&spec.directory).act(|| format!("make {}", spec.directory.display()))?;
    let (backings, making) = (Backings::of(spec), Making::of(&spec.directory));
    let unfinished = making.exists()?;
    if unfinished {
        undo_creation(spec, &backings, &making)?;
    } else if is_up(spec)? || (backings.metadata.exists()? && open(spec).is_ok()) {
        return Ok(());
    }
    let created: Vec<&Backing> = {
        let mut missing = Vec::new();
        for backing in backings.both() {
            if !backing.exists()? {
                missing.push(backing);
            }
        }
        missing
    };
    let make = || {
        prepare(spec, &backings, &making)?;
        build(spec, &backings)?;
        crash::point(crash::Point::PoolMade);
        making.remove()
    };
    make()
        .map_err(|error| {
            if making.exists().unwrap_or(true) {
                return error.and_undo(undo_creation(spec, &backings, &making));
            }
            // Nothing was taken yet; only files that did not exist before are ours to remove.
            created.into_iter().map(Backing::remove).fold(error, Error::and_undo)
        })
        .act(|| format!("create a thin pool in {}", spec.directory.display()))
}

fn prepare(spec: &PoolSpec, backings: &Backings, making: &Making<'_>) -> Result<()> {
    let data = backings.data.prepare(spec.size)?;
    check_sizes(data, spec.chunk)?;
    let wanted = metadata_size(data, spec.chunk);
    let metadata = backings.metadata.prepare(wanted)?;
    if metadata < SMALLEST_METADATA {
        let what = format!("{} has {metadata}; metadata needs {SMALLEST_METADATA}", backings.metadata.path.display());
        return Err(Error::new(Kind::Invalid, what));
    }
    for backing in backings.both() {
        backing.require_empty()?;
    }
    making.write(&backings.both().map(|backing| &*backing.path))?;
    backings.metadata.allocate(metadata)?;
    crash::point(crash::Point::PoolHalf);
    Ok(())
}

fn build(spec: &PoolSpec, backings: &Backings) -> Result<()> {
    let pool = backings.activate(spec)?;
    pool.message(Message::CreateThin(BASE))?;
    let size = pool.table.length.bytes();
    pool.while_active(BASE, Access::ReadWrite, |device| make(spec.fs, &device, &spec.uuid, size))
}

/// Takes away what an unfinished creation left; of given files and devices only those that it had taken.
fn undo_creation(spec: &PoolSpec, backings: &Backings, making: &Making<'_>) -> Result<()> {
    close(spec)?;
    for backing in backings.both() {
        if making.took(&backing.path)? {
            backing.remove()?;
        }
    }
    making.remove()
}

/// The pool, brought up if it is not.
pub(super) fn open(spec: &PoolSpec) -> Result<Pool> {
    if let Some(pool) = open_up(spec)? {
        return Ok(pool);
    }
    let backings = Backings::of(spec);
    let up = verify(spec, &backings).and_then(|()| backings.activate(spec));
    up.act(|| format!("bring up the thin pool in {}", spec.directory.display()))
}

/// The pool if it is up.
pub(super) fn open_up(spec: &PoolSpec) -> Result<Option<Pool>> {
    let Ok(pool) = Pool::find(control()?, Names::new(&spec.uuid)?)? else { return Ok(None) };
    for (id, info) in active(&pool)? {
        let name = pool.names.volume(id);
        if info.live && info.suspended {
            pool.resume_if_left(&name, info.number)?;
        }
    }
    Ok(Some(pool))
}

/// The volumes with a device, and its state.
pub(super) fn active(pool: &Pool) -> Result<Vec<(u32, Info)>> {
    let mut found = Vec::new();
    for name in pool.control.names()? {
        if let Some(id) = pool.names.volume_of(&name) {
            // The name alone may be somebody else's.
            found.extend(pool.control.info(&pool.names.volume(id))?.map(|info| (id, info)));
        }
    }
    found.sort_unstable_by_key(|(id, _)| *id);
    Ok(found)
}

/// Reads the pool's metadata and the start of its base volume from the backings that no pool uses.
fn verify(spec: &PoolSpec, backings: &Backings) -> Result<()> {
    let (data_size, metadata_size) = (backings.data.size()?, backings.metadata.size()?);
    let source = Source::open(&backings.metadata.path)?;
    let metadata = if metadata_size < METADATA_BLOCK {
        Err(Error::new(Kind::Corrupt, format!("it has {metadata_size}")))
    } else {
        Metadata::open(&source, 0)
    }
    .act(|| format!("read pool metadata {}", backings.metadata.path.display()))?;
    whole(metadata.superblock(), spec, backings, (data_size, metadata_size))?;
    let not_ours = |what: String| Err(Error::new(Kind::NotOurs, what));
    let Some(chunk) = metadata.chunk_of(u64::from(BASE), 0)? else {
        return not_ours(format!("the pool in {} has no base volume of ours", backings.metadata.path.display()));
    };
    let data = Source::open(&backings.data.path)?;
    match uuid_of(&data.block(chunk * (spec.chunk.0 / METADATA_BLOCK.0))?) {
        Some(uuid) if uuid == spec.uuid => Ok(()),
        Some(uuid) => not_ours(format!("the pool on {} is {uuid}, not {}", backings.data.path.display(), spec.uuid)),
        None => not_ours(format!("the base volume on {} holds no file system", backings.data.path.display())),
    }
}

fn whole(found: &Superblock, spec: &PoolSpec, backings: &Backings, sizes: (Bytes, Bytes)) -> Result<()> {
    let chunk = Bytes(u64::from(found.chunk_sectors) * 512);
    if chunk != spec.chunk {
        return Err(Error::new(Kind::NotOurs, format!("the pool has chunks of {chunk}, not of {}", spec.chunk)));
    }
    let short = |backing: &Backing, has: Bytes, needs: Bytes| {
        let what = format!("{} has {has} ({} bytes), the pool on it needs {needs}", backing.path.display(), has.0);
        let remedy = format!(
            "put the whole one back; 'truncate -s {} {}' makes it long enough, with zeros",
            needs.0,
            backing.path.display()
        );
        Err(Error::new(Kind::Corrupt, format!("{what}; it was truncated: {remedy}")))
    };
    let data = Bytes(found.data_chunks.saturating_mul(chunk.0));
    if sizes.0 < data {
        return short(&backings.data, sizes.0, data);
    }
    let metadata = Bytes(found.metadata_blocks.saturating_mul(METADATA_BLOCK.0));
    if sizes.1 < metadata {
        return short(&backings.metadata, sizes.1, metadata);
    }
    Ok(())
}

/// See [`super::super::pool::is_up`].
pub(in crate::driver) fn is_up(spec: &PoolSpec) -> Result<bool> {
    match control() {
        Ok(control) => Ok(Pool::find(control, Names::new(&spec.uuid)?)?.is_ok()),
        Err(error) if error.kind() == Kind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

/// See [`super::super::pool::close`].
pub(in crate::driver) fn close(spec: &PoolSpec) -> Result<()> {
    let names = Names::new(&spec.uuid)?;
    let backings = Backings::of(spec);
    let mut held = Vec::new();
    match Pool::find(control()?, names.clone())? {
        Ok(pool) => {
            held = below(&pool, &backings)?;
            for (id, _) in active(&pool)? {
                remove_patiently(&pool.control, &names.volume(id))?;
            }
            remove_patiently(&pool.control, &names.pool())?;
        }
        // One without a table was left by a process that died early.
        Err((control, _)) => remove_patiently(&control, &names.pool())?,
    }
    crash::point(crash::Point::DownHalf);
    held.into_iter().try_for_each(LoopFile::detach)?;
    backings.both().into_iter().try_for_each(Backing::detach)
}

/// The loop devices below a pool, found by the pool itself: the files may have been removed or replaced while it was up. A
/// given device that is a loop device is its owner's.
fn below(pool: &Pool, backings: &Backings) -> Result<Vec<LoopFile>> {
    let mut held = Vec::new();
    for (backing, number) in backings.both().into_iter().zip([pool.table.data, pool.table.metadata]) {
        let is_given_device = match backing.is_device() {
            Err(error) if error.kind() == Kind::NotFound => false,
            kind => kind?,
        };
        if !is_given_device {
            held.extend(LoopFile::on(&device_path(number)?, &backing.path)?);
        }
    }
    Ok(held)
}

/// The same of a pool that may be down.
pub(in crate::driver) fn loops(spec: &PoolSpec) -> Result<Vec<LoopFile>> {
    let pool = Pool::find(control()?, Names::new(&spec.uuid)?)?;
    pool.map_or(Ok(Vec::new()), |pool| below(&pool, &Backings::of(spec)))
}

/// See [`super::super::pool::destroy`].
pub(in crate::driver) fn destroy(spec: &PoolSpec) -> Result<()> {
    let (backings, making) = (Backings::of(spec), Making::of(&spec.directory));
    // A given device may be somebody else's by now (another disk has its name, or it was formatted while the pool was
    // down): only one that answers as this pool, or that our unfinished creation took, is wiped.
    let given = backings.both().into_iter().any(|backing| !backing.own);
    let ours = given && open(spec).is_ok();
    if ours {
        // Killed when one of them is wiped already, the next try still knows whose the other is.
        making.write(&backings.both().map(|backing| &*backing.path))?;
    }
    close(spec)?;
    for backing in backings.both() {
        if backing.own || ours || making.took(&backing.path)? {
            backing.remove()?;
            crash::point(crash::Point::DestroyHalf);
        }
    }
    backings.metadata.remove_aside()?;
    making.remove()
}
