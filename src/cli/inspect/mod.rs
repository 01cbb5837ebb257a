//! `lamina inspect`.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Global,
    images::{LayerRow, layer_rows},
    output, pool,
    ps::{self, SizeRow},
};
use crate::{
    container::{Container, Containers, Settings, Source, State, Status, Tmpfs, VolumeMount},
    error::{Error, Kind},
    id::{ContainerId, ImageId},
    image::{
        catalog::{Catalog, Image},
        digests,
    },
    store::{Info, Store},
    units::Bytes,
    volume::Volumes,
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
    #[serde(flatten)]
    sizes: SizeRow,
    snapshot: Info,
    /// Where its output is kept.
    log_path: PathBuf,
    /// In Docker's form, as the two below.
    #[serde(rename = "State")]
    state: Value,
    #[serde(rename = "Config")]
    config: Value,
    #[serde(rename = "Mounts")]
    mounts: Vec<Value>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        match containers.find(&self.name) {
            Ok(container) => {
                let (id, name) = (container.id.to_string(), container.name.clone());
                let view = container_view(&store, container).map_err(|error| match containers.find(&id) {
                    Err(missing) if missing.kind() == Kind::NotFound => gone(&name).into(),
                    _ => error,
                });
                return output::json(&[view?]);
            }
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

fn gone(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("no such container: {name} (another command has just removed it)"))
}

fn container_view(store: &Store, container: Container) -> Result<ContainerView> {
    let containers = Containers::new(store);
    let sizes = ps::sizes(&containers, std::slice::from_ref(&container))?.pop().flatten();
    let sizes = sizes.ok_or_else(|| gone(&container.name))?;
    let settings = containers.settings(&container)?;
    Ok(ContainerView {
        log_path: containers.log_path(&container),
        state: state(&containers.status(&container)?),
        config: config(&container, &settings),
        mounts: mounts(store, &settings, &container)?,
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

fn state(status: &Status) -> Value {
    // Docker's word for no time.
    let time =
        |time: Option<jiff::Timestamp>| time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string());
    json!({
        "Status": status.state.name(),
        "Running": status.state.is_live(),
        "Paused": status.state == State::Paused,
        "OOMKilled": status.out_of_memory,
        "Pid": status.pid.unwrap_or(0),
        "ExitCode": status.shown_code(),
        "StartedAt": time(status.started),
        "FinishedAt": time(status.finished),
    })
}

fn config(container: &Container, settings: &Settings) -> Value {
    let hostname = if settings.hostname.is_empty() { container.id.short() } else { &settings.hostname };
    json!({
        "Hostname": hostname,
        "User": settings.user,
        "Tty": settings.terminal,
        "OpenStdin": settings.stdin,
        "StdinOnce": settings.stdin_once,
        "Env": settings.env,
        "Cmd": settings.cmd,
        "Entrypoint": settings.entrypoint,
        "WorkingDir": settings.working_dir,
        "Image": container.reference,
        "StopSignal": settings.stop_signal,
        "StopTimeout": settings.stop_timeout,
        "NetworkMode": settings.network.unwrap_or(crate::runtime::Network::None),
        "ReadonlyRootfs": settings.read_only,
        "AutoRemove": settings.auto_remove,
        "Memory": settings.memory.map_or(0, |bytes| bytes.0),
        "NanoCpus": settings.milli_cpus.map_or(0, |milli| milli.saturating_mul(1_000_000)),
        "Runtime": settings.runtime,
    })
}

fn mounts(store: &Store, settings: &Settings, container: &Container) -> Result<Vec<Value>> {
    let volumes = Volumes::of(store);
    let attached = volumes.attached(&container.id)?;
    let of_volume = |volume: &VolumeMount| {
        let data = attached.iter().find(|attached| attached.target == volume.target);
        let (kind, name, source) = match (&volume.source, data) {
            (Source::Host(path), _) => ("bind", "", path.clone()),
            (_, Some(data)) => ("volume", data.volume.name.as_str(), volumes.path(&data.volume).display().to_string()),
            (Source::Named(name), None) => ("volume", name.as_str(), String::new()),
            (Source::Anonymous, None) => ("volume", "", String::new()),
        };
        json!({
            "Type": kind, "Name": name, "Source": source, "Destination": volume.target, "RW": !volume.read_only,
        })
    };
    let of_tmpfs =
        |tmpfs: &Tmpfs| json!({ "Type": "tmpfs", "Name": "", "Source": "", "Destination": tmpfs.target, "RW": true });
    Ok(settings.volumes.iter().map(of_volume).chain(settings.tmpfs.iter().map(of_tmpfs)).collect())
}
