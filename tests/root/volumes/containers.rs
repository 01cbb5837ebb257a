//! Listings, names, commits with changes, pruning.

use std::fs;

use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

fn listed(host: &Host, args: &[&str]) -> Outcome<Vec<String>> {
    let rows = host.json(&[&["ps", "-a"], args].concat())?;
    Ok(rows.as_array().into_iter().flatten().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect())
}

fn size(host: &Host, name: &str) -> Outcome<u64> {
    let rows = host.json(&["ps", "-a", "-s", "--filter", &format!("name={name}")])?;
    rows[0]["size_rw_bytes"].as_u64().ok_or_else(|| format!("no size: {rows}").into())
}

pub(super) fn listed_renamed_committed_pruned(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("etc/base", b"base")])?;
    for name in ["one", "two", "three"] {
        host.ok(&["create", "--name", name, "base:1"])?;
    }
    host.ok(&["rename", "two", "second"])?;
    host.fails(&["rename", "one", "second"], "in use")?;
    expect_eq!(listed(host, &[])?, ["three", "second", "one"]);
    expect_eq!(listed(host, &["--filter", "before=three", "--filter", "since=one"])?, ["second"]);
    expect_eq!(listed(host, &["-n", "2"])?, ["three", "second"]);
    expect_eq!(listed(host, &["-l"])?, ["three"]);
    expect_eq!(host.ok(&["ps", "-a", "-q", "--no-trunc"])?.lines().next().map(str::len), Some(64));

    host.ok(&["create", "--name", "quoted", "base:1", "sh", "-c", "echo a much longer line"])?;
    for (args, shown) in [
        (&["ps", "-l"][..], "\"sh -c 'echo a much …\""),
        (&["ps", "-l", "--no-trunc"], "\"sh -c 'echo a much longer line'\""),
    ] {
        let text = host.ok(args)?;
        expect!(text.contains(&format!("{shown}  ")), "{text}");
    }
    host.ok(&["rm", "quoted"])?;

    // Sizes are those of this instant, however often they were asked for, mounted or not.
    sizes_are_never_stale(host)?;

    limits(host)?;

    let changes = ["ENV A=1", "CMD [\"sh\"]", "LABEL tier=web", "EXPOSE 80"];
    let changes: Vec<&str> = changes.iter().flat_map(|change| ["-c", *change]).collect();
    host.ok(&[&["commit", "-m", "noted", "-a", "me"], changes.as_slice(), &["one", "changed:1"]].concat())?;
    let config: serde_json::Value = serde_json::from_str(&host.ok(&["inspect", "changed:1"])?)?;
    let image = &config[0];
    expect_eq!(&image["Config"]["Env"], &serde_json::json!(["A=1"]));
    expect_eq!(&image["Config"]["ExposedPorts"], &serde_json::json!({"80/tcp": {}}));
    expect_eq!((&image["Author"], &image["Comment"]), (&"me".into(), &"noted".into()));
    host.fails(&["commit", "-c", "RUN true", "one", "bad:1"], "no instruction for a commit")?;
    host.ok(&["container", "create", "--name", "four", "changed:1"])?;
    expect_eq!(listed(host, &["--filter", "label=tier=web"])?, ["four"]);
    expect_eq!(listed(host, &["--filter", "ancestor=base:1"])?.len(), 4, "images on it count");
    expect_eq!(listed(host, &["--filter", "ancestor=changed:1"])?, ["four"]);

    host.mount("three")?;
    expect_eq!(listed(host, &["--filter", "status=mounted"])?, ["three"]);
    let answered = |answer: &str| -> Outcome<Said> {
        let file = host.file("answer");
        fs::write(&file, answer)?;
        Ok(host.command(&["container", "prune"]).stdin(fs::File::open(&file)?).output()?.into())
    };
    expect_eq!((answered("n\n")?.out, answered("")?.code), (String::new(), Some(1)));
    let pruned = answered("y\n")?.out;
    expect!(pruned.starts_with("Deleted Containers:\n") && pruned.contains("Total reclaimed space: "), "{pruned}");
    expect_eq!(listed(host, &[])?, ["three"]);
    host.ok(&["volume", "create"])?;
    host.ok(&["system", "prune", "-a", "--volumes", "-f"])?;
    let images = host.json(&["images"])?;
    expect_eq!(images.as_array().map(Vec::len), Some(1), "a container needs base:1");
    expect_eq!(host.ok(&["volume", "ls", "-q"])?, "");
    host.ok(&["umount", "three"]).map(drop)
}

/// A limit is the container's from its first instant, or there is no container.
fn limits(host: &Host) -> Outcome {
    let create = ["create", "--name", "small", "--storage-opt", "size=64M", "base:1"];
    if !host.has_device() {
        host.fails(&create, "driver cannot")?;
        expect!(!listed(host, &[])?.contains(&"small".to_owned()), "nothing stays");
        return Ok(());
    }
    let said = host.run(&create)?;
    if said.err.contains("6.7") && said.code == Some(1) {
        return Ok(());
    }
    expect_eq!(said.code, Some(0), "{said:?}");
    let shown: serde_json::Value = serde_json::from_str(&host.ok(&["inspect", "small"])?)?;
    expect_eq!(shown[0]["HostConfig"]["StorageOpt"]["size"], (64 << 20).to_string());
    let write = |container: &str| -> Outcome<std::io::Result<()>> {
        let target = host.mount(container)?;
        let file = fs::File::create(target.join("much"))?;
        let written = std::io::Write::write_all(&mut &file, &vec![1; 80 << 20]).and_then(|()| file.sync_all());
        drop(file);
        host.ok(&["umount", container])?;
        Ok(written)
    };
    let refused = write("small")?.err().and_then(|error| error.raw_os_error());
    expect!(matches!(refused, Some(libc::ENOSPC | libc::EDQUOT)), "{refused:?}");
    // The limit is the container's: an image of it has none.
    fs::remove_file(host.mount("small")?.join("much"))?;
    let much = host.file("much");
    fs::write(&much, vec![1; 80 << 20])?;
    host.ok(&["umount", "small"])?;
    host.fails(&["cp", &much.display().to_string(), "small:/"], "the container may write 64 MiB")?;
    fs::remove_file(host.mount("small")?.join("much"))?;
    host.ok(&["umount", "small"])?;
    host.ok(&["commit", "small", "grown:1"])?;
    host.ok(&["create", "--name", "grown", "grown:1"])?;
    write("grown")??;
    for args in [["rm", "small"], ["rm", "grown"], ["rmi", "grown:1"]] {
        host.ok(&args)?;
    }
    Ok(())
}

fn sizes_are_never_stale(host: &Host) -> Outcome {
    expect_eq!((size(host, "one")?, size(host, "one")?), (0, 0));
    let target = host.mount("one")?;
    let file = target.join("file");
    for round in 1..=8 {
        fs::write(&file, vec![round; 1000 * usize::from(round)])?;
        expect_eq!(size(host, "one")?, 1000 * u64::from(round), "round {round}");
        // Within the same tick of the clock, and without a new time.
        let time = fs::metadata(&file)?.modified()?;
        let open = fs::OpenOptions::new().append(true).open(&file)?;
        std::io::Write::write_all(&mut &open, b"more")?;
        open.set_modified(time)?;
        expect_eq!(size(host, "one")?, 1000 * u64::from(round) + 4, "round {round}, appended");
    }
    host.ok(&["umount", "one"])?;
    expect_eq!(size(host, "one")?, 8004);
    host.ok(&["pool", "down"])?;
    expect_eq!(size(host, "one")?, 8004);
    fs::remove_file(host.mount("one")?.join("file"))?;
    expect_eq!((size(host, "one")?, size(host, "three")?), (0, 0));
    host.ok(&["umount", "one"]).map(drop)
}
