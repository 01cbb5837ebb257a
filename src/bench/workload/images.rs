//! Import of a root file system, and pull of an image of several layers from a registry on loopback.

use std::{fs, io, path::Path};

use super::{Across, How, Workload, pull};
use crate::{
    bench::{
        Unit,
        ground::{Directory, Ground},
        registry::{Registry, connection},
        rows::Stage,
        samples::Samples,
        scale::Scale,
        tree,
    },
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    image::registry::push,
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct ImportAndPull;

/// See the module's comment.
pub(in crate::bench) const IMAGES: ImportAndPull = ImportAndPull;

impl Workload for ImportAndPull {
    fn name(&self) -> &'static str {
        "images"
    }

    fn about(&self) -> &'static str {
        "import a root file system tar ('tar -x' on the bare file system), and pull an image of five layers from a registry on \
         loopback, with sync; space that each takes"
    }

    fn tests(&self) -> &'static str {
        "each layer is pulled down separately, and stored in Docker’s local storage area"
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

impl Across for ImportAndPull {
    fn asks_peers(&self) -> bool {
        true
    }

    fn room(&self, scale: &Scale) -> Bytes {
        Bytes((bytes(scale) + scale.image as u64 * 8192) * 4)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.1 + super::number(scale.image as u64) * 1e-4 + super::seconds_for(Bytes(bytes(scale)), 0.2e9)
    }

    fn begin(&self, below: &Path, scale: &Scale) -> Result<Option<Box<dyn Across>>> {
        Ok(Some(Box::new(Sources::make(below, scale)?)))
    }

    fn prepare(&self, _: &dyn Stage, _: &Scale) -> Result<()> {
        Err(not_begun())
    }

    fn run(&self, _: &dyn Stage, _: &Scale, _: usize, _: &mut Samples) -> Result<()> {
        Err(not_begun())
    }
}

fn not_begun() -> Error {
    Error::new(Kind::Invalid, "there is nothing to import or to pull")
}

/// Of what is imported beside its small files.
fn bytes(scale: &Scale) -> u64 {
    scale.bulk.0 / 2
}

/// What all rows import and pull.
#[derive(Debug)]
struct Sources {
    registry: Result<Registry>,
    /// What the tar holds.
    at: String,
    directory: Directory,
}

/// The image at the registry.
const NAME: &str = "bench/layers:1";

impl Sources {
    fn make(below: &Path, scale: &Scale) -> Result<Self> {
        let (files, size) = (scale.image / 2, Bytes(bytes(scale)));
        let directory = Directory::new(below, "sources")?;
        let tar = directory.path().join("root.tar");
        let act = || format!("make {}", tar.display());
        let mut content = tree::stream(move |tar| {
            tree::small_files(tar, Path::new(""), files)?;
            tree::add_noise(tar, Path::new("noise"), size)
        })?;
        let mut file = fs::File::create_new(&tar).act(act)?;
        io::copy(&mut content, &mut file).and_then(|_| file.sync_all()).act(act)?;
        let registry = match Registry::start(below) {
            Err(error) if error.kind() == Kind::MissingProgram => Err(error),
            started => Ok(fill(below, scale, started?)?),
        };
        Ok(Self { registry, at: format!("{files} small files and {size}"), directory })
    }
}

/// Has the registry hold an image, made in a pool that every kernel can have.
fn fill(below: &Path, scale: &Scale, registry: Registry) -> Result<Registry> {
    let ground = Ground::new(below, DriverKind::Vfs)?;
    let content = pull::Content { tar: None, files: scale.image, size: scale.bulk.0 * 8 };
    let image = pull::layers(below, &content, &ground)?;
    push(ground.store(), &image, &registry.reference(NAME).parse()?, &connection(), &())?;
    Ok(registry)
}

impl Across for Sources {
    fn room(&self, scale: &Scale) -> Bytes {
        IMAGES.room(scale)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        IMAGES.cost(scale)
    }

    fn prepare(&self, _: &dyn Stage, _: &Scale) -> Result<()> {
        Ok(())
    }

    fn run(&self, stage: &dyn Stage, _: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        let tar = self.directory.path().join("root.tar");
        if add(stage, samples, ("import", "space of the import", &self.at), || stage.import_file("imported", &tar))? {
            stage.remove_image("imported")?;
        }
        match &self.registry {
            Ok(registry) => {
                let there = registry.reference(NAME);
                if add(stage, samples, ("pull", "space of the pull", "five layers"), || stage.pull(&there))? {
                    stage.remove_pulled(&there)?;
                }
            }
            Err(error) => samples.cannot("pull", "five layers", error.to_string()),
        }
        Ok(())
    }
}

/// Takes time and space of `work`; tells whether the row can do it.
fn add(
    stage: &dyn Stage,
    samples: &mut Samples,
    (what, space, at): (&'static str, &'static str, &str),
    work: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    stage.settle()?;
    let before = stage.used()?;
    match super::seconds(|| work().and_then(|()| stage.write_out())) {
        Ok(time) => samples.add(what, at, Unit::Seconds, time),
        Err(error) if error.kind() == Kind::Unsupported => {
            samples.cannot(what, at, error.to_string());
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    samples.add(space, at, Unit::Bytes, super::number(stage.used()?.0) - super::number(before.0));
    Ok(true)
}
