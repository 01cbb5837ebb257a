//! A container, as `docker container inspect` shows it.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{NEVER, config_defaults, graph, host_config, if_any, merged, network};
use crate::{
    cli::ps,
    container::{Container, Containers, Settings, Source, State, Status, VolumeMount},
    error::{Error, Kind},
    image::catalog::{Catalog, Image},
    store::Store,
    volume::{Attached, Volumes},
};

/// Nothing if there is no such container.
pub(super) fn view(store: &Store, name: &str, with_size: bool) -> Result<Option<Value>> {
    let containers = Containers::new(store);
    let Some(container) = if_any(containers.find(name))? else { return Ok(None) };
    let view = view_of(store, &container, with_size);
    view.map(Some).map_err(|error| match containers.find(container.id.as_str()) {
        Err(missing) if missing.kind() == Kind::NotFound => gone(&container.name).into(),
        _ => error,
    })
}

fn gone(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("no such container: {name} (another command has just removed it)"))
}

fn view_of(store: &Store, container: &Container, with_size: bool) -> Result<Value> {
    let containers = Containers::new(store);
    let settings = containers.settings(container)?;
    let image = Catalog::new(store).find(&container.image.to_string())?;
    let attached = Volumes::of(store).attached(&container.id)?;
    let snapshot = containers.snapshot(container)?;
    let args = settings.args();
    let file = |name: &str| containers.file_of_host(container, name).map(|path| path.display().to_string());
    let base = json!({
        "Id": container.id,
        "Created": container.created,
        "Path": args.first().map_or("", String::as_str),
        "Args": args.get(1..).unwrap_or_default(),
        "State": state(&containers.status(container)?),
        "Image": container.image,
        "ResolvConfPath": file("resolv.conf").unwrap_or_default(),
        "HostnamePath": file("hostname").unwrap_or_default(),
        "HostsPath": file("hosts").unwrap_or_default(),
        "LogPath": containers.log_path(container),
        "Name": format!("/{}", container.name),
        "RestartCount": 0,
        "Driver": store.driver().kind(),
        "Platform": image.config.spec().os().to_string(),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config::of(&settings, snapshot.size_limit),
        "GraphDriver": graph::of_container(store, container, &snapshot)?,
        "Mounts": mounts(store, &settings, &attached),
        "Config": config(container, &settings, &image)?,
        "NetworkSettings": network::settings(settings.network),
    });
    let sizes = if with_size { sizes(&containers, container)? } else { Value::Null };
    Ok(merged([base, sizes]).into())
}

fn sizes(containers: &Containers<'_>, container: &Container) -> Result<Value> {
    let sizes = ps::sizes(containers, std::slice::from_ref(container))?.pop().flatten();
    let sizes = sizes.ok_or_else(|| gone(&container.name))?;
    Ok(json!({ "SizeRw": sizes.size_rw_bytes, "SizeRootFs": sizes.size_virtual_bytes }))
}

fn state(status: &Status) -> Value {
    let time = |time: Option<jiff::Timestamp>| time.map_or_else(|| NEVER.to_owned(), |time| time.to_string());
    json!({
        "Status": status.state.name(),
        "Running": status.state.is_live(),
        "Paused": status.state == State::Paused,
        "Restarting": false,
        "OOMKilled": status.out_of_memory,
        "Dead": false,
        "Pid": status.pid.unwrap_or(0),
        "ExitCode": status.shown_code(),
        "Error": "",
        "StartedAt": time(status.started),
        "FinishedAt": time(status.finished),
    })
}

/// What the image says of its containers, with what the container was made with over it.
fn config(container: &Container, settings: &Settings, image: &Image) -> Result<Map<String, Value>> {
    let hostname = if settings.hostname.is_empty() { container.id.short() } else { &settings.hostname };
    let listed = |words: &[String]| if words.is_empty() { Value::Null } else { words.into() };
    let anonymous = settings.volumes.iter().filter(|volume| volume.source == Source::Anonymous);
    let volumes: Map<String, Value> = anonymous.map(|volume| (volume.target.clone(), json!({}))).collect();
    let own = json!({
        "Hostname": hostname,
        "User": settings.user,
        "AttachStdin": settings.stdin_once,
        "Tty": settings.terminal,
        "OpenStdin": settings.stdin,
        "StdinOnce": settings.stdin_once,
        "Env": settings.env,
        "Cmd": listed(&settings.cmd),
        "Image": container.reference,
        "Volumes": if volumes.is_empty() { Value::Null } else { volumes.into() },
        "WorkingDir": settings.working_dir,
        "Entrypoint": listed(&settings.entrypoint),
    });
    let mut all = merged([config_defaults(), image.config.runs()?.into(), own]);
    if all.get("Labels").is_none_or(Value::is_null) {
        all.insert("Labels".into(), json!({}));
    }
    if let Some(signal) = &settings.stop_signal {
        all.insert("StopSignal".into(), signal.as_str().into());
    }
    if let Some(seconds) = settings.stop_timeout {
        all.insert("StopTimeout".into(), seconds.into());
    }
    Ok(all)
}

/// Directories in memory are not among them, but in `HostConfig.Tmpfs`.
fn mounts(store: &Store, settings: &Settings, attached: &[Attached]) -> Vec<Value> {
    let mount = |volume: &VolumeMount| {
        let data = attached.iter().find(|attached| attached.target == volume.target);
        let same = json!({ "Destination": volume.target, "Mode": mode(volume), "RW": !volume.read_only });
        let own = match (&volume.source, data) {
            (Source::Host(path), _) => json!({ "Type": "bind", "Source": path, "Propagation": "rprivate" }),
            (source, data) => {
                let path = data.map(|data| Volumes::of(store).path(&data.volume).display().to_string());
                let name = data.map_or(name_of(source), |data| &data.volume.name);
                let source = path.unwrap_or_default();
                json!({ "Type": "volume", "Name": name, "Source": source, "Driver": "local", "Propagation": "" })
            }
        };
        merged([own, same]).into()
    };
    settings.volumes.iter().map(mount).collect()
}

/// What the user wrote behind the last colon.
const fn mode(volume: &VolumeMount) -> &'static str {
    if volume.read_only { "ro" } else { "" }
}

fn name_of(source: &Source) -> &str {
    match source {
        Source::Named(name) => name,
        Source::Host(_) | Source::Anonymous => "",
    }
}
