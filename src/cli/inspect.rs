//! `lamina inspect`.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::{
    Global,
    images::{LayerRow, layer_rows},
    output, pool,
    ps::{self, SizeRow},
};
use crate::{
    container::{Container, Containers},
    error::{Error, Kind},
    id::{ContainerId, ImageId},
    image::{
        catalog::{Catalog, Image},
        digests,
    },
    store::{Info, Store},
    units::Bytes,
    volume::{Attached, Volumes},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Reference or ID of an image, or name or ID of a container
    #[arg(value_name = "IMAGE|CONTAINER")]
    name: String,
    /// Print JSON, which is what this prints anyway
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ImageView {
    id: ImageId,
    references: Vec<String>,
    repo_digests: Vec<String>,
    created: Option<String>,
    size_bytes: Bytes,
    own_bytes: Bytes,
    layers: Vec<LayerRow>,
    config: serde_json::Value,
}

#[derive(Serialize)]
struct ContainerView {
    id: ContainerId,
    name: String,
    image: ImageId,
    image_reference: String,
    created: String,
    mounted_at: Option<PathBuf>,
    volumes: Vec<VolumeView>,
    #[serde(flatten)]
    sizes: SizeRow,
    snapshot: Info,
}

#[derive(Serialize)]
struct VolumeView {
    name: String,
    source: PathBuf,
    target: String,
    read_only: bool,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        match containers.find(&self.name) {
            Ok(container) => return output::json(&[container_view(&store, container)?]),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let catalog = Catalog::new(&store);
        match catalog.find(&self.name) {
            Ok(image) => output::json(&[image_view(&store, &image)?]),
            Err(error) if error.kind() == Kind::NotFound => {
                Err(Error::new(Kind::NotFound, format!("no such image or container: {}", self.name)).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn image_view(store: &Store, image: &Image) -> Result<ImageView> {
    let catalog = &Catalog::new(store);
    Ok(ImageView {
        id: image.id,
        references: image.references.iter().map(ToString::to_string).collect(),
        repo_digests: digests::of(store, image)?.iter().map(ToString::to_string).collect(),
        created: image.config.created().map(str::to_owned),
        size_bytes: catalog.size(image)?,
        own_bytes: catalog.own(image, &catalog.sharing()?)?,
        layers: layer_rows(catalog, image)?,
        config: serde_json::from_slice(image.config.bytes())?,
    })
}

fn container_view(store: &Store, container: Container) -> Result<ContainerView> {
    let containers = Containers::new(store);
    let gone = || Error::new(Kind::NotFound, format!("container {} was removed meanwhile", container.name));
    let sizes = ps::sizes(&containers, std::slice::from_ref(&container))?.pop().flatten().ok_or_else(gone)?;
    let volumes = Volumes::of(store);
    let volume = |attached: Attached| VolumeView {
        source: volumes.path(&attached.volume),
        name: attached.volume.name,
        target: attached.target,
        read_only: attached.read_only,
    };
    Ok(ContainerView {
        volumes: volumes.attached(&container.id)?.into_iter().map(volume).collect(),
        mounted_at: containers.seen_at(&container)?,
        snapshot: containers.snapshot(&container)?,
        id: container.id,
        name: container.name,
        image: container.image,
        image_reference: container.reference,
        created: container.created,
        sizes,
    })
}
