//! A container removed: by its user, by itself when it has ended, or after commands that died.
//!
//! Invariant: what is on /run and in cgroups goes before the container's row; the directory in ROOT/containers goes last. So
//! whatever lies there without a row, when no container is being made (`Store::announce`), belongs to nobody, and
//! [`Containers::sweep`] takes it away.

use std::{collections::HashSet, fs, io, path::Path};

use rusqlite::named_params;

use super::{Container, Containers, home::Home, mounts::remove_mount_point, settings::Source, status::State};
use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    fs::remove_while_filled,
    id::ContainerId,
    runtime::{RunDirectory, Workplace, clear, runs_in, runs_of},
    store::Sql as _,
    volume::{Attached, Volumes},
};

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Its processes are killed first.
    pub kill: bool,
    /// The anonymous volumes that no other container has go with it.
    pub volumes: bool,
    /// Nobody asks for it: it is left alone if it runs again, or is about to.
    pub by_itself: bool,
}

impl Removal {
    /// That of a container which goes by itself.
    pub const BY_ITSELF: Self = Self { kill: false, volumes: true, by_itself: true };
}

impl Containers<'_> {
    /// Removes the container and what it wrote; the image stays as it is. What is busy elsewhere, in a mount namespace of
    /// somebody else's, is removed when it no longer is.
    ///
    /// # Errors
    /// `InUse` while it runs, as the removal says, or is mounted here; if its processes do not end.
    pub fn remove(&self, container: &Container, Removal { kill, volumes, by_itself }: Removal) -> Result<()> {
        let lock = self.lock(container)?;
        let is_live = self.status(container)?.state.is_live();
        if by_itself && (is_live || self.home(container).is_restarted()?) {
            return Ok(());
        }
        if is_live && !kill {
            let what = format!(
                "you cannot remove a running container {}; stop the container before attempting removal or force remove \
                 with 'lamina rm -f'",
                container.id
            );
            return Err(Error::new(Kind::InUse, what));
        }
        self.end(container)?;
        clear(&self.run_directory(container))?;
        crash::point(crash::Point::RemoveEnded);
        if let Some(target) = self.mounted_at(container)? {
            return Err(Error::new(
                Kind::InUse,
                format!(
                    "remove container {0}: it is mounted at {1}; unmount it first with 'lamina umount {0}'",
                    container.name,
                    target.display()
                ),
            ));
        }
        let volume = self.store.stat(&container.key())?.volume;
        let anonymous = if volumes { self.anonymous_volumes(container)? } else { Vec::new() };
        // Whoever has it still is not asked for: it goes when it is no longer in use.
        match self.store.release(&container.key()) {
            Err(error) if error.kind() == Kind::InUse => {}
            released => released?,
        }
        self.store.database().write(&format!("remove container {}", container.name), |tx| {
            tx.execute("DELETE FROM containers WHERE id = :id", named_params! {":id": container.id.as_str()}).sql()?;
            Volumes::give_up(tx, &anonymous)?;
            self.store.discard(tx, volume)
        })?;
        crash::point(crash::Point::RemoveRow);
        drop(lock);
        let removed = match self.store.recover_volume(volume) {
            Err(error) if error.kind() == Kind::InUse => {
                tracing::warn!("{error}; it is removed when it is no longer in use");
                Ok(())
            }
            removed => removed,
        };
        crash::point(crash::Point::RemoveHome);
        let homes = self.home(container).remove();
        let data = if anonymous.is_empty() { Ok(()) } else { Volumes::of(self.store).recover() };
        removed.and(homes).and(data).and(remove_mount_point(&self.store.layout().mount_point(&container.id)))
    }

    /// Its anonymous volumes. One that its user gave by name stays, whatever the name looks like.
    fn anonymous_volumes(&self, container: &Container) -> Result<Vec<Attached>> {
        let mut attached = Volumes::of(self.store).attached(&container.id)?;
        let settings = self.settings(container)?;
        let is_named = |target: &str| {
            settings.volumes.iter().any(|volume| volume.target == target && matches!(volume.source, Source::Named(_)))
        };
        attached.retain(|attached| attached.volume.anonymous && !is_named(&attached.target));
        Ok(attached)
    }

    /// After a container's process has ended, called by its supervisor once [`ended_unattended`] tells so: nothing of the
    /// run stays, and nothing of the container if it is one that goes by itself.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&self, id: &str) -> Result<()> {
        let Some(container) = self.list()?.into_iter().find(|container| container.id.as_str() == id) else {
            return Ok(());
        };
        // A start that failed is not its end.
        if self.settings(&container)?.auto_remove && self.home(&container).started()?.is_some() {
            return gone_is_well(self.remove(&container, Removal::BY_ITSELF));
        }
        gone_is_well(self.settle(&container))
    }

    /// Takes away what a run that has ended left on /run and in cgroups.
    fn settle(&self, container: &Container) -> Result<()> {
        // Whoever has it starts it again, or removes it, and waits for this process then; or looks at it, and the next
        // command settles it.
        let Some(_lock) = self.try_lock(container)? else { return Ok(()) };
        // It may have been started again meanwhile.
        if self.run_directory(container).init()?.is_some() { Ok(()) } else { self.clear_ended(container) }
    }

    /// Takes away what dead commands and a dead supervisor left: of builds, directories of containers that are no more, processes
    /// that were made and never told to begin, and containers that have ended and should have gone by themselves.
    ///
    /// # Errors
    /// The first failure, after all else has been tried.
    pub fn sweep(&self) -> Result<()> {
        let runs = runs_of(self.store.layout().root());
        let (run_ids, home_ids) = (runs_in(&runs)?, self.homes()?);
        // Asked between directories and rows: what was being made when those were listed has a row by now, or is gone again.
        let some_are_made = self.store.is_announced()?;
        let all = self.list()?;
        let known: HashSet<&str> = all.iter().map(|container| container.id.as_str()).collect();
        let is_nobodys = |id: &str| !some_are_made && !known.contains(id);
        let mut swept = Workplace::recover(&self.store.layout().builds());
        for id in run_ids.iter().filter(|id| is_nobodys(id)) {
            swept = swept.and(clear(&RunDirectory::new(&runs, id)));
        }
        for id in home_ids.iter().filter(|id| is_nobodys(id.as_str())) {
            swept = swept.and(Home::new(&self.store.layout().containers(), id).remove());
        }
        for container in &all {
            if run_ids.iter().any(|id| id == container.id.as_str()) {
                swept = swept.and(gone_is_well(self.sweep_run(container)));
            }
            if home_ids.contains(&container.id) {
                swept = swept.and(gone_is_well(self.sweep_ended(container)));
            }
        }
        swept
    }

    /// [`Containers::sweep`] for those who came to do something else.
    pub fn sweep_or_tell(&self) {
        if let Err(error) = self.sweep() {
            tracing::warn!("take away what ended containers left: {error}; the next command tries again");
        }
    }

    fn homes(&self) -> Result<Vec<ContainerId>> {
        let containers = self.store.layout().containers();
        let act = || format!("look into {}", containers.display());
        let entries = match fs::read_dir(&containers) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.act(act)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            ids.extend(entry.act(act)?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    }

    /// What waits to begin and has nobody who would tell it; what ended and had nobody to take it away.
    fn sweep_run(&self, container: &Container) -> Result<()> {
        let run = self.run_directory(container);
        let is_left = || -> Result<bool> {
            match run.init()? {
                Some(init) => run.waits_to_begin(&init),
                None => Ok(run.supervisor()?.is_none()),
            }
        };
        if !is_left()? {
            return Ok(());
        }
        let Some(_lock) = self.try_lock(container)? else { return Ok(()) };
        if is_left()? { self.clear_ended(container) } else { Ok(()) }
    }

    fn sweep_ended(&self, container: &Container) -> Result<()> {
        if !self.settings(container)?.auto_remove
            || self.status(container)?.state != State::Exited
            || self.run_directory(container).supervisor()?.is_some()
        {
            return Ok(());
        }
        if self.home(container).is_attended()? { Ok(()) } else { self.remove(container, Removal::BY_ITSELF) }
    }
}

/// Waits until nobody wants to know how the run of the container `id` ended, so that whoever waits for its exit code has it
/// first. Tells whether anything is left to do then: whoever waited may have removed it. Needs neither pool nor database.
///
/// # Errors
/// The system's.
pub fn ended_unattended(root: &Path, id: &str) -> Result<bool> {
    let (Ok(root), Ok(id)) = (fs::canonicalize(root), id.parse()) else { return Ok(false) };
    let home = Home::new(&root.join("containers"), &id);
    let _unattended = home.unattended()?;
    Ok(home.path().exists())
}

/// The IDs of the containers of a root directory that have processes.
///
/// # Errors
/// When /proc or /run cannot be read.
pub fn running(root: &Path) -> Result<Vec<String>> {
    let Ok(root) = fs::canonicalize(root) else { return Ok(Vec::new()) };
    let runs = runs_of(&root);
    let mut ids = Vec::new();
    for id in runs_in(&runs)? {
        if RunDirectory::new(&runs, &id).init()?.is_some() {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Removes what a root directory keeps of containers, when their pool is gone.
///
/// # Errors
/// The system's.
pub fn forget_all(root: &Path) -> Result<()> {
    let homes = root.join("containers");
    // A command that is about to be refused may make a container.
    remove_while_filled(&homes).act(|| format!("remove {}", homes.display()))?;
    Workplace::recover(&root.join("builds"))?;
    let root = fs::canonicalize(root).act(|| format!("find root directory {}", root.display()))?;
    let runs = runs_of(&root);
    runs_in(&runs)?.iter().try_for_each(|id| clear(&RunDirectory::new(&runs, id)))
}

/// Another command has just removed it, which is what was wanted.
pub(super) fn gone_is_well(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        result => result,
    }
}
