//! What a container has of its host: Docker's `HostConfig`.

use serde_json::{Map, Value, json};

use super::merged;
use crate::{
    container::{Settings, Source, VolumeMount},
    runtime::{MASKED, Network, READ_ONLY},
    units::Bytes,
};

/// The memory that a container's `/dev/shm` may take (OCI runtime-spec, default mounts).
const SHM_SIZE: Bytes = Bytes::mib(64);

pub(super) fn of(settings: &Settings, size_limit: Option<Bytes>) -> Map<String, Value> {
    let mut all = merged([of_all(), namespaces(), resources(), windows(), chosen(settings)]);
    if let Some(size) = size_limit {
        all.insert("StorageOpt".into(), json!({ "size": size.0.to_string() }));
    }
    if !settings.tmpfs.is_empty() {
        let tmpfs = settings.tmpfs.iter().map(|tmpfs| (tmpfs.target.clone(), tmpfs.options.join(",").into()));
        all.insert("Tmpfs".into(), tmpfs.collect::<Map<String, Value>>().into());
    }
    if let Some(runtime) = &settings.runtime {
        all.insert("Runtime".into(), runtime.as_str().into());
    }
    all
}

/// What the user chose.
fn chosen(settings: &Settings) -> Value {
    let binds: Vec<String> = settings.volumes.iter().filter_map(bind).collect();
    let memory = settings.memory.map_or(0, |bytes| bytes.0);
    json!({
        "Binds": if binds.is_empty() { Value::Null } else { binds.into() },
        "NetworkMode": settings.network.unwrap_or(Network::None),
        "AutoRemove": settings.auto_remove,
        "ReadonlyRootfs": settings.read_only,
        "Memory": memory,
        // Memory and swap together.
        "MemorySwap": memory.saturating_mul(2),
        "NanoCpus": settings.milli_cpus.map_or(0, |milli| milli.saturating_mul(1_000_000)),
    })
}

/// As `-v` has it; an anonymous volume is in `Config.Volumes`.
fn bind(volume: &VolumeMount) -> Option<String> {
    let source = match &volume.source {
        Source::Host(source) | Source::Named(source) => source,
        Source::Anonymous => return None,
    };
    Some(format!("{source}:{}{}", volume.target, if volume.read_only { ":ro" } else { "" }))
}

/// What all containers of Lamina have.
fn of_all() -> Value {
    json!({
        "ContainerIDFile": "",
        "LogConfig": { "Type": "k8s-file", "Config": {} },
        "PortBindings": {},
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "VolumeDriver": "",
        "VolumesFrom": null,
        "CapAdd": null,
        "CapDrop": null,
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": null,
        "GroupAdd": null,
        "Links": null,
        "OomScoreAdj": 0,
        "Privileged": false,
        "PublishAllPorts": false,
        "SecurityOpt": null,
        "ShmSize": SHM_SIZE.0,
        "MaskedPaths": MASKED,
        "ReadonlyPaths": READ_ONLY,
    })
}

fn namespaces() -> Value {
    json!({
        "CgroupnsMode": "private", "IpcMode": "private", "Cgroup": "", "PidMode": "", "UTSMode": "", "UsernsMode": "",
    })
}

fn resources() -> Value {
    json!({
        "CpuShares": 0,
        "CgroupParent": "/lamina",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": null,
        "BlkioDeviceWriteBps": null,
        "BlkioDeviceReadIOps": null,
        "BlkioDeviceWriteIOps": null,
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [],
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "KernelMemory": 0,
        "KernelMemoryTCP": 0,
        "MemoryReservation": 0,
        "MemorySwappiness": null,
        "OomKillDisable": false,
        "PidsLimit": null,
        "Ulimits": null,
    })
}

/// What means something on Windows alone; Docker has it everywhere.
fn windows() -> Value {
    json!({
        "ConsoleSize": [0, 0], "Isolation": "", "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
    })
}
