//! Loss of power: what a command has told as done is there afterwards, on a disk that loses whatever was not synced.
//!
//! The root directory lies on an ext4 on device-mapper's flakey target, which at the loss of power begins to drop every
//! write. Then all devices and mounts go, and the disk comes back with what had reached it. What it cannot show is a disk
//! that loses writes of its own cache: those that were handed to it are kept, also without a flush.

#![allow(clippy::print_stdout, reason = "a test's output is its report")]

use std::{fs, path::PathBuf};

use lamina::{
    Kind,
    block::{Control, DmName, TableLine, node},
    driver::DriverKind,
    fs::{mounts_below, unmount},
    units::Sectors,
};
use libtest_mimic::{Failed, Trial};

use crate::{
    disk::{LoopDisk, make_ext4, mount_ext4},
    expect_eq,
    image::tarball::Tarball,
    lamina::{Host, with_flaky_host},
    pool::Outcome,
    registry::server::{Layer, Server},
};

type Case = fn(&Host) -> Outcome;

const CASES: [(&str, Case); 2] =
    [("what_was_told_is_kept", what_was_told_is_kept), ("images_are_kept", images_are_kept)];

pub fn trials() -> Vec<Trial> {
    let of = |driver| {
        CASES.map(|(name, case)| {
            Trial::ignorable_test(format!("power::{driver}::{name}"), move || with_flaky_host(driver, case))
        })
    };
    DriverKind::ALL.into_iter().flat_map(of).collect()
}

/// What the kernel says when a file system comes back.
pub fn expect_messages() {
    for part in ["EXT4-fs", "BTRFS"] {
        println!("VM-EXPECT-KMSG: {part}");
    }
}

/// The command has come to its end when the power fails.
fn power_fails_after(host: &Host, args: &[&str]) -> Outcome<String> {
    let said = host.ok(args)?;
    host.lose_power()?;
    host.check()?;
    Ok(said)
}

/// Whether a container of the image has these files.
fn has_files(host: &Host, image: &str, files: &[(&str, &str)]) -> Outcome {
    let id = host.ok(&["create", image])?;
    let target = host.mount(&id)?;
    for (file, content) in files {
        expect_eq!(fs::read_to_string(target.join(file))?, *content, "{file} of {image}");
    }
    host.ok(&["umount", &id])?;
    host.ok(&["rm", &id]).map(drop)
}

/// What comes from a registry, a Dockerfile and an archive, and an archive itself.
fn images_are_kept(host: &Host) -> Outcome {
    expect_messages();
    let after = |args: &[&str]| power_fails_after(host, args);
    host.pool("512M")?;
    let server = Server::start()?;
    let tar = |name: &str| Tarball::default().file(name, name).end();
    server.image("pulled:1", &[Layer::gzip(&tar("lower"))?, Layer::gzip(&tar("upper"))?], "amd64")?;
    let pulled = server.reference("pulled:1");
    after(&["pull", "--plain-http", &pulled])?;
    after(&["tag", &pulled, "base:1"])?;
    let context = host.file("context");
    fs::create_dir(&context)?;
    fs::write(context.join("Dockerfile"), "FROM base:1\nCOPY Dockerfile /copied\nENV A=1\n")?;
    let built = after(&["build", "-q", "-t", "built:1", &context.to_string_lossy()])?;
    has_files(host, "built:1", &[("lower", "lower"), ("upper", "upper")])?;
    let archive = host.file("saved.tar").to_string_lossy().into_owned();
    after(&["save", "-o", &archive, "built:1"])?;
    after(&["rmi", "built:1", "base:1", &pulled])?;
    expect_eq!(host.json(&["images", "-a"])?, serde_json::json!([]));
    after(&["load", "-i", &archive])?;
    expect_eq!(host.ok(&["images", "-q", "--no-trunc"])?, built);
    has_files(host, "built:1", &[("lower", "lower"), ("upper", "upper")])
}

/// Containers, and the pool below.
fn what_was_told_is_kept(host: &Host) -> Outcome {
    expect_messages();
    let after = |args: &[&str]| power_fails_after(host, args);
    host.sync()?;
    after(&host.pool_args("512M"))?;
    let tar = host.file("rootfs.tar");
    crate::lamina::write_tar(&tar, &[("etc/base", b"base"), ("big", &[7; 200_000])])?;
    after(&["import", &tar.to_string_lossy(), "base:1"])?;
    after(&["create", "--name", "box", "base:1"])?;
    let target = host.mount("box")?;
    fs::write(target.join("note"), "kept")?;
    fs::write(target.join("big"), "short now")?;
    after(&["umount", "box"])?;
    expect_eq!(host.ok(&["diff", "box"])?, "C /big\nA /note");
    after(&["commit", "box", "next:1"])?;
    after(&["create", "--name", "other", "next:1"])?;
    after(&["volume", "create", "data"])?;
    after(&["rm", "box"])?;
    let names = host.json(&["ps", "-a"])?;
    expect_eq!(
        names.as_array().map(|all| all.iter().map(|row| row["name"].clone()).collect()),
        Some(vec!["other".into()])
    );
    expect_eq!(host.ok(&["volume", "ls", "-q"])?, "data");
    let target = host.mount("other")?;
    for (file, content) in [("note", "kept"), ("big", "short now"), ("etc/base", "base")] {
        expect_eq!(fs::read_to_string(target.join(file))?, content, "{file}");
    }
    // The container goes on, and what it had when its layer was made is in that.
    fs::write(target.join("late"), "as well")?;
    after(&["commit", "other", "later:1"])?;
    host.ok(&["create", "--name", "last", "later:1"])?;
    expect_eq!(fs::read_to_string(host.mount("last")?.join("late"))?, "as well");
    host.ok(&["umount", "last"])?;
    if host.has_device() {
        after(&["pool", "grow", "1G"])?;
        let total = host.json(&["pool", "status"])?["data"]["total_bytes"].as_u64();
        expect_eq!(total.is_some_and(|total| total > 700 << 20), true, "{total:?} bytes after growing");
    }
    Ok(())
}

/// A mounted ext4 on a disk whose power can fail; gone with the value.
pub struct FlakyDisk {
    disk: LoopDisk,
    control: Control,
    name: DmName,
    device: PathBuf,
    length: Sectors,
}

impl FlakyDisk {
    /// What this kernel has not.
    pub fn missing() -> Result<Option<String>, Failed> {
        let found = Control::open().and_then(|control| control.require("flakey", "CONFIG_DM_FLAKEY"));
        match found {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == Kind::Unsupported => Ok(Some(error.to_string())),
            Err(error) => Err(error.to_string().into()),
        }
    }

    pub fn new(size: u64) -> Outcome<Self> {
        let disk = LoopDisk::new(size)?;
        let device = disk.attach()?;
        let mark = lamina::id::CacheId::random();
        let name = DmName {
            name: format!("lamina-test-{}", &mark.as_str()[..8]),
            uuid: format!("LAMINA-TEST-{}", &mark.as_str()[..32]),
        };
        let flaky = Self { disk, control: Control::open()?, name, device, length: Sectors(size / 512) };
        make_ext4(&flaky.start()?)?;
        flaky.restart()?;
        Ok(flaky)
    }

    pub fn path(&self) -> PathBuf {
        self.disk.path()
    }

    /// From now on nothing reaches the disk, and nobody is told.
    pub fn drop_writes(&self) -> Outcome {
        self.control.load(&self.name, &self.line("0 60 1 drop_writes"), false)?;
        // Freezing the file system would write it out.
        self.control.suspend_no_lockfs(&self.name)?;
        Ok(self.control.resume(&self.name)?)
    }

    /// The disk comes back, with what it has.
    pub fn restart(&self) -> Outcome {
        self.stop()?;
        mount_ext4(&self.start()?, &self.path())
    }

    fn start(&self) -> Outcome<PathBuf> {
        let info = self.control.activate(&self.name, &self.line("60 0"), false)?;
        Ok(node(info.number)?)
    }

    /// Takes the device away, and with it all that was cached of it.
    fn stop(&self) -> Outcome {
        for mount in mounts_below(&self.path())? {
            unmount(&mount.target)?;
        }
        self.control.remove(&self.name)?;
        Ok(())
    }

    /// How many seconds it works and then not, again and again, and what it does then.
    fn line(&self, times: &str) -> TableLine {
        let text = format!("{} 0 {times}", self.device.display());
        TableLine { length: self.length, target: "flakey".to_owned(), text }
    }
}

impl Drop for FlakyDisk {
    fn drop(&mut self) {
        if let Err(fault) = self.stop() {
            eprintln!("take {} away: {}", self.name.name, fault.0);
        }
    }
}
