//! `COPY`, `ADD` and the directory of `WORKDIR`: what is copied, from where, under which key.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat, openat2};
use sha2::{Digest as _, Sha256};

use super::{
    Build, Progress, archive,
    copy::{How, Piece, copy},
    dockerfile::{self, RunMount, Transfer},
    ignore::Ignore,
    layer::Draft,
    permissions::Permissions,
    settings,
    source::{Match, Source},
    stage::Stage,
    target::{absolute, resolve},
};
use crate::{
    driver::{Access, BACKING_RESERVE},
    error::{Act as _, Error, Kind, Result},
    fs::{Mounted, spare},
    id::{ChainId, Digest},
    image::{Verified, config::Config, read_error, unpack::unpack_added},
    runtime::owner_of,
    store::{Filling, Held, Key},
    units::Bytes,
};

impl Stage {
    pub(super) fn transfer(
        &mut self,
        build: &Build<'_>,
        transfer: &Transfer,
        is_add: bool,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        refuse(transfer)?;
        let settings = self.config().runs()?;
        let mut dest = absolute(settings::text(&settings, "WorkingDir"), &transfer.dest).to_string_lossy().into_owned();
        if transfer.dest.ends_with(['/', '.']) && !dest.ends_with('/') && is_directory_name(&transfer.dest) {
            dest.push('/');
        }
        let exclude = Ignore::of(transfer.exclude.iter().map(String::as_str))?;
        build.with_source(transfer.from.as_deref(), self.index, |source| {
            let mut pieces = pieces(source, &exclude, transfer, is_add)?;
            let digest = digest(source, &mut pieces, &exclude)?;
            let verb = if is_add { "ADD" } else { "COPY" };
            let options = shown_options(transfer);
            let created_by = format!("{verb} {options}{} {}", shown_sources(transfer), transfer.dest);
            let act = format!("{verb} {options}{digest} in {dest}");
            self.write(build, progress, &act, &created_by, |draft| {
                build.copy(draft, source, (pieces, exclude), transfer, &dest)
            })
        })
    }
}

/// Whether the last part of a destination says that it is a directory.
fn is_directory_name(dest: &str) -> bool {
    matches!(dest.rsplit('/').next(), Some("" | "." | ".."))
}

fn refuse(transfer: &Transfer) -> Result<()> {
    let unsupported = |what: &str| Err(Error::new(Kind::Unsupported, what));
    if transfer.checksum.is_some() || transfer.keep_git_dir {
        return unsupported("--checksum and --keep-git-dir are for downloads, which are not made; fetch it in a RUN");
    }
    Ok(())
}

fn is_url(path: &str) -> bool {
    ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|scheme| path.starts_with(scheme))
}

fn shown_sources(transfer: &Transfer) -> String {
    let shown = transfer.sources.iter().map(|source| match source {
        dockerfile::Source::Path(path) => path.clone(),
        dockerfile::Source::HereDoc(document) => format!("<<{}", document.name),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn shown_options(transfer: &Transfer) -> String {
    let options = [("from", &transfer.from), ("chown", &transfer.chown), ("chmod", &transfer.chmod)];
    let shown =
        options.into_iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("--{name}={value} ")));
    let switches = [("link", transfer.link), ("parents", transfer.parents)];
    let switches = switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| format!("--{name} "));
    let exclude = transfer.exclude.iter().map(|pattern| format!("--exclude={pattern} "));
    shown.chain(switches).chain(exclude).collect()
}

fn pieces(source: &Source<'_>, exclude: &Ignore, transfer: &Transfer, is_add: bool) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for wanted in &transfer.sources {
        match wanted {
            dockerfile::Source::HereDoc(document) => {
                pieces.push(Piece::Text { name: document.name.clone(), content: document.content.clone() });
            }
            dockerfile::Source::Path(path) if is_add && is_url(path) => {
                let what =
                    format!("{path}: ADD makes no downloads; fetch it in a RUN, or put it into the build context");
                return Err(Error::new(Kind::Unsupported, what));
            }
            dockerfile::Source::Path(path) => {
                let all = if transfer.parents { source.find_with_parents(path)? } else { source.find(path)? };
                for found in all {
                    // Of a directory, what lies below is.
                    if !found.is_dir && exclude.excludes(&found.excludable()) {
                        continue;
                    }
                    let is_archive = is_add && transfer.unpack != Some(false) && is_archive(source, &found)?;
                    pieces.push(if is_archive { Piece::Archive(found) } else { Piece::Found(found) });
                }
            }
        }
    }
    Ok(pieces)
}

fn digest(source: &Source<'_>, pieces: &mut [Piece], exclude: &Ignore) -> Result<Digest> {
    let mut hasher = Sha256::new();
    for piece in pieces {
        match piece {
            Piece::Found(found) => {
                hasher.update(b"found");
                hasher.update(source.digest(found, exclude)?.hex());
            }
            Piece::Archive(found) => {
                hasher.update(b"archive");
                hasher.update(source.digest(found, exclude)?.hex());
            }
            Piece::Text { name, content } => hasher.update(format!("text{name}\0{content}\0")),
        }
    }
    Ok(Digest::finish(hasher))
}

/// Whether a file that `ADD` names is an archive.
fn is_archive(source: &Source<'_>, found: &Match) -> Result<bool> {
    Ok(found.is_file && archive::is_archive(source.content(&found.path)?, &found.path.to_string_lossy())?)
}

/// The tree of an image, mounted: a snapshot of its own, so that the image can be removed meanwhile.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    // Unmounted first.
    pub(super) mounted: Mounted,
    pub(super) held: Held<'a>,
}

impl Build<'_> {
    /// Shows `look` the tree that `from` names: a stage, an image, or without a name the build context.
    pub(super) fn with_source<T>(
        &self,
        from: Option<&str>,
        stage: usize,
        look: impl FnOnce(&Source<'_>) -> Result<T>,
    ) -> Result<T> {
        let Some(name) = from else {
            let ignore = Some(&self.options.ignore);
            let name = "the build context".to_owned();
            return look(&Source { root: self.context, ignore, keeps_owners: false, name });
        };
        let tree = self.tree(name, stage, Access::ReadOnly)?;
        let tree = tree.ok_or_else(|| Error::new(Kind::NotFound, format!("{name} has no layers, so no files")))?;
        look(&Source { root: tree.mounted.root(), ignore: None, keeps_owners: true, name: format!("'{name}'") })
    }

    /// The tree of a stage or an image; `None` for one without layers.
    pub(super) fn tree(&self, name: &str, before: usize, access: Access) -> Result<Option<Tree<'_>>> {
        self.tree_of(&self.config_of(name, before)?, access)
    }

    fn config_of(&self, name: &str, before: usize) -> Result<Config> {
        Ok(match self.stage_named(name, before) {
            Some(stage) => self.stage(stage)?.config().clone(),
            None if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                let what = format!("no stage {name}: there are {before} before this one, numbered from 0");
                return Err(Error::new(Kind::NotFound, what));
            }
            None => self.image(name).map_err(|error| self.explain(error, name, before))?.config,
        })
    }

    fn explain(&self, error: Error, name: &str, before: usize) -> Error {
        let lower = name.to_lowercase();
        let mut later = self.dockerfile().stages.iter().skip(before);
        match later.any(|stage| stage.name.as_deref() == Some(lower.as_str())) {
            true => error.within(format!("stage '{name}' does not come before this one, and no image has that name")),
            false => error,
        }
    }

    /// What the files of a stage or an image are known by.
    pub(super) fn chain_of(&self, name: &str, before: usize) -> Result<Option<ChainId>> {
        Ok(ChainId::chain(self.config_of(name, before)?.diff_ids()).last().copied())
    }

    /// Copies into `directory` what a new cache begins with; returns what the directory is that this lies in.
    pub(super) fn fill_cache(&self, mount: &RunMount, before: usize, directory: BorrowedFd<'_>) -> Result<Stat> {
        let RunMount::Cache { from, source: path, .. } = mount else {
            return Err(Error::new(Kind::Invalid, "only a cache begins with something"));
        };
        let path = path.as_deref().unwrap_or("/");
        self.with_source(from.as_deref(), before, |source| {
            let found = source.named(path)?;
            if !found.is_dir {
                let what = format!("a cache is a directory, and {path} of {} is none", source.name);
                return Err(Error::new(Kind::Invalid, what));
            }
            let stat = source.stat(&found.path)?;
            let how = How { now: self.started.as_second(), ..How::default() };
            // It lies beside the pool, maybe on another disk than this.
            let caches = self.store.layout().build_caches();
            let mut room = |bytes: Bytes| spare(&caches, bytes, BACKING_RESERVE);
            copy(directory, source, &[Piece::Found(found)], "/", &how, &mut room)?;
            Ok(stat)
        })
    }

    /// What lies at `path`, which is absolute, of the build context, without what is ignored: a copy at the same place.
    pub(super) fn context_without_ignored(&self, path: &Path) -> Result<Tree<'_>> {
        let held = self.store.draft(None)?;
        let mounted = held.mounted(Access::ReadWrite)?;
        let how = How { now: self.started.as_second(), ..How::default() };
        let mut filling = Filling::of(&held, &mounted)?;
        let mut room = |bytes: Bytes| filling.room(bytes);
        let path = path.to_string_lossy();
        self.with_source(None, 0, |source| {
            let piece = Piece::Found(source.named(&path)?);
            let slash = if piece.is_dir() && !path.ends_with('/') { "/" } else { "" };
            copy(mounted.root(), source, &[piece], &format!("{path}{slash}"), &how, &mut room)
        })
        .map_err(|error| self.store.explain(error))?;
        Ok(Tree { mounted, held })
    }

    fn tree_of(&self, config: &Config, access: Access) -> Result<Option<Tree<'_>>> {
        let Some(chain) = ChainId::chain(config.diff_ids()).last().copied() else { return Ok(None) };
        let held = self.store.draft(Some(&Key::layer(chain)))?;
        Ok(Some(Tree { mounted: held.mounted(access)?, held }))
    }

    fn copy(
        &self,
        draft: &Draft<'_>,
        source: &Source<'_>,
        (pieces, exclude): (Vec<Piece>, Ignore),
        transfer: &Transfer,
        dest: &str,
    ) -> Result<()> {
        let mounted = draft.mounted()?;
        let file_system = mounted.file_system()?;
        let owner = transfer.chown.as_ref().map(|owner| owner_of(mounted.root(), owner)).transpose()?;
        let mode = transfer.chmod.as_deref().map(Permissions::parse).transpose()?;
        let how = How { exclude, owner, mode, now: self.started.as_second() };
        let mut filling = draft.filling(&mounted)?;
        let mut room = |bytes: Bytes| filling.room(bytes);
        // An archive's destination is a directory always.
        let with_slash = format!("{}/", dest.trim_end_matches('/'));
        let dest = if pieces.iter().any(Piece::is_archive) { &with_slash } else { dest };
        if pieces.is_empty() {
            // The patterns found nothing. A directory to copy to is made nevertheless.
            copy(mounted.root(), source, &[], dest, &how, &mut room)?;
        }
        // What comes later wins, so all go in their order.
        for group in pieces.chunk_by(|piece, next| piece.is_archive() == next.is_archive()) {
            let archives = group.iter().filter_map(Piece::archive);
            let files = if group.iter().any(Piece::is_archive) { &[] } else { group };
            copy(mounted.root(), source, files, dest, &how, &mut room)?;
            for found in archives {
                add(&directory(&mounted, dest)?, source, found, owner, &mut room)?;
            }
        }
        file_system.write_out()
    }

    /// Whether an image has this directory.
    pub(super) fn has_directory(&self, config: &Config, path: &str) -> Result<bool> {
        let Some(tree) = self.tree_of(config, Access::ReadOnly)? else { return Ok(path == "/") };
        Ok(resolve(tree.mounted.root(), Path::new(path)).is_ok_and(|found| found.missing == 0 && found.is_dir))
    }

    /// Makes a directory that is the user's, as BuildKit does; without a user it is root's.
    pub(super) fn make_directory(&self, draft: &Draft<'_>, path: &str, user: &str) -> Result<()> {
        let mounted = draft.mounted()?;
        let file_system = mounted.file_system()?;
        let owner = if user.is_empty() { None } else { Some(owner_of(mounted.root(), user)?) };
        let how = How { owner, now: self.started.as_second(), ..How::default() };
        let mut filling = draft.filling(&mounted)?;
        let mut room = |bytes: Bytes| filling.room(bytes);
        let nothing = Source { root: self.context, ignore: None, keeps_owners: false, name: String::new() };
        copy(mounted.root(), &nothing, &[], &format!("{path}/"), &how, &mut room)?;
        file_system.write_out()
    }
}

/// Unpacks an archive of the source.
fn add(
    directory: &OwnedFd,
    source: &Source<'_>,
    found: &Match,
    owner: Option<(u32, u32)>,
    room: &mut dyn FnMut(Bytes) -> Result<()>,
) -> Result<()> {
    let act = || format!("unpack {}", found.path.display());
    // The cache's key says what was read before: it must be that still.
    let name = format!("{}, read a second time,", found.path.display());
    let content = found.seen.and_then(|seen| seen.content);
    let mut file = Verified::new(source.content(&found.path)?, name, content);
    unpack_added(directory.as_fd(), owner, archive::decoded(&mut file)?, room).act(act)?;
    io::copy(&mut file, &mut io::sink()).map_err(|error| read_error(error, act()))?;
    Ok(())
}

fn directory(mounted: &Mounted, dest: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = Path::new(".").join(dest.trim_start_matches('/'));
    openat2(mounted.root(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
        .act(|| format!("open {dest} of the image"))
}
