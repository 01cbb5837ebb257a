//! Volumes, copies and limits of containers that run.

use std::fs;

use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

use super::base;

/// A volume has what the image has in its place, is shared, can be had read-only, and outlives its containers; one without
/// a name goes with its container if that goes by itself or with `rm -v`.
pub fn volumes_are_filled_shared_and_outlive(host: &Host) -> Outcome {
    base(host)?;
    let volumes = || host.ok(&["volume", "ls", "-q"]);
    host.ok(&["run", "--rm", "-v", "data:/etc", "base:1", "sh", "-c", "echo more > /etc/more"])?;
    let content = host.root().join("volumes/data/_data");
    expect!(fs::read_to_string(content.join("passwd"))?.contains("www:x:33"), "the image's content is there");
    expect_eq!(fs::read(content.join("more"))?, b"more\n");
    expect_eq!(host.ok(&["run", "--rm", "-v", "data:/data:ro", "base:1", "cat", "/data/more"])?, "more");
    let said = host.run(&["run", "--rm", "-v", "data:/data:ro", "base:1", "touch", "/data/new"])?;
    expect!(said.code == Some(1) && said.err.contains("Read-only file system"), "{said:?}");
    host.ok(&["run", "-d", "--name", "keeper", "-v", "data:/data", "-v", "/nameless", "base:1", "sleep", "1000"])?;
    host.fails(&["volume", "rm", "data"], "keeper")?;
    host.ok(&["exec", "keeper", "touch", "/data/kept", "/nameless/lost"])?;
    expect_eq!(volumes()?.lines().count(), 2);
    // What lies in volumes is neither its size nor its change.
    expect_eq!(host.json(&["ps", "-s"])?[0]["size_rw_bytes"], 0);
    expect_eq!(host.ok(&["diff", "keeper"])?, "");
    host.ok(&["rm", "-f", "-v", "keeper"])?;
    expect_eq!(volumes()?, "data");
    expect!(content.join("kept").exists(), "a volume outlives its container");
    host.ok(&["run", "--rm", "-v", "/nameless", "base:1", "true"])?;
    expect_eq!(volumes()?, "data");
    // One that got its name from us is its user's all the same, once they give it by that.
    let own = host.ok(&["volume", "create"])?;
    let given = format!("{own}:/own/");
    host.ok(&["run", "--rm", "-v", &given, "base:1", "touch", "/own/kept"])?;
    expect!(host.root().join("volumes").join(&own).join("_data/kept").exists(), "it was removed with the container");
    let said = host.run(&["run", "--rm", "-v", &given, "--tmpfs", "/own", "base:1", "true"])?;
    expect!(said.code == Some(125) && said.err.contains("duplicate mount point: /own"), "{said:?}");
    host.ok(&["volume", "rm", &own])?;
    host.ok(&["volume", "rm", "data"]).map(drop)
}

/// Copies see what the process sees, and a limit holds for it alone.
pub fn copies_and_limits(host: &Host) -> Outcome {
    base(host)?;
    host.ok(&["run", "-d", "--name", "box", "base:1", "sh", "-c", "echo inside > /srv/file; sleep 1000"])?;
    super::soon("the file is there", || Ok(host.run(&["exec", "box", "cat", "/srv/file"])?.code == Some(0)))?;
    let out = host.file("out");
    host.ok(&["cp", "box:/srv/file", &out.to_string_lossy()])?;
    expect_eq!(fs::read(&out)?, b"inside\n");
    fs::write(&out, "outside\n")?;
    host.ok(&["cp", &out.to_string_lossy(), "box:/srv/other"])?;
    expect_eq!(host.ok(&["exec", "box", "cat", "/srv/other"])?, "outside");
    expect!(host.ok(&["diff", "box"])?.contains("A /srv/other"), "what was copied is its own");
    host.ok(&["rm", "-f", "box"])?;
    let limited = ["run", "--rm", "--storage-opt", "size=32M", "base:1"];
    let write = ["dd", "if=/dev/zero", "of=/srv/big", "bs=1M", "count=64"];
    let said = host.run(&[&limited[..], &write].concat())?;
    if host.has_device() {
        let full = said.err.contains("No space left") || said.err.contains("quota exceeded");
        expect!(said.code == Some(1) && full, "{said:?}");
    } else {
        expect!(said.code == Some(125), "refused: {said:?}");
    }
    host.ok(&[&["run", "--rm", "base:1"][..], &write].concat()).map(drop)
}
