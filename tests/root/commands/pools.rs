//! Pools: of which options, devices and files one is made, and how it goes.

use std::{fs, path::Path, process::Command};

use lamina::{
    block::LoopFile,
    driver::{DriverKind, pool},
};

use crate::{
    commands::is_id,
    expect, expect_eq,
    lamina::{Host, Said, write_tar},
    pool::Outcome,
};

pub fn first_command_makes_the_pool(host: &Host) -> Outcome {
    expect_eq!(host.json(&["images"])?, serde_json::json!([]), "looking needs no pool");
    expect!(!host.root().exists(), "looking makes nothing");
    let tar = host.file("rootfs.tar");
    write_tar(&tar, &[("file", b"content")])?;
    let said = host.run(&["import", &tar.display().to_string(), "first:1"])?;
    expect_eq!(said.code, Some(0), "{said:?}");
    expect!(said.err.contains("made a"), "it says so: {said:?}");
    expect!(is_id(said.out.trim()), "and prints only the ID on standard output: {said:?}");
    Ok(())
}

pub fn pools_that_cannot_be(host: &Host) -> Outcome {
    let driver = host.driver.name();
    let create = |more: &[&'static str]| [&["pool", "create", "--driver", driver], more].concat();
    let unused: &[[&str; 2]] = match host.driver {
        DriverKind::Thin => &[],
        DriverKind::Btrfs => &[["--metadata", "/nowhere"], ["--chunk", "64K"], ["--fs", "xfs"]],
        _ => &[["--size", "1G"], ["--data", "/nowhere"], ["--metadata", "/nowhere"], ["--chunk", "64K"]],
    };
    for option in unused {
        host.fails(&create(option), "leave it out")?;
    }
    if host.has_device() {
        host.fails(&create(&["--size", "1M"]), "1 MiB")?;
        let foreign = host.file("foreign");
        fs::write(&foreign, [b'x'; 4096].repeat(10_000))?;
        let path = foreign.display().to_string();
        let taken = ["pool", "create", "--driver", driver, "--size", "256M", "--data", &path];
        host.fails(&taken, &path)?;
        let kept = fs::read(&foreign)?;
        expect!(
            kept.len() == 40_960_000 && kept.iter().all(|byte| *byte == b'x'),
            "a file that is not ours stays as it is"
        );
    }
    if host.driver == DriverKind::Thin {
        host.fails(&create(&["--size", "512M", "--chunk", "100K"]), "chunk")?;
        host.fails(&create(&["--size", "512M", "--fs", "btrfs"]), "btrfs")?;
    }
    host.fails(&["pool", "status"], "no pool")
}

/// A root was used as it was typed, and the mount table knows only what the kernel calls it: `umount` said 'not
/// mounted', and `rm` deleted a mounted container.
pub fn a_root_behind_a_link_is_the_same_root(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let link = host.file("link");
    std::os::unix::fs::symlink(host.root(), &link)?;
    let through = |args: &[&str]| -> Outcome<Said> {
        Ok(Said::from(Command::new(env!("CARGO_BIN_EXE_lamina")).arg("--root").arg(&link).args(args).output()?))
    };
    let said = through(&["mount", "box"])?;
    expect_eq!(said.code, Some(0), "{said:?}");
    expect_eq!(host.mount("box")?.display().to_string(), said.out.trim());
    let refused = through(&["rm", "box"])?;
    expect!(refused.err.contains("unmount it first"), "{refused:?}");
    expect_eq!(through(&["umount", "box"])?.code, Some(0));
    host.check()
}

/// `pool down` and `check --repair` made a root directory where there was none, and a root that is a file had no images.
pub fn looking_makes_nothing(host: &Host) -> Outcome {
    for args in [&["images"][..], &["ps", "-a"], &["info"]] {
        host.ok(args)?;
    }
    for args in [&["pool", "status"][..], &["pool", "down"], &["pool", "destroy", "--yes"], &["check", "--repair"]] {
        host.fails(args, "there is no pool")?;
    }
    expect!(!host.root().exists(), "looking makes nothing");
    fs::write(host.root(), "a file")?;
    host.fails(&["images"], "Not a directory")?;
    fs::remove_file(host.root())?;
    // What the test's own end looks for.
    host.pool("512M")
}

/// A block device of the test's own; gone with the value.
struct Disk(Option<LoopFile>);

impl Disk {
    fn new(path: &Path, size: u64) -> Outcome<Self> {
        fs::File::create(path)?.set_len(size)?;
        Ok(Self(Some(LoopFile::attach(path)?)))
    }

    fn path(&self) -> String {
        self.0.as_ref().map(|attached| attached.device().display().to_string()).unwrap_or_default()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(LoopFile::detach) {
            eprintln!("detach a test's disk: {error}");
        }
    }
}

/// While it was up: what the kernel has of it is taken down by its devices, not by the name that is gone.
pub fn a_pool_whose_file_was_removed_goes(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    fs::remove_file(host.root().join("pool/data"))?;
    host.ok(&["pool", "destroy", "--yes"])?;
    let left = pool::held(&host.root().join("pool"))?;
    expect!(left.mapped.is_empty() && left.loops.is_empty(), "{left:?}");
    host.fails(&["pool", "status"], "no pool")?;
    host.pool("512M")
}

/// Block devices are used as they are, files that are there already too; nobody's data is, and one place is not two.
pub fn given_devices_and_files(host: &Host) -> Outcome {
    let driver = host.driver.name();
    let (data, metadata) = (Disk::new(&host.file("disk"), 600 << 20)?, Disk::new(&host.file("small-disk"), 16 << 20)?);
    let (data, metadata) = (data.path(), metadata.path());
    let mut create = vec!["pool", "create", "--driver", driver, "--data", &data];
    host.fails(&[&create[..], &["--size", "1G"]].concat(), "leave --size out")?;
    if host.driver == DriverKind::Thin {
        host.fails(&[&create[..], &["--metadata", &data]].concat(), "a place of its own")?;
        create.extend(["--metadata", &metadata]);
    }
    host.ok(&create)?;
    let total = |status: serde_json::Value| status["data"]["total_bytes"].as_u64().unwrap_or(0);
    let size = total(host.json(&["pool", "status"])?);
    expect!(size > 400 << 20 && size <= 600 << 20, "{size} bytes on a disk of 600 MiB");
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    host.ok(&["pool", "down"])?;
    expect_eq!(fs::read(host.mount("box")?.join("file"))?, b"content");
    host.ok(&["umount", "box"])?;
    host.fails(&["pool", "grow", "2G"], "the device")?;
    expect_eq!(total(host.json(&["pool", "status"])?), size);
    host.ok(&["pool", "destroy", "--yes"])?;
    // Destroyed, they are blank: the next pool takes them.
    host.ok(&create)?;
    host.check()?;
    host.ok(&["pool", "destroy", "--yes"])?;
    let file = host.file("given");
    fs::File::create(&file)?.set_len(300 << 20)?;
    host.ok(&["pool", "create", "--driver", driver, "--data", &file.display().to_string()])?;
    expect!(total(host.json(&["pool", "status"])?) <= 300 << 20, "as large as the file");
    host.check()
}
