//! Docker's sizes of containers, without walking trees where the driver can tell that nothing was written.
//!
//! Invariant: what was found once counts only as long as the driver's mark of the content is the one from before it was
//! found, so no answer is stale: see [`Driver::marks`](crate::driver::Driver::marks).

use std::collections::HashMap;

use rusqlite::{Transaction, named_params};

use super::{Container, Containers, instant::Instant};
use crate::{
    driver::{Access, ChangeKind},
    error::{Error, Kind, Result},
    fs::apparent,
    id::{ImageId, VolumeId},
    image::catalog::Catalog,
    store::Sql as _,
    units::Bytes,
};

/// The sizes of a container.
#[derive(Debug)]
pub struct Sizes {
    /// Apparent bytes of what it added or changed: Docker's SIZE. Not known on a pool too full to hold it still.
    pub rw: Result<Bytes>,
    /// Apparent bytes of the image's files; with the former, Docker's virtual size.
    pub image: Bytes,
    /// Bytes in the pool that are its own.
    pub own: Bytes,
}

/// What was found before.
#[derive(Debug)]
struct Measure {
    mark: String,
    rw: Bytes,
    own: Bytes,
}

/// A container's volume and the driver's mark of its content.
#[derive(Debug)]
struct Marked {
    volume: VolumeId,
    mark: Option<String>,
    /// Nothing was ever written to it.
    untouched: bool,
}

impl Containers<'_> {
    /// The container's sizes.
    ///
    /// # Errors
    /// The driver's, or those of its image.
    pub fn sizes(&self, container: &Container) -> Result<Sizes> {
        let gone = || Error::new(Kind::NotFound, format!("no such container: {}", container.name));
        self.all_sizes(std::slice::from_ref(container))?.pop().flatten().ok_or_else(gone)
    }

    /// The sizes of these containers; `None` for one that another command removed.
    ///
    /// # Errors
    /// The driver's, or those of an image.
    pub fn all_sizes(&self, containers: &[Container]) -> Result<Vec<Option<Sizes>>> {
        let catalog = Catalog::new(self.store);
        let marked = self.marked(containers)?;
        let mut known = self.store.database().read("look up what containers wrote", measures)?;
        let mut images: HashMap<ImageId, Bytes> = HashMap::new();
        let mut all = Vec::with_capacity(containers.len());
        let mut new = Vec::new();
        for container in containers {
            crate::interrupt::check()?;
            let found = match marked.get(&container.id.to_string()) {
                None => Ok(None),
                Some(marked) => self.found(container, marked, known.remove(&marked.volume), &mut new).map(Some),
            };
            let sizes = found.and_then(|found| {
                let Some((rw, own)) = found else { return Ok(None) };
                let image = match images.get(&container.image) {
                    Some(image) => *image,
                    None => catalog.size(&catalog.find(&container.image.to_string())?)?,
                };
                images.insert(container.image, image);
                Ok(Some(Sizes { rw, image, own }))
            });
            all.push(match sizes {
                Err(_) if self.is_gone(container)? => None,
                sizes => sizes?,
            });
        }
        self.keep(&new)?;
        Ok(all)
    }

    fn is_gone(&self, container: &Container) -> Result<bool> {
        match self.find(container.id.as_str()) {
            Err(error) if error.kind() == Kind::NotFound => Ok(true),
            found => found.map(|_| false),
        }
    }

    /// Asks the driver for the marks of all of them, and of what they lie on, at once.
    fn marked(&self, containers: &[Container]) -> Result<HashMap<String, Marked>> {
        let mut volumes = self.store.database().read("look up containers' snapshots", volumes)?;
        volumes.retain(|id, _| containers.iter().any(|container| container.id.as_str() == id));
        let mut ids: Vec<VolumeId> =
            volumes.values().flat_map(|(own, parent)| [*own].into_iter().chain(*parent)).collect();
        ids.sort_unstable();
        ids.dedup();
        let first = self.store.driver().marks(&ids)?;
        // What is written from here on gets another mark than one that stayed the same meanwhile.
        let second = self.store.driver().marks(&ids)?;
        let same = ids.iter().zip(first.into_iter().zip(second)).filter(|(_, (first, second))| first == second);
        let marks: HashMap<VolumeId, String> =
            same.filter_map(|(id, (mark, _))| mark.map(|mark| (*id, mark))).collect();
        let marked = |(id, (volume, parent)): (String, (VolumeId, Option<VolumeId>))| {
            let mark = marks.get(&volume).cloned();
            let untouched = mark.is_some() && parent.is_some_and(|parent| marks.get(&parent) == mark.as_ref());
            (id, Marked { volume, mark, untouched })
        };
        Ok(volumes.into_iter().map(marked).collect())
    }

    fn found(
        &self,
        container: &Container,
        marked: &Marked,
        known: Option<Measure>,
        new: &mut Vec<(VolumeId, Measure)>,
    ) -> Result<(Result<Bytes>, Bytes)> {
        if let Some(known) = known.filter(|known| marked.mark.as_ref() == Some(&known.mark)) {
            return Ok((Ok(known.rw), known.own));
        }
        let own = || self.store.usage(&container.key()).map_err(|error| self.told(container, error));
        let rw = if marked.untouched { Ok(Bytes(0)) } else { self.written(container) };
        let own = own()?.exclusive;
        if let (Some(mark), Ok(rw)) = (&marked.mark, &rw) {
            new.push((marked.volume, Measure { mark: mark.clone(), rw: *rw, own }));
        }
        Ok((rw, own))
    }

    /// Apparent bytes of the regular files that it added or changed.
    fn written(&self, container: &Container) -> Result<Bytes> {
        if let Some(size) = self.store.written(&container.key())? {
            return Ok(size);
        }
        let Instant { held, changes, .. } = self.captured(container)?;
        if changes.iter().all(|change| change.kind == ChangeKind::Deleted) {
            return Ok(Bytes(0));
        }
        let mounted = held.mounted(Access::ReadOnly)?;
        apparent(mounted.root(), &changes)
    }

    /// What is kept only saves time, so a disk that is full must not keep anybody from an answer.
    fn keep(&self, new: &[(VolumeId, Measure)]) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let kept = self.store.database().write("note what containers wrote", |tx| {
            // Of one that was removed meanwhile there is nothing to note.
            let mut statement = tx
                .prepare(
                    "INSERT OR REPLACE INTO measures (snapshot, mark, rw, own)
                     SELECT volume, :mark, :rw, :own FROM snapshots WHERE volume = :v",
                )
                .sql()?;
            // SQLite's numbers end at 2^63: what is beyond, of sparse files, is found anew each time.
            for (volume, measure) in new.iter().filter(|(_, measure)| i64::try_from(measure.rw.0).is_ok()) {
                statement
                    .execute(named_params! {
                        ":v": volume.get(), ":mark": measure.mark, ":rw": measure.rw.0, ":own": measure.own.0,
                    })
                    .sql()?;
            }
            Ok(())
        });
        match kept {
            Err(error) if error.kind() == Kind::Full => {
                tracing::debug!("{error}");
                Ok(())
            }
            kept => kept,
        }
    }
}

fn volume(number: u64) -> Result<VolumeId> {
    VolumeId::new(number)
}

/// The volume of each container, and what it lies on.
fn volumes(tx: &Transaction<'_>) -> Result<HashMap<String, (VolumeId, Option<VolumeId>)>> {
    let question = "SELECT c.id, s.volume, s.parent FROM containers c JOIN snapshots s ON s.volume = c.snapshot";
    let mut statement = tx.prepare_cached(question).sql()?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, Option<u64>>(2)?)));
    let rows = rows.sql()?.collect::<rusqlite::Result<Vec<_>>>().sql()?;
    rows.into_iter().map(|(id, own, parent)| Ok((id, (volume(own)?, parent.map(volume).transpose()?)))).collect()
}

fn measures(tx: &Transaction<'_>) -> Result<HashMap<VolumeId, Measure>> {
    let mut statement = tx.prepare_cached("SELECT snapshot, mark, rw, own FROM measures").sql()?;
    let rows = statement.query_map([], |row| {
        let measure = Measure { mark: row.get(1)?, rw: Bytes(row.get(2)?), own: Bytes(row.get(3)?) };
        Ok((row.get::<_, u64>(0)?, measure))
    });
    let rows = rows.sql()?.collect::<rusqlite::Result<Vec<_>>>().sql()?;
    rows.into_iter().map(|(number, measure)| Ok((volume(number)?, measure))).collect()
}
