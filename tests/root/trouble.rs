//! Trouble that others make: mounts in places of ours and in other namespaces, a database that is gone, a helper that
//! is killed, devices that a dead command left active.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use lamina::{
    block::LoopFile,
    driver::DriverKind,
    fs::{mounts_below, unmount},
    store::{Key, Store},
};
use libtest_mimic::Trial;
use nix::{
    fcntl::{FcntlArg, fcntl},
    mount::MsFlags,
};

use crate::{
    expect, expect_eq,
    full::expect_messages,
    lamina::{Host, with_host},
    pool::Outcome,
};

type Case = fn(&Host) -> Outcome;

pub fn trials() -> Vec<Trial> {
    let every: [(&str, Case); 6] = [
        ("a_mount_in_another_namespace_is_told", mounted_elsewhere),
        ("a_foreign_mount_is_left_alone", foreign_mount),
        ("a_lost_database_is_told_by_every_command", lost_database),
        ("diff_in_json_loses_no_byte", diff_in_json),
        ("an_emptied_database_is_told_and_can_come_back", emptied_database),
        ("others_see_nothing_and_plant_nothing", others),
    ];
    let all = DriverKind::ALL.into_iter().flat_map(|driver| every.map(|(name, case)| (driver, name, case)));
    let some: [(DriverKind, &str, Case); 9] = [
        (DriverKind::Thin, "an_idle_device_goes_unless_it_is_locked", idle_device),
        (DriverKind::Thin, "a_file_that_lost_its_name_is_not_lost", file_without_name),
        (DriverKind::Btrfs, "a_file_that_lost_its_name_is_not_lost", file_without_name),
        (DriverKind::Btrfs, "a_foreign_mount_on_the_pool_is_left_alone", foreign_mount_on_the_pool),
        (DriverKind::Btrfs, "a_killed_mkfs_costs_nothing", killed_mkfs),
        (DriverKind::Btrfs, "a_full_pool_still_tells", full_pool_tells),
        (DriverKind::Overlay, "what_is_mounted_in_a_volume_survives", mount_in_a_volume),
        (DriverKind::Vfs, "what_is_mounted_in_a_volume_survives", mount_in_a_volume),
        (DriverKind::Vfs, "a_container_that_lost_its_tree_is_told", lost_tree),
    ];
    all.chain(some)
        .map(|(driver, name, case)| {
            Trial::ignorable_test(format!("trouble::{driver}::{name}"), move || with_host(driver, case))
        })
        .collect()
}

fn prepare(host: &Host) -> Outcome {
    expect_messages();
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"]).map(drop)
}

fn container_id(host: &Host) -> Outcome<String> {
    Ok(host.json(&["inspect", "box"])?[0]["Id"].as_str().ok_or("an id")?.to_owned())
}

/// A process that is ended with the value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("end a test's process: {error}");
        }
    }
}

/// A process in a mount namespace of its own in which 'box' is mounted.
fn elsewhere(host: &Host) -> Outcome<Process> {
    let script = "\"$1\" mount box >&2 && echo ready && exec sleep 1000";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_lamina")]);
    let child = command.env("LAMINA_ROOT", host.root()).stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
    let mut process = Process(child);
    let mut said = String::new();
    BufReader::new(process.0.stdout.take().ok_or("a pipe")?).read_line(&mut said)?;
    expect_eq!(said, "ready\n");
    Ok(process)
}

/// `rm` took the container away under the other namespace's mount, or said a bare EBUSY when its row was gone.
fn mounted_elsewhere(host: &Host) -> Outcome {
    prepare(host)?;
    let other = elsewhere(host)?;
    let process = format!("in the mount namespace of process {} (sleep)", other.0.id());
    for args in [&["pool", "down"][..], &["pool", "destroy", "--yes"]] {
        host.fails(args, &process)?;
    }
    host.check()?;
    expect_eq!(host.json(&["ps", "-a"])?.as_array().map(Vec::len), Some(1));
    // It can be mounted here as well.
    expect_eq!(fs::read(host.mount("box")?.join("file"))?, b"content");
    host.ok(&["umount", "box"])?;
    drop(other);
    // Removed, it is gone for its user; what somebody has open elsewhere can be read until that lets go.
    let other = elsewhere(host)?;
    let place = host.root().join("mounts").join(container_id(host)?).join("file");
    let mut held = fs::File::open(format!("/proc/{}/root{}", other.0.id(), place.display()))?;
    host.ok(&["rm", "box"])?;
    expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
    if host.driver == DriverKind::Thin {
        // A device that is open cannot go; each command tries again.
        let said = host.run(&["check"])?;
        expect!(said.out.contains("is wanted by nobody and could not be removed"), "{said:?}");
    } else {
        host.check()?;
    }
    let mut content = String::new();
    std::io::Read::read_to_string(&mut held, &mut content)?;
    expect_eq!(content, "content");
    drop((held, other));
    host.ok(&["pool", "down"])?;
    host.check()
}

/// A tmpfs with a file in it; it is unmounted with the value, wherever it is then.
struct Foreign(PathBuf);

impl Foreign {
    fn on(target: &Path) -> Outcome<Self> {
        fs::create_dir_all(target)?;
        nix::mount::mount(Some("foreign"), target, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        let mounted = Self(target.to_owned());
        fs::write(target.join("theirs"), "theirs")?;
        Ok(mounted)
    }

    fn is_untouched(&self) -> Outcome {
        expect_eq!(fs::read_to_string(self.0.join("theirs"))?, "theirs");
        Ok(())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0) {
            eprintln!("unmount a test's tmpfs: {error}");
        }
    }
}

/// `mount` took it for the container, `umount` and `check --repair` unmounted it.
fn foreign_mount(host: &Host) -> Outcome {
    prepare(host)?;
    let target = host.root().join("mounts").join(container_id(host)?);
    let told = "a tmpfs is mounted at";
    for mounted in [false, true] {
        if mounted {
            host.ok(&["mount", "box"])?;
        }
        let foreign = Foreign::on(&target)?;
        for args in [&["mount", "box"][..], &["umount", "box"], &["rm", "box"]] {
            host.fails(args, told)?;
        }
        for args in [&["check"][..], &["check", "--repair"]] {
            let said = host.run(args)?;
            expect!(said.code == Some(1) && said.out.contains(told), "{said:?}");
        }
        if host.has_device() {
            host.fails(&["pool", "down"], &target.display().to_string())?;
        }
        host.fails(&["pool", "destroy", "--yes"], "umount")?;
        expect_eq!(host.json(&["ps", "-a"])?[0]["mounted"], false);
        host.ok(&["diff", "box"])?;
        foreign.is_untouched()?;
        drop(foreign);
        host.check()?;
    }
    host.ok(&["umount", "box"])?;
    // Nor in the place of no container.
    let foreign = Foreign::on(&host.root().join("mounts/theirs"))?;
    let said = host.run(&["check", "--repair"])?;
    expect!(said.code == Some(1) && said.out.contains(told), "{said:?}");
    foreign.is_untouched()?;
    drop(foreign);
    host.ok(&["rm", "box"])?;
    host.check()
}

/// `pool down` unmounted whatever lay on the pool's mount point.
fn foreign_mount_on_the_pool(host: &Host) -> Outcome {
    prepare(host)?;
    for up in [true, false] {
        if !up {
            host.ok(&["pool", "down"])?;
        }
        let foreign = Foreign::on(&host.root().join("pool/mnt"))?;
        for args in [&["images"][..], &["pool", "down"], &["pool", "destroy", "--yes"], &["check", "--repair"]] {
            host.fails(args, "where only the pool belongs")?;
        }
        foreign.is_untouched()?;
        drop(foreign);
        host.check()?;
    }
    Ok(())
}

/// Removing a volume went on into what somebody had mounted in it.
fn mount_in_a_volume(host: &Host) -> Outcome {
    prepare(host)?;
    fs::create_dir(host.mount("box")?.join("inside"))?;
    host.ok(&["umount", "box"])?;
    let volume = host.json(&["inspect", "box"])?;
    let volume = volume[0]["GraphDriver"]["Data"]["VolumeId"].as_str().ok_or("a volume")?;
    let mut foreign = Foreign::on(&host.root().join("pool/volumes").join(volume).join("inside"))?;
    let said = host.run(&["rm", "box"])?;
    expect!(said.code == Some(0) && said.err.contains("something is mounted on it"), "{said:?}");
    // The volume has lost its name, and the mount went with it.
    foreign.0 = mounts_below(&host.root())?
        .into_iter()
        .find(|mount| mount.fstype == "tmpfs")
        .ok_or("the tmpfs is mounted still")?
        .target;
    foreign.is_untouched()?;
    drop(foreign);
    // The next command removes it.
    host.check()
}

/// `images` said that there were none, and `pool create` put a new database in the way of the old one.
fn lost_database(host: &Host) -> Outcome {
    prepare(host)?;
    fs::write(host.mount("box")?.join("note"), "kept")?;
    host.ok(&["umount", "box"])?;
    let aside = host.file("aside");
    fs::create_dir(&aside)?;
    for up in [true, false] {
        if !up {
            host.ok(&["pool", "down"])?;
        }
        let mut moved = Vec::new();
        for entry in fs::read_dir(host.root())? {
            let name = entry?.file_name();
            if name.as_bytes().starts_with(b"lamina.db") {
                fs::rename(host.root().join(&name), aside.join(&name))?;
                moved.push(name);
            }
        }
        let tar = host.file("rootfs.tar").display().to_string();
        let create = host.pool_args("512M");
        let commands: [&[&str]; 9] = [
            &["images"],
            &["ps", "-a"],
            &["pool", "status"],
            &["pool", "down"],
            &["pool", "destroy", "--yes"],
            &["check"],
            &["check", "--repair"],
            &["import", &tar, "other:1"],
            &create,
        ];
        for args in commands {
            host.fails(args, "put lamina.db back")?;
            if host.has_device() {
                let told = host.run(args)?.err;
                expect_eq!(told.contains("losetup -d"), up, "{told}");
            }
        }
        expect!(!host.root().join("lamina.db").exists(), "nothing is put in its place");
        for name in moved {
            fs::rename(aside.join(&name), host.root().join(&name))?;
        }
        host.check()?;
        expect_eq!(fs::read(host.mount("box")?.join("note"))?, b"kept");
        host.ok(&["umount", "box"])?;
    }
    Ok(())
}

/// JSON has no bytes, and two names became one.
fn diff_in_json(host: &Host) -> Outcome {
    prepare(host)?;
    let root = host.mount("box")?;
    for name in [&b"plain"[..], b"\xff", b"\xfe"] {
        fs::write(root.join(OsStr::from_bytes(name)), "")?;
    }
    host.ok(&["umount", "box"])?;
    let rows = host.json(&["diff", "box"])?;
    let replaced = "/\u{fffd}";
    let expected = serde_json::json!([
        {"kind": "A", "path": "/plain"},
        {"kind": "A", "path": replaced, "path_hex": "2ffe"},
        {"kind": "A", "path": replaced, "path_hex": "2fff"},
    ]);
    expect_eq!(rows, expected);
    Ok(())
}

/// A device that a killed command had activated stayed until its volume was used; one that a living command is about to
/// mount must stay.
fn idle_device(host: &Host) -> Outcome {
    prepare(host)?;
    let store = Store::open(&host.root())?.ok_or("no pool")?;
    let key: Key = container_id(host)?.parse()?;
    let volume = store.stat(&key)?.volume;
    let locks = fs::File::options().write(true).open(host.root().join("locks"))?;
    let lock = libc::flock {
        l_type: libc::F_WRLCK.try_into()?,
        l_whence: libc::SEEK_SET.try_into()?,
        l_start: volume.get().into(),
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&locks, FcntlArg::F_OFD_SETLK(&lock))?;
    store.mounts(&key)?;
    for args in [&["images"][..], &["check", "--repair"]] {
        host.ok(args)?;
        expect_eq!(store.driver().active()?, [volume]);
    }
    drop(locks);
    host.ok(&["images"])?;
    expect_eq!(store.driver().active()?, []);
    // One that is open is in use, whoever has it.
    let lamina::fs::MountSpec::Device { device, .. } = store.mounts(&key)? else { return Err("a device".into()) };
    let held = fs::File::open(device)?;
    host.ok(&["images"])?;
    expect_eq!(store.driver().active()?, [volume]);
    drop(held);
    host.check()?;
    expect_eq!(store.driver().active()?, []);
    Ok(())
}

/// A disk on which a killed mkfs had begun was nobody's, and no pool could be made there.
fn killed_mkfs(host: &Host) -> Outcome {
    let programs = host.file("programs");
    fs::create_dir(&programs)?;
    let mkfs = programs.join("mkfs.btrfs");
    let script = "#!/bin/sh\nfor last; do :; done\n\
        printf half | dd of=\"$last\" bs=4096 seek=256 conv=notrunc status=none\nkill -KILL $PPID\n";
    fs::write(&mkfs, script)?;
    fs::set_permissions(&mkfs, fs::Permissions::from_mode(0o755))?;
    let disk = host.file("disk");
    fs::File::create(&disk)?.set_len(300 << 20)?;
    let device = LoopFile::attach(&disk)?;
    let (given, missing) = (host.file("given"), host.file("missing"));
    fs::File::create(&given)?.set_len(300 << 20)?;
    let try_all = || -> Outcome {
        for data in [device.device(), &given, &missing] {
            let data = data.display().to_string();
            let create = ["pool", "create", "--driver", "btrfs", "--data", &data];
            let said = host.command(&create).env("PATH", format!("{}:/usr/bin:/bin", programs.display())).output()?;
            expect_eq!(std::os::unix::process::ExitStatusExt::signal(&said.status), Some(9), "{said:?}");
            host.fails(&["pool", "status"], "no pool")?;
            let size = if fs::metadata(&data).is_ok() { &[][..] } else { &["--size", "300M"] };
            host.ok(&[&create[..], size].concat())?;
            host.check()?;
            host.ok(&["pool", "destroy", "--yes"])?;
        }
        Ok(())
    };
    let tried = try_all();
    // The pool that a failure left would keep the device.
    if tried.is_err() {
        host.run(&["pool", "destroy", "--yes"])?;
    }
    device.detach()?;
    tried
}

/// A copy of an instant takes some metadata, of which the kernel keeps enough back on a pool that has none for writers.
fn full_pool_tells(host: &Host) -> Outcome {
    expect_messages();
    host.pool("256M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let root = host.mount("box")?;
    fs::write(root.join("note"), "written")?;
    let mut file = fs::File::create(root.join("fill"))?;
    while std::io::Write::write_all(&mut file, &[0x5a; 1 << 20]).and_then(|()| file.sync_data()).is_ok() {}
    drop(file);
    // And all metadata.
    for number in 0.. {
        if fs::write(root.join(number.to_string()), [0x5a; 2000]).is_err() {
            break;
        }
    }
    for number in 0.. {
        if fs::write(root.join(format!("empty-{number}")), "").is_err() {
            break;
        }
    }
    expect_eq!(host.json(&["pool", "status"])?["health"], "out-of-space");
    for mounted in [true, false] {
        if !mounted {
            host.ok(&["umount", "box"])?;
        }
        let told = host.ok(&["diff", "box"])?;
        expect!(told.lines().any(|line| line == "A /note"), "{told}");
        expect!(host.json(&["ps", "-a", "-s"])?[0]["size_rw_bytes"].is_u64(), "the size is told");
    }
    host.fails(&["create", "base:1"], "lamina pool grow")?;
    host.ok(&["rm", "box"])?;
    host.ok(&["create", "base:1"]).map(drop)
}

/// SQLite made an empty database of it, whose log then covered the one that was put back.
fn emptied_database(host: &Host) -> Outcome {
    prepare(host)?;
    host.ok(&["pool", "down"])?;
    let database = host.root().join("lamina.db");
    let whole = fs::read(&database)?;
    fs::write(&database, "")?;
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(host.root().join(format!("lamina.db{suffix}")))?;
    }
    host.fails(&["ps", "-a"], "lamina.db is empty")?;
    host.fails(&["import", &host.file("rootfs.tar").to_string_lossy(), "other"], "lamina.db is empty")?;
    expect_eq!(fs::metadata(&database)?.len(), 0, "nothing is written into it");
    expect!(!host.root().join("lamina.db-wal").exists(), "nor beside it");
    fs::write(&database, whole)?;
    expect_eq!(fs::read(host.mount("box")?.join("file"))?, b"content");
    host.ok(&["umount", "box"]).map(drop)
}

/// Configurations are not for every user's eyes, locks not for every user's hands, a name with a digest not for whoever
/// makes an image, and a container with files of any size breaks no listing.
fn others(host: &Host) -> Outcome {
    fs::create_dir(host.root())?;
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755))?;
    prepare(host)?;
    for name in ["lamina.db", "lamina.db-wal", "lamina.db-shm", "locks"] {
        let mode = fs::metadata(host.root().join(name))?.permissions().mode() & 0o777;
        expect_eq!(mode, 0o600, "{name}");
    }
    let forged = format!("base@sha256:{}", "0".repeat(64));
    let tar = host.file("rootfs.tar");
    host.fails(&["import", &tar.to_string_lossy(), &forged], "leave the digest out")?;
    host.fails(&["commit", "box", &forged], "leave the digest out")?;
    let archive = host.file("forged.tar");
    crate::archive::write(&archive, &forged, &[tar.as_path()])?;
    host.fails(&["load", "-i", &archive.to_string_lossy()], "leave the digest out")?;
    expect_eq!(host.json(&["images"])?.as_array().map(Vec::len), Some(1));
    let root = host.mount("box")?;
    for name in ["one", "two", "three"] {
        // As long as a file can be, where the file system lets it.
        if fs::File::create(root.join(name))?.set_len(i64::MAX as u64 - 4095).is_err() {
            return host.ok(&["umount", "box"]).map(drop);
        }
    }
    let listed = host.json(&["ps", "-a", "-s"])?;
    expect!(listed[0]["size_rw_bytes"].as_u64() > Some(i64::MAX as u64), "{listed}");
    for args in [&["inspect", "box"][..], &["system", "df"]] {
        host.ok(args)?;
    }
    host.ok(&["umount", "box"]).map(drop)
}

/// `check --repair` detached the loop device that alone still had the pool's content.
fn file_without_name(host: &Host) -> Outcome {
    prepare(host)?;
    let (data, aside) = (host.root().join("pool/data"), host.file("aside"));
    // A second name, so that the test can put it back as a user does by copying.
    fs::hard_link(&data, &aside)?;
    fs::remove_file(&data)?;
    for args in [&["pool", "down"][..], &["check", "--repair"]] {
        let said = host.run(args)?;
        expect!(said.code == Some(1) && said.err.contains("cp --sparse=always /dev/loop"), "{args:?}: {said:?}");
    }
    fs::rename(&aside, &data)?;
    host.check()?;
    let length = fs::metadata(&data)?.len();
    fs::File::options().write(true).open(&data)?.set_len(length - 4096)?;
    let said = host.run(&["check"])?;
    expect!(said.code == Some(1) && said.out.contains("was cut off while the pool was up"), "{said:?}");
    fs::File::options().write(true).open(&data)?.set_len(length)?;
    expect_eq!(fs::read(host.mount("box")?.join("file"))?, b"content");
    host.ok(&["umount", "box"])?;
    host.check()
}

fn lost_tree(host: &Host) -> Outcome {
    prepare(host)?;
    fs::remove_dir_all(host.root().join("pool/volumes/2"))?;
    let said = host.run(&["check"])?;
    expect!(said.code == Some(1) && said.out.contains("volume 2 of active snapshot"), "{said:?}");
    host.ok(&["rm", "box"])?;
    host.check()
}
