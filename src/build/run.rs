//! `RUN`: a command in a container of the image so far; what it writes is the layer.

use std::{
    fs::{self, Permissions},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use super::{
    Build, Progress,
    copy::changed,
    dockerfile::{Program, Run, RunMount},
    layer::Draft,
    mount_cache,
    settings::{self, Settings},
    stage::Stage,
    target::{Resolved, absolute, resolve},
};
use crate::{
    driver::Access,
    error::{Act as _, Error, Kind, Result},
    fs::Mounted,
    runtime::{self, Command, Mount, MountKind, Network, OciRuntime, Workplace},
    store::Held,
    units::Bytes,
};

/// How much room a command finds in its volume. While it runs the volume grows with what it writes, as far as the pool
/// has space.
const ROOM: Bytes = Bytes::gib(10);

/// Files of the host that make its network usable.
const NETWORK_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Where a here-document that is a script stands while it runs.
const SCRIPT: &str = "/dev/lamina-run";

impl Stage {
    pub(super) fn run_command(&mut self, build: &Build<'_>, run: &Run, progress: &mut Progress<'_>) -> Result<()> {
        if run.security.as_deref().is_some_and(|security| security != "sandbox") {
            return Err(Error::new(
                Kind::Unsupported,
                "RUN --security=insecure: commands run with default capabilities only",
            ));
        }
        let settings = self.config().runs()?;
        let (env, declared) = self.environment(build)?;
        let network = build.network(run)?;
        let (args, script) = argv(&settings, run);
        let mounts = self.with_cache_bases(build, &run.mounts)?;
        let digests = build.mounted_digest(&mounts, self.index)?;
        let digest = digests.join(" ");
        let act = format!("RUN {declared:?} {args:?} {script:?} {mounts:?} {network:?} {digest}");
        let shown: Vec<&str> = declared.iter().map(String::as_str).chain(args.iter().map(String::as_str)).collect();
        // As Docker's history counts build arguments.
        let count = if declared.is_empty() { String::new() } else { format!("|{} ", declared.len()) };
        let created_by = format!("RUN {count}{}", shown.join(" "));
        let command = Command {
            args,
            env,
            cwd: settings::text(&settings, "WorkingDir").to_owned(),
            user: settings::text(&settings, "User").to_owned(),
            network,
            ..Command::default()
        };
        let job = Job { build, mounts, digests, script, stage: self.index };
        self.write(build, progress, &act, &created_by, |draft| job.execute(draft, command))
    }

    /// The mounts, with what a cache begins with as part of its name: with another base it is another cache.
    fn with_cache_bases(&self, build: &Build<'_>, mounts: &[RunMount]) -> Result<Vec<RunMount>> {
        let mut named = mounts.to_vec();
        for mount in &mut named {
            if let RunMount::Cache { id, from: Some(from), source, .. } = mount {
                let chain = build.chain_of(from, self.index)?.map(|chain| chain.to_string());
                let (base, path) = (chain.unwrap_or_default(), source.as_deref().unwrap_or("/"));
                *id = format!("{id} from {base} {path}");
            }
        }
        Ok(named)
    }
}

/// The command line; and a script, if the command is one.
fn argv(settings: &Settings, run: &Run) -> (Vec<String>, Option<String>) {
    match run.program() {
        Program::Exec(args) => (args, None),
        Program::Script { content, .. } => (vec![SCRIPT.to_owned()], Some(content)),
        Program::Shell(line) => {
            let mut args = settings::shell(settings);
            args.push(line);
            (args, None)
        }
    }
}

impl Build<'_> {
    /// What a bind mount shows is part of what the command does.
    fn mounted_digest(&self, mounts: &[RunMount], stage: usize) -> Result<Vec<String>> {
        let mut digests = Vec::new();
        for mount in mounts {
            let RunMount::Bind { from, source, .. } = mount else { continue };
            let path = source.as_deref().unwrap_or(".");
            digests.push(match from {
                None => self.with_source(None, stage, |tree| tree.digest_at(path))?.to_string(),
                // Its layers are known by their digests, and need not be read.
                Some(name) => {
                    let chain = self.chain_of(name, stage)?.map(|chain| chain.to_string());
                    format!("{} {path}", chain.unwrap_or_default())
                }
            });
        }
        Ok(digests)
    }

    fn network(&self, run: &Run) -> Result<Network> {
        match run.network.as_deref() {
            None | Some("default") => Ok(self.options.network),
            Some("none") => Ok(Network::None),
            Some("host") if self.options.network == Network::Host => Ok(Network::Host),
            Some("host") => Err(Error::new(Kind::Denied, "RUN --network=host in a build with --network none")),
            Some(other) => {
                Err(Error::new(Kind::Invalid, format!("network '{other}' is not one of default, none, host")))
            }
        }
    }
}

/// One `RUN` that has to be done.
struct Job<'a> {
    build: &'a Build<'a>,
    mounts: Vec<RunMount>,
    /// The digests of what its bind mounts show, which the cache's key holds.
    digests: Vec<String>,
    script: Option<String>,
    stage: usize,
}

/// What is to be there as long as the command runs.
#[derive(Default)]
struct Kept<'a> {
    trees: Vec<(Mounted, PathBuf)>,
    held: Vec<Held<'a>>,
}

impl<'a> Job<'a> {
    fn execute(&self, draft: &Draft<'_>, mut command: Command) -> Result<()> {
        let runtime = OciRuntime::find()?;
        let mounted = draft.mounted()?;
        draft.room(&mounted, ROOM)?;
        self.build.store.give_back_below()?;
        let file_system = mounted.file_system()?;
        let place = Workplace::make(&self.build.store.layout().builds())?;
        let fill = |mount: &RunMount, directory: BorrowedFd<'_>| self.build.fill_cache(mount, self.stage, directory);
        let caches = mount_cache::take(self.build.store.layout(), &self.mounts, &fill)?;
        let mut kept = Kept::default();
        if command.network == Network::Host {
            let there = NETWORK_FILES.into_iter().filter(|path| Path::new(path).exists());
            command.mounts.extend(there.map(|path| bind(path, path.into(), true)));
        }
        if let Some(script) = &self.script {
            command.mounts.push(bind(SCRIPT, self.write_script(&place, script)?, true));
        }
        for (number, mount) in self.mounts.iter().enumerate() {
            let point = place.path().join(format!("from-{number}"));
            command.mounts.push(self.mount(mount, &command.cwd, &point, &mut kept)?);
        }
        let hidden = self.build.store.layout().mounts();
        let root = mounted.root().try_clone_to_owned().act(|| "open the root file system")?;
        let look = || draft.look_ahead(root.as_fd(), &file_system, ROOM);
        let exit = runtime::run(runtime, (mounted, kept.trees), &command, &place, &hidden, &look)?;
        drop((root, caches, kept.held));
        if exit.code != 0 {
            // In Docker's words: what was run, with the shell that ran it.
            let why = exit.refusal.map(|why| format!(": {why}")).unwrap_or_default();
            let what = format!("the command '{}' returned a non-zero code: {}{why}", command.args.join(" "), exit.code);
            let failure = Error::new(Kind::Invalid, what);
            // What lies in memory still counts, too.
            let written = file_system.write_out().map_err(|error| self.build.store.explain(error));
            return Err(match written {
                Ok(()) => self.build.store.blame(failure),
                Err(why) => Error::new(why.kind(), format!("{failure}; {why}")),
            });
        }
        self.refuse_changed_context()?;
        file_system.write_out()
    }

    /// The context is not copied to be shown, so it may have been another while the command ran.
    fn refuse_changed_context(&self) -> Result<()> {
        let binds = self.mounts.iter().filter(|mount| matches!(mount, RunMount::Bind { .. }));
        for (mount, digest) in binds.zip(&self.digests) {
            let RunMount::Bind { from: None, source, .. } = mount else { continue };
            if self.build.mounted_digest(std::slice::from_ref(mount), self.stage)?.first() != Some(digest) {
                let path = source.as_deref().unwrap_or(".");
                return Err(changed()).act(|| format!("mount {path} of the build context"));
            }
        }
        Ok(())
    }

    fn write_script(&self, place: &Workplace, script: &str) -> Result<PathBuf> {
        let path = place.path().join("script");
        let act = || format!("write {}", path.display());
        fs::write(&path, script).act(act)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).act(act)?;
        Ok(path)
    }

    /// What `--mount` asks for.
    fn mount(&self, mount: &RunMount, cwd: &str, point: &Path, kept: &mut Kept<'a>) -> Result<Mount> {
        let inside = |target: &str| absolute(cwd, target).to_string_lossy().into_owned();
        let (RunMount::Tmpfs { target, .. } | RunMount::Cache { target, .. } | RunMount::Bind { target, .. }) = mount;
        if inside(target) == "/" {
            return Err(Error::new(Kind::Invalid, "invalid mount target '/': it would hide all of the image"));
        }
        match mount {
            RunMount::Tmpfs { target, size } => {
                let size = size.map(|size| format!("size={}", size.0));
                let options = size.into_iter().chain(["nosuid", "nodev"].map(str::to_owned)).collect();
                Ok(Mount { target: inside(target), kind: MountKind::Tmpfs, source: "tmpfs".into(), options })
            }
            RunMount::Cache { target, id, read_only, .. } => {
                Ok(bind(&inside(target), mount_cache::directory(self.build.store.layout(), id), *read_only))
            }
            RunMount::Bind { target, source, from, read_only } => {
                let source = absolute("", source.as_deref().unwrap_or(""));
                let access = if *read_only { Access::ReadOnly } else { Access::ReadWrite };
                // Followed inside the tree, so that no link of it leads the runtime out of it.
                let (root, inner) = match from {
                    None if *read_only && self.build.options.ignore.is_empty() => {
                        let inner = resolve(self.build.context, &source)?;
                        refuse_missing(&inner, &source)?;
                        // Held, since a path would be followed again, by root, while its owner can put links there.
                        kept.trees.push((Mounted::part(self.build.context, &source)?, point.to_owned()));
                        // With what is mounted in it, which would be written through a mount that is read-only alone.
                        let options = ["rbind", "rro", "rnosuid", "rnodev"].map(str::to_owned).to_vec();
                        let (target, source) = (inside(target), point.to_owned());
                        return Ok(Mount { target, kind: MountKind::Bind, source, options });
                    }
                    from => {
                        let tree = match from {
                            None => Some(self.build.context_without_ignored(&source)?),
                            // A snapshot of its own, so that what is written goes with it.
                            Some(name) => self.build.tree(name, self.stage, access)?,
                        };
                        let what = || format!("{} has no files", from.as_deref().unwrap_or_default());
                        let tree = tree.ok_or_else(|| Error::new(Kind::NotFound, what()))?;
                        let inner = resolve(tree.mounted.root(), &source)?;
                        kept.trees.push((tree.mounted, point.to_owned()));
                        kept.held.push(tree.held);
                        (point.to_owned(), inner)
                    }
                };
                refuse_missing(&inner, &source)?;
                Ok(bind(&inside(target), root.join(inner.path), *read_only))
            }
        }
    }
}

fn refuse_missing(found: &Resolved, source: &Path) -> Result<()> {
    if found.missing == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::NotFound, format!("mount {}: it does not exist", source.display())))
}

fn bind(target: &str, source: PathBuf, read_only: bool) -> Mount {
    let mut options = ["bind", "nosuid", "nodev"].map(str::to_owned).to_vec();
    if read_only {
        options.push("ro".to_owned());
    }
    Mount { target: target.to_owned(), kind: MountKind::Bind, source, options }
}
