//! What a container's processes may do and may take, seen from inside and from the host's side.

use std::{collections::BTreeSet, fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lamina::{
    fs::MountEntry,
    program::CRUN,
    runtime::{OciRuntime, RunDirectory, runs_of},
};

use super::{followed, life::fails_with, row};
use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

/// Docker's default capabilities (moby, oci/caps/defaults.go) as the kernel tells them.
const DOCKERS: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

/// crun is told the filter that it compiled for the first run, besides the profile; runc, which takes none, is not.
fn the_filter_is_made_once(host: &Host) -> Outcome {
    let runs = runs_of(&host.root().canonicalize()?);
    let of_runs = runs.parent().ok_or("a parent")?.to_owned();
    for (runtime, _) in OciRuntime::all().into_iter().filter(|(_, unusable)| unusable.is_none()) {
        for kept in fs::read_dir(&of_runs)?.filter_map(Result::ok) {
            if kept.file_name().to_string_lossy().starts_with("filter-") {
                fs::remove_file(kept.path())?;
            }
        }
        let mut made = Vec::new();
        for name in ["first", "second"] {
            let options = ["run", "-d", "--name", name, "--runtime", runtime.program().name, "base:1"];
            let run = runs.join(host.ok(&[&options[..], &["sleep", "1000"]].concat())?);
            let config: serde_json::Value = serde_json::from_slice(&fs::read(run.join("config.json"))?)?;
            let told = config["annotations"]["run.oci.seccomp_bpf_data"].as_str().map(|text| STANDARD.decode(text));
            expect_eq!(config["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
            let said = host.run(&["exec", name, "busybox", "unshare", "-U", "true"])?;
            expect!(said.err.contains("unshare(0x10000000): Operation not permitted"), "{said:?}");
            let id = run.file_name().ok_or("a name")?;
            made.push((told.transpose()?, fs::read(run.join("state").join(id).join("seccomp.bpf")).ok()));
            host.ok(&["rm", "-f", name])?;
        }
        let [first, second] = made.as_slice() else { return Err("two runs".into()) };
        expect_eq!(first.0, None, "{runtime:?}");
        if runtime.program() == CRUN {
            expect!(first.1.as_ref().is_some_and(|filter| filter.len() > 1000), "{runtime:?} compiled none");
            expect!(second.0 == first.1 && second.1 == first.1, "the second filter is not the first");
        } else {
            expect_eq!(second.0, None, "{runtime:?}");
        }
    }
    Ok(())
}

/// A first process and one more have Docker's capabilities, namespaces of their own, three open files, and no way to new
/// namespaces.
pub(super) fn privileges(host: &Host) -> Outcome {
    let script = "for n in ipc mnt net pid uts; do busybox readlink /proc/self/ns/$n; done; echo; \
                  grep ^Cap /proc/self/status; echo; ls /proc/$$/fd; busybox unshare -U true 2>&1";
    let id = host.ok(&["run", "-d", "--name", "bounded", "base:1", "sleep", "1000"])?;
    supervisor_is_nobodys(host, &id)?;
    let of_host: BTreeSet<String> = ["ipc", "mnt", "net", "pid", "uts"]
        .iter()
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).map(|link| link.display().to_string()))
        .collect::<Result<_, _>>()?;
    for (user, own) in [("root", DOCKERS), ("www", NONE)] {
        let shell = ["sh", "-c", script];
        let first = [&["run", "--rm", "-u", user, "base:1"], &shell[..]].concat();
        let further = [&["exec", "-u", user, "bounded"], &shell[..]].concat();
        for args in [first, further] {
            let said = host.run(&args)?;
            let parts: Vec<&str> = said.out.split("\n\n").collect();
            let [namespaces, capabilities, rest] = parts.as_slice() else { return Err(format!("{said:?}").into()) };
            expect_eq!(namespaces.lines().count(), 5, "{said:?}");
            expect!(
                namespaces.lines().all(|link| link.contains(":[") && !of_host.contains(link)),
                "{args:?}: {said:?}"
            );
            let told: Vec<&str> = capabilities.split_whitespace().collect();
            let wanted = ["CapInh:", NONE, "CapPrm:", own, "CapEff:", own, "CapBnd:", DOCKERS, "CapAmb:", NONE];
            expect_eq!(told, wanted, "{args:?}");
            // With a limit of none the kernel says another error; so it is the profile that refuses.
            expect_eq!(
                (rest.trim_end(), said.code),
                ("0\n1\n2\nunshare: unshare(0x10000000): Operation not permitted", Some(1)),
                "{args:?}"
            );
        }
    }
    the_filter_is_made_once(host)?;
    // What is in /proc is no program; in a network of its own everybody may listen and ping.
    let script =
        "grep ' /proc proc ' /proc/mounts; cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range";
    let said = host.ok(&["exec", "bounded", "sh", "-c", script])?;
    expect!(said.starts_with("proc /proc proc rw,nosuid,nodev,noexec"), "{said}");
    expect!(said.ends_with("\n0\n0\t2147483647"), "{said}");
    host.ok(&["rm", "-f", "bounded"]).map(drop)
}

/// What ends the service or login from which a container was started finds it by cgroup, and does not find its supervisor.
fn supervisor_is_nobodys(host: &Host, id: &str) -> Outcome {
    let run = RunDirectory::new(&runs_of(&host.root().canonicalize()?), id);
    let supervisor = run.supervisor()?.ok_or("a supervisor")?.id();
    let groups = fs::read_to_string(format!("/proc/{supervisor}/cgroup"))?;
    // Only systemd looks for units there, and where neither is mounted nobody does.
    let finds = |mount: &MountEntry| mount.fstype == "cgroup2" || mount.target.ends_with("systemd");
    if lamina::fs::mount_table()?.iter().any(finds) {
        let mut of_units = groups.lines().filter(|line| line.starts_with("0::") || line.contains(":name=systemd:"));
        expect!(of_units.any(|line| line.ends_with(":/lamina/supervisors")), "{groups}");
    }
    Ok(())
}

/// A file of the container's cgroup, in whichever hierarchy has it.
fn of_cgroup(id: &str, names: &[&str]) -> Outcome<Option<(PathBuf, String)>> {
    for mount in lamina::fs::mount_table()?.into_iter().filter(|mount| mount.fstype.starts_with("cgroup")) {
        for name in names {
            let file = mount.target.join("lamina").join(id).join(name);
            match fs::read_to_string(&file) {
                Ok(text) => return Ok(Some((file, text.trim().to_owned()))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(None)
}

/// Memory and processor time as the kernel has them for container `id`, made with `--memory 32M --cpus 0.5`.
pub(super) fn limits(id: &str) -> Outcome {
    let found = |names: &[&str]| -> Outcome<(PathBuf, String)> {
        Ok(of_cgroup(id, names)?.ok_or_else(|| format!("none of {names:?} for {id}"))?)
    };
    let (file, memory) = found(&["memory.limit_in_bytes", "memory.max"])?;
    expect_eq!(memory.parse::<u64>()?, 32 << 20, "{}", file.display());
    let (file, time) = found(&["cpu.cfs_quota_us", "cpu.max"])?;
    let wanted = if file.ends_with("cpu.max") { "50000 100000" } else { "50000" };
    expect_eq!(time, wanted, "{}", file.display());
    // As much swap as memory. The memory's group was found, so these lack only where the kernel does not count swap.
    for (name, wanted) in [("memory.memsw.limit_in_bytes", 64 << 20), ("memory.swap.max", 32 << 20)] {
        if let Some((file, swap)) = of_cgroup(id, &[name])? {
            expect_eq!(swap.parse::<u64>()?, wanted, "{}", file.display());
        }
    }
    Ok(())
}

/// Options that name a file or a signal do what they say.
pub(super) fn good_values_are_kept(host: &Host) -> Outcome {
    let (variables, number) = (host.file("variables"), host.file("number"));
    fs::write(&variables, "# a comment\nA=1\n\n  B=two words\nHERE\nNOWHERE\n")?;
    let (variables, file) = (variables.display().to_string(), number.display().to_string());
    let print = "echo $A, $B, $HERE, ${NOWHERE-none}";
    let options = ["run", "--rm", "--env-file", &variables, "-e", "A=2", "--cidfile", &file];
    let mut command = host.command(&[&options[..], &["base:1", "sh", "-c", print]].concat());
    let said = Said::from(command.env("HERE", "from here").output()?);
    expect_eq!((said.code, said.out.as_str()), (Some(0), "2, two words, from here, none\n"), "{}", said.err);
    expect_eq!(fs::read_to_string(&number)?.len(), 64);
    fails_with(host, 125, &["run", "--cidfile", &file, "base:1", "true"], "make the container ID file")?;
    fs::remove_file(&number)?;
    // A name that has no value here takes the image's away.
    let (context, text) = (host.file("context"), "FROM base:1\nENV A=1 B=2\n");
    fs::create_dir(&context)?;
    fs::write(context.join("Dockerfile"), text)?;
    host.ok(&["build", "-q", "-t", "with-env", &context.to_string_lossy()])?;
    let run = ["run", "--rm", "-e", "A", "-e", "NOWHERE", "with-env", "sh", "-c", "echo ${A-none} $B ${NOWHERE-none}"];
    expect_eq!(Said::from(host.command(&run).env_remove("A").env_remove("NOWHERE").output()?).out, "none 2 none\n");
    host.ok(&["rmi", "with-env"])?;
    // Its own signal asks it to stop, and its own time is what it has then: none, so that it never comes to its end.
    let traps = "trap 'exit 4' USR1; trap 'sleep 5; exit 5' TERM; echo ready; while true; do sleep 0.05; done";
    for (options, code) in [(["--stop-signal", "USR1"], 4), (["--stop-timeout", "0"], 137)] {
        let start = [&["run", "-d", "--name", "asked", "--cidfile", &file], &options[..]].concat();
        let id = host.ok(&[&start[..], &["base:1", "sh", "-c", traps]].concat())?;
        expect_eq!(fs::read_to_string(&number)?, id);
        followed(host, "asked", 1)?;
        host.ok(&["stop", "asked"])?;
        expect_eq!(row(host, "asked")?["exit_code"], code, "{options:?}");
        host.ok(&["rm", "asked"])?;
        fs::remove_file(&number)?;
    }
    Ok(())
}
