//! Pulling an image of several layers from a registry on loopback, against other programs that do the same.

use std::{fs, io::Write as _, path::Path};

use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};

use super::{
    held::{Claim, Held, Sampled, in_turn},
    seconds,
};
use crate::{
    bench::{
        Limit, Options, Unit, building,
        command::{lamina, other, succeed},
        ground::{Directory, Ground},
        registry::{Registry, connection},
        tree,
    },
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    image::{catalog::Image, import::import, registry::push},
    program::{DOCKER_REGISTRY, PODMAN, PRLIMIT, Program, SKOPEO, UMOCI},
    units::Bytes,
};

pub(in crate::bench) const PULL: Held = Held {
    name: "pull",
    about: "pull of an image of five layers from a registry on loopback into a fresh pool, against 'skopeo copy' to a \
            directory and 'umoci unpack' of that",
    tests: "each layer is pulled down separately, and stored in Docker’s local storage area",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[DOCKER_REGISTRY, SKOPEO, UMOCI],
    files: 2,
    claims: &[Claim { what: "pull", against: Some("skopeo + umoci"), limit: |_| Some(Limit::RatioAtMost(1.0)) }],
    run: |options, driver| run(options, driver, with_umoci),
};

pub(in crate::bench) const PULL_PODMAN: Held = Held {
    name: "pull-podman",
    about: "the same pull, against 'podman pull' into fresh overlay directories",
    needs: &[DOCKER_REGISTRY, PODMAN],
    claims: &[Claim { what: "pull", against: Some("podman pull"), limit: |_| Some(Limit::RatioAtMost(1.0)) }],
    run: |options, driver| run(options, driver, with_podman),
    ..PULL
};

/// Both sides begin with nothing and are programs that start: a pool is made, or a directory, before the clock starts.
fn run(options: &Options, driver: DriverKind, base: fn(&Path, &str) -> Result<f64>) -> Result<Vec<Sampled>> {
    let registry = Registry::start(&options.directory)?;
    let there = registry.reference("bench/layers:1");
    let image = {
        let ground = Ground::new(&options.directory, driver)?;
        let image = layers(&options.directory, &Content::of(options), &ground)?;
        push(ground.store(), &image, &there.parse()?, &connection(), &())?;
        image
    };
    let pulled = |_| {
        let ground = Ground::new(&options.directory, driver)?;
        rustix::fs::sync();
        let time = seconds(|| succeed(lamina(ground.root(), &["pull", "-q", "--plain-http", &there])))?;
        is_there(&ground, &image)?;
        Ok(time)
    };
    let base = |_| base(&options.directory, &there);
    in_turn(options.samples(7), pulled, base).map(|sampled| vec![sampled])
}

fn is_there(ground: &Ground, image: &Image) -> Result<()> {
    crate::image::catalog::Catalog::new(ground.store()).find(&image.id.to_string()).map(drop)
}

/// What layers are made of: a root file system, if one was given, and how much else.
pub(super) struct Content<'a> {
    pub(super) tar: Option<&'a Path>,
    pub(super) files: usize,
    pub(super) size: u64,
}

impl<'a> Content<'a> {
    fn of(options: &'a Options) -> Self {
        Self { tar: options.tar.as_deref(), files: options.files, size: options.file_size.0 }
    }
}

/// The root file system that was given, or many small files; then some thousand small files, a file that does not
/// compress, one that does, and a change of one file.
pub(super) fn layers(below: &Path, content: &Content<'_>, ground: &Ground) -> Result<Image> {
    let store = ground.store();
    match content.tar {
        Some(tar) => {
            let file = fs::File::open(tar).act(|| format!("open {}", tar.display()))?;
            import(store, file, &"bench/base".parse()?, "bench").act(|| format!("import {}", tar.display()))?
        }
        None => import(store, tree::archive(content.files / 5)?, &"bench/base".parse()?, "bench")?,
    };
    let context = Directory::new(below, "context")?;
    let path = context.path();
    let small = path.join("small");
    fs::create_dir(&small).act(|| format!("make {}", small.display()))?;
    tree::fill(&small, content.files / 20)?;
    tree::big_file(&path.join("noise"), Bytes(content.size / 32))?;
    text(&path.join("text"), content.size / 16)?;
    let changed = tree::nth(0);
    let dockerfile = format!(
        "FROM bench/base\nCOPY small /bench\nCOPY noise /bench/\nCOPY text /bench/\nCOPY small/{0} /bench/{0}.copy\n",
        changed.display()
    );
    building::build(store, &dockerfile, path, "bench/layers")
}

/// A file of words, which compresses as programs and texts do.
fn text(path: &Path, size: u64) -> Result<()> {
    let act = || format!("write {}", path.display());
    let mut out = std::io::BufWriter::new(fs::File::create_new(path).act(act)?);
    let mut random = SmallRng::seed_from_u64(3);
    let mut left = size;
    while left > 0 {
        let word = format!("{:x} ", random.next_u32() % 4096);
        out.write_all(word.as_bytes()).act(act)?;
        left = left.saturating_sub(word.len() as u64);
    }
    out.flush().act(act)
}

fn with_umoci(below: &Path, there: &str) -> Result<f64> {
    let directory = Directory::new(below, "umoci")?;
    let (layout, bundle) = (directory.path().join("layout"), directory.path().join("bundle"));
    let copy = ["copy", "-q", "--src-tls-verify=false", &format!("docker://{there}")].map(str::to_owned);
    let copy = [copy.as_slice(), &[format!("oci:{}:bench", layout.display())]].concat();
    let image = format!("{}:bench", layout.display());
    let bundle = bundle.display().to_string();
    rustix::fs::sync();
    seconds(|| {
        succeed(other(SKOPEO, &copy)?)?;
        succeed(other(UMOCI, &["unpack", "--image", &image, &bundle])?)
    })
}

fn with_podman(below: &Path, there: &str) -> Result<f64> {
    let directory = Directory::new(below, "podman")?;
    // It refuses a longer path there.
    let run_directory = Directory::new(Path::new(crate::bench::RUN_DIRECTORY), "podman")?;
    let (root, run) = (directory.path().join("root"), run_directory.path().display().to_string());
    let root = root.display().to_string();
    let common = ["--root", &root, "--runroot", &run, "--storage-driver=overlay", "--cgroup-manager=cgroupfs"];
    let podman = |arguments: &[&str]| -> Result<std::process::Command> {
        // It wants to raise the limit otherwise, which not everybody may.
        let Program { name, .. } = PODMAN;
        other(PRLIMIT, &[&["--nofile=1024:1024", name], common.as_slice(), arguments].concat())
    };
    // Makes its database and directories, too.
    succeed(podman(&["info"])?)
        .map_err(|error| Error::with_source(Kind::Unsupported, "podman does not run here", error))?;
    rustix::fs::sync();
    seconds(|| succeed(podman(&["pull", "-q", "--tls-verify=false", there])?))
}
