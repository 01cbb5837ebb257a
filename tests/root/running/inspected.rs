//! `inspect`: the keys of Docker 20.10's answers (moby, api/types), and what they say.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::base;
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

const CONTAINER: &str = "AppArmorProfile Args Config Created Driver ExecIDs GraphDriver HostConfig HostnamePath HostsPath \
    Id Image LogPath MountLabel Mounts Name NetworkSettings Path Platform ProcessLabel ResolvConfPath RestartCount State";
const STATE: &str = "Dead Error ExitCode FinishedAt OOMKilled Paused Pid Restarting Running StartedAt Status";
const CONFIG: &str = "AttachStderr AttachStdin AttachStdout Cmd Domainname Entrypoint Env Hostname Image Labels OnBuild \
    OpenStdin StdinOnce Tty User Volumes WorkingDir";
const HOST_CONFIG: &str = "AutoRemove Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps \
    BlkioDeviceWriteIOps BlkioWeight BlkioWeightDevice CapAdd CapDrop Cgroup CgroupParent CgroupnsMode ConsoleSize \
    ContainerIDFile CpuCount CpuPercent CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus \
    CpusetMems DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch ExtraHosts GroupAdd IOMaximumBandwidth \
    IOMaximumIOps IpcMode Isolation KernelMemory KernelMemoryTCP Links LogConfig MaskedPaths Memory MemoryReservation \
    MemorySwap MemorySwappiness NanoCpus NetworkMode OomKillDisable OomScoreAdj PidMode PidsLimit PortBindings Privileged \
    PublishAllPorts ReadonlyPaths ReadonlyRootfs RestartPolicy SecurityOpt ShmSize UTSMode Ulimits UsernsMode VolumeDriver \
    VolumesFrom";
const NETWORK: &str = "Bridge EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen HairpinMode IPAddress IPPrefixLen \
    IPv6Gateway LinkLocalIPv6Address LinkLocalIPv6PrefixLen MacAddress Networks Ports SandboxID SandboxKey \
    SecondaryIPAddresses SecondaryIPv6Addresses";
const ENDPOINT: &str = "Aliases DriverOpts EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAMConfig IPAddress \
    IPPrefixLen IPv6Gateway Links MacAddress NetworkID";
/// `Container` and `ContainerConfig` Docker itself has no more.
const IMAGE: &str = "Architecture Author Comment Config Created DockerVersion GraphDriver Id Metadata Os Parent RepoDigests \
    RepoTags RootFS Size VirtualSize";
const VOLUME: &str = "CreatedAt Driver Labels Mountpoint Name Options Scope Status";

/// Its keys are Docker's, with those of `more` that Docker leaves out where there is nothing.
fn expect_keys(what: &str, found: &Value, dockers: &str, more: &str) -> Outcome {
    let found: BTreeSet<&str> =
        found.as_object().ok_or(format!("{what}: {found}"))?.keys().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = dockers.split_whitespace().chain(more.split_whitespace()).collect();
    let (missing, unknown): (Vec<_>, Vec<_>) =
        (wanted.difference(&found).collect(), found.difference(&wanted).collect());
    expect!(missing.is_empty() && unknown.is_empty(), "{what}: without {missing:?}, and with {unknown:?}");
    Ok(())
}

pub fn it_is_inspected_as_by_docker(host: &Host) -> Outcome {
    base(host)?;
    host.ok(&["volume", "create", "--label", "a=b", "data"])?;
    let options = [
        "--name",
        "box",
        "-e",
        "A=b",
        "-w",
        "/srv",
        "-u",
        "www",
        "--memory",
        "64M",
        "--cpus",
        "0.5",
        "-v",
        "data:/data:ro",
        "-v",
        "/anonymous",
        "-v",
        "/etc:/host",
        "--tmpfs",
        "/tmp:size=1m",
    ];
    let id = host.ok(&[&["run", "-d"], options.as_slice(), &["base:1", "sleep", "1000"]].concat())?;
    let all = host.json(&["inspect", "-s", "box", "base:1", "data"])?;
    container(&all[0], &id)?;
    place(host, &all[0])?;
    let container = &all[0];
    expect_eq!((&container["SizeRw"], container["SizeRootFs"].as_u64() > Some(0)), (&0.into(), true));
    expect!(host.json(&["inspect", "box"])?[0]["SizeRw"].is_null(), "sizes are told when they are asked for");
    image(&all[1], &container["Image"])?;
    let volume = &all[2];
    expect_keys("volume", volume, VOLUME, "")?;
    expect_eq!((&volume["Labels"], &volume["Status"]["Containers"]), (&json!({"a": "b"}), &json!(["box"])));
    ended_and_limited(host)?;
    names_are_looked_for_in_dockers_order(host)?;
    host.ok(&["rm", "-f", "-v", "box"]).map(drop)
}

fn container(found: &Value, id: &str) -> Outcome {
    expect_keys("container", found, CONTAINER, "SizeRw SizeRootFs")?;
    expect_keys("state", &found["State"], STATE, "")?;
    expect_keys("config", &found["Config"], CONFIG, "")?;
    expect_keys("host config", &found["HostConfig"], HOST_CONFIG, "Tmpfs")?;
    expect_keys("network", &found["NetworkSettings"], NETWORK, "")?;
    expect_keys("endpoint", &found["NetworkSettings"]["Networks"]["none"], ENDPOINT, "")?;
    expect_eq!(
        (&found["Id"], &found["Name"], &found["Path"], &found["Args"]),
        (&id.into(), &"/box".into(), &"sleep".into(), &json!(["1000"]))
    );
    let (state, config, of_host) = (&found["State"], &found["Config"], &found["HostConfig"]);
    expect_eq!(
        (&state["Status"], &state["Running"], state["Pid"].as_u64() > Some(1)),
        (&"running".into(), &true.into(), true)
    );
    expect_eq!(
        (&config["User"], &config["WorkingDir"], &config["Env"], &config["Image"]),
        (&"www".into(), &"/srv".into(), &json!(["A=b"]), &"base:1".into())
    );
    expect_eq!((&config["Volumes"], &config["Labels"]), (&json!({"/anonymous": {}}), &json!({})));
    expect_eq!(
        (&of_host["Memory"], &of_host["NanoCpus"], &of_host["Binds"], &of_host["Tmpfs"]),
        (&(64 << 20).into(), &500_000_000.into(), &json!(["data:/data:ro", "/etc:/host"]), &json!({"/tmp": "size=1m"}))
    );
    for name in ["ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"] {
        let path = found[name].as_str().ok_or(name)?;
        expect!(std::path::Path::new(path).is_file(), "{name}: {path}");
    }
    let mounts = found["Mounts"].as_array().ok_or("a list")?;
    expect_eq!(mounts.len(), 3, "{mounts:?}");
    expect_keys("volume's mount", &mounts[0], "Destination Mode Propagation RW Source", "Driver Name Type")?;
    expect_keys("bind", &mounts[2], "Destination Mode Propagation RW Source", "Type")?;
    expect_eq!((&mounts[0]["Name"], &mounts[0]["RW"]), (&"data".into(), &false.into()));
    Ok(())
}

/// Where it lies is where it lies.
fn place(host: &Host, found: &Value) -> Outcome {
    let graph = &found["GraphDriver"];
    expect_eq!((&graph["Name"], &found["Driver"]), (&host.driver.name().into(), &host.driver.name().into()));
    let data = graph["Data"].as_object().ok_or("an object")?;
    expect!(data.values().all(Value::is_string), "texts, as Docker's are: {data:?}");
    let directory = data.get("Subvolume").or_else(|| data.get("UpperDir")).or_else(|| data.get("Directory"));
    match directory.and_then(Value::as_str) {
        Some(path) => expect!(std::path::Path::new(path).is_dir(), "{path}"),
        None => {
            let name = data["DeviceName"].as_str().ok_or("a device")?;
            let names = std::fs::read_dir("/sys/block")?.filter_map(|entry| Some(entry.ok()?.path().join("dm/name")));
            let mut names = names.filter_map(|path| std::fs::read_to_string(path).ok());
            expect!(names.any(|found| found.trim() == name), "there is no device {name}");
        }
    }
    Ok(())
}

fn image(found: &Value, id: &Value) -> Outcome {
    expect_keys("image", found, IMAGE, "")?;
    expect_keys("image's config", &found["Config"], CONFIG, "")?;
    expect_eq!((&found["Id"], &found["RepoTags"], &found["RepoDigests"]), (id, &json!(["base:1"]), &json!([])));
    expect_eq!(
        (&found["Os"], &found["RootFS"]["Type"], &found["Parent"]),
        (&"linux".into(), &"layers".into(), &"".into())
    );
    expect!(found["Size"].as_u64() > Some(1 << 20) && found["Size"] == found["VirtualSize"], "{found}");
    expect_eq!(found["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    expect!(found["Comment"].as_str().is_some_and(|text| text.starts_with("Imported from")), "{found}");
    Ok(())
}

fn ended_and_limited(host: &Host) -> Outcome {
    let limited = ["create", "--name", "limited", "--storage-opt", "size=64M", "--entrypoint", "echo", "base:1", "x"];
    if host.driver.has_device() {
        host.ok(&limited)?;
        let found = &host.json(&["inspect", "limited"])?[0];
        expect_eq!(found["HostConfig"]["StorageOpt"]["size"], (64 << 20).to_string());
        expect_eq!(
            (&found["Path"], &found["Args"], &found["State"]["Status"]),
            (&"echo".into(), &json!(["x"]), &"created".into())
        );
        expect_eq!((&found["State"]["StartedAt"], &found["HostsPath"]), (&"0001-01-01T00:00:00Z".into(), &"".into()));
        host.ok(&["rm", "limited"])?;
    }
    host.run(&["run", "--name", "ended", "base:1", "sh", "-c", "exit 7"])?;
    let state = &host.json(&["inspect", "ended"])?[0]["State"];
    expect_eq!((&state["Status"], &state["ExitCode"], &state["Pid"]), (&"exited".into(), &7.into(), &0.into()));
    host.ok(&["rm", "ended"]).map(drop)
}

fn names_are_looked_for_in_dockers_order(host: &Host) -> Outcome {
    for name in ["base", "data"] {
        host.ok(&["create", "--name", name, "base:1"])?;
    }
    host.ok(&["tag", "base:1", "base:latest"])?;
    let kind = |args: &[&str]| -> Outcome<&str> {
        let found = &host.json(&[&["inspect"], args].concat())?[0];
        Ok(if found["HostConfig"].is_object() {
            "container"
        } else if found["RootFS"].is_object() {
            "image"
        } else {
            "volume"
        })
    };
    for (args, wanted) in [
        (&["base"][..], "container"),
        (&["--type", "image", "base"], "image"),
        (&["data"], "container"),
        (&["--type", "volume", "data"], "volume"),
    ] {
        expect_eq!(kind(args)?, wanted, "{args:?}");
    }
    host.finds_nothing(&["inspect", "--type", "image", "data"], "no such image: data")?;
    host.finds_nothing(&["container", "inspect", "base:1"], "no such container: base:1")?;
    // What is there is shown; what is not is told.
    let said = host.run(&["inspect", "nobody", "base", "nothing"])?;
    expect!(said.code == Some(1) && said.err.contains("no such object: nothing"), "{said:?}");
    expect_eq!(serde_json::from_str::<Value>(&said.out)?.as_array().map(Vec::len), Some(1));
    expect_eq!(host.ok(&["inspect", "-f", "json", "base"])?.lines().count(), 1);
    host.fails(&["inspect", "-f", "{{.Id}}", "base"], "jq")?;
    host.ok(&["rm", "base", "data"]).map(drop)
}
