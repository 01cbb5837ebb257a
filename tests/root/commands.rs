//! The commands as a user gives them, on every driver: the whole way from a tar to a removed container, what is refused,
//! many at once, signals, and a machine that was restarted.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lamina::{
    block::LoopFile,
    driver::{DriverKind, pool},
    program::MKFS_BTRFS,
};
use libtest_mimic::{Completion, Failed, Trial};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    archive, expect, expect_eq,
    lamina::{Host, Said, with_host, write_tar},
    pool::Outcome,
};

type Case = fn(&Host) -> Outcome;

/// The files of the database.
const DATABASE: [&str; 3] = ["lamina.db", "lamina.db-wal", "lamina.db-shm"];

const CASES: [(&str, Case); 25] = [
    ("whole_way", whole_way),
    ("first_command_makes_the_pool", first_command_makes_the_pool),
    ("layers_of_a_shared_base_lie_there_once", layers_of_a_shared_base_lie_there_once),
    ("load_reports_the_ids_of_the_archive", load_reports_the_ids_of_the_archive),
    ("a_bad_layer_leaves_nothing", a_bad_layer_leaves_nothing),
    ("in_use_is_refused", in_use_is_refused),
    ("names_that_do_not_exist", names_that_do_not_exist),
    ("wrong_usage_is_code_2", wrong_usage_is_code_2),
    ("pools_that_cannot_be", pools_that_cannot_be),
    ("after_a_reboot_the_next_command_works", after_a_reboot_the_next_command_works),
    ("ten_creates_at_once", ten_creates_at_once),
    ("one_image_imported_ten_times_at_once", one_image_imported_ten_times_at_once),
    ("first_commands_at_once_make_one_pool", first_commands_at_once_make_one_pool),
    ("a_signal_undoes_what_was_begun", a_signal_undoes_what_was_begun),
    ("a_root_behind_a_link_is_the_same_root", a_root_behind_a_link_is_the_same_root),
    ("a_lost_database_does_not_cost_the_pool", a_lost_database_does_not_cost_the_pool),
    ("mounting_and_removing_at_once", mounting_and_removing_at_once),
    ("ten_diffs_and_commits_at_once", ten_diffs_and_commits_at_once),
    ("mounts_inside_a_container_are_the_users", mounts_inside_a_container_are_the_users),
    ("load_tells_what_it_loaded", load_tells_what_it_loaded),
    ("looking_makes_nothing", looking_makes_nothing),
    ("a_signal_ends_waiting", a_signal_ends_waiting),
    ("a_pool_that_does_not_come_up_is_told", a_pool_that_does_not_come_up_is_told),
    ("an_old_database_costs_nothing", an_old_database_costs_nothing),
    ("what_is_mounted_inside_is_not_in_the_pool", what_is_mounted_inside_is_not_in_the_pool),
];

/// One case per driver.
pub fn trials() -> Vec<Trial> {
    let case = |driver: DriverKind, name: &str, case: Case| {
        Trial::ignorable_test(format!("commands::{driver}::{name}"), move || with_host(driver, case))
    };
    let mut all: Vec<Trial> =
        DriverKind::ALL.into_iter().flat_map(|driver| CASES.map(|(name, body)| case(driver, name, body))).collect();
    for driver in DriverKind::ALL.into_iter().filter(|driver| driver.has_device()) {
        all.push(case(driver, "given_devices_and_files", given_devices_and_files));
        all.push(case(driver, "a_pool_whose_file_was_removed_goes", a_pool_whose_file_was_removed_goes));
    }
    all.push(Trial::ignorable_test("commands::a_missing_kernel_feature_is_named", a_missing_kernel_feature_is_named));
    all.push(Trial::ignorable_test(
        "commands::a_missing_program_names_its_package",
        a_missing_program_names_its_package,
    ));
    all
}

fn is_id(text: &str) -> bool {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn whole_way(host: &Host) -> Outcome {
    host.pool("512M")?;
    let image = host.image("debian:12", &[("etc/hello", b"hello"), ("big", &[1; 100_000])])?;
    expect!(is_id(&image), "import prints only the ID, not {image:?}");
    let id = host.ok(&["create", "--name", "box", "debian:12"])?;
    expect!(is_id(&id), "create prints only the ID, not {id:?}");
    let fresh = &host.json(&["ps", "-a", "-s"])?[0];
    expect_eq!(
        (&fresh["id"], &fresh["name"], &fresh["image"]),
        (&id.as_str().into(), &"box".into(), &"debian:12".into())
    );
    expect_eq!((&fresh["size_rw_bytes"], &fresh["size_virtual_bytes"]), (&0.into(), &100_005.into()));

    let target = host.mount("box")?;
    expect_eq!(host.mount(&id[..12])?, target, "mounted already, it only tells where");
    fs::write(target.join("out.txt"), "hello")?;
    fs::write(target.join("etc/hello"), "changed")?;
    fs::remove_file(target.join("big"))?;
    expect_eq!(
        host.ok(&["diff", "box"])?,
        "C /etc\nC /etc/hello\nD /big\nA /out.txt".lines().fold(String::new(), sorted)
    );
    host.ok(&["umount", "box"])?;
    let sizes = &host.json(&["ps", "-a", "-s"])?[0];
    expect_eq!((&sizes["size_rw_bytes"], &sizes["size_virtual_bytes"]), (&12.into(), &100_017.into()));
    expect!(sizes["own_bytes"].as_u64() >= Some(1), "what was written takes space: {sizes}");

    let committed = host.ok(&["commit", "box", "acme/changed:1.0"])?;
    expect!(is_id(&committed), "commit prints only the ID, not {committed:?}");
    host.ok(&["create", "--name", "second", "acme/changed:1.0"])?;
    let target = host.mount("second")?;
    expect_eq!(fs::read(target.join("out.txt"))?, b"hello");
    expect_eq!(fs::read(target.join("etc/hello"))?, b"changed");
    expect!(!target.join("big").exists(), "what was removed is not in the image");
    expect_eq!(host.ok(&["diff", "second"])?, "");
    host.ok(&["umount", "second"])?;
    let history = host.json(&["history", "acme/changed:1.0"])?;
    expect_eq!(history.as_array().map(Vec::len), Some(2));
    expect_eq!((&history[0]["id"], &history[0]["size_bytes"]), (&committed.as_str().into(), &12.into()));
    expect_eq!((&history[1]["id"], &history[1]["size_bytes"]), (&"<missing>".into(), &100_005.into()));

    for container in ["box", "second"] {
        expect_eq!(host.ok(&["rm", container])?, container);
    }
    host.ok(&["rmi", "acme/changed:1.0"])?;
    host.ok(&["rmi", "debian:12"])?;
    let status = host.json(&["pool", "status"])?;
    expect_eq!((&status["layers"], &status["containers"]), (&0.into(), &0.into()));
    expect_eq!(&status["driver"], &host.driver.name());
    Ok(())
}

/// Joins lines in the order of their paths.
fn sorted(mut all: String, line: &str) -> String {
    let mut lines: Vec<&str> = all.lines().chain([line]).collect();
    lines.sort_by_key(|line| line[2..].to_owned());
    all = lines.join("\n");
    all
}

fn first_command_makes_the_pool(host: &Host) -> Outcome {
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

fn layers_of_a_shared_base_lie_there_once(host: &Host) -> Outcome {
    host.pool("512M")?;
    let tars = ["base", "left", "right"].map(|name| host.file(name));
    for (tar, name) in tars.iter().zip(["base", "left", "right"]) {
        write_tar(tar, &[(name, name.as_bytes())])?;
    }
    let [base, left, right] = &tars;
    archive::write(&host.file("left.tar"), "left:1", &[base, left])?;
    archive::write(&host.file("right.tar"), "right:1", &[base, right])?;
    for archive in ["left.tar", "right.tar"] {
        host.ok(&["load", "-i", &host.file(archive).display().to_string()])?;
    }
    let images = host.json(&["images"])?;
    let of = |image: usize, layer: usize, field: &str| images[image]["layers"][layer][field].clone();
    expect_eq!(of(0, 0, "cache_id"), of(1, 0, "cache_id"), "the base lies in the pool once");
    expect!(of(0, 1, "cache_id") != of(1, 1, "cache_id"), "the upper layers differ");
    expect!(of(0, 0, "cache_id") != of(0, 0, "diff_id"), "a cache ID is random");
    expect_eq!(host.json(&["pool", "status"])?["layers"], 3);
    host.ok(&["rmi", "left:1"])?;
    expect_eq!(host.json(&["pool", "status"])?["layers"], 2, "the base stays for the other image");
    Ok(())
}

fn load_reports_the_ids_of_the_archive(host: &Host) -> Outcome {
    host.pool("512M")?;
    let tar = host.file("layer");
    write_tar(&tar, &[("file", b"content")])?;
    archive::write(&host.file("image.tar"), "some/image:2", &[&tar])?;
    expect_eq!(host.ok(&["load", "-i", &host.file("image.tar").display().to_string()])?, "Loaded image: some/image:2");
    let view = &host.json(&["images"])?[0];
    let diff = lamina::id::Digest::of(&fs::read(&tar)?).to_string();
    expect_eq!(view["layers"][0]["diff_id"], diff.as_str());
    expect_eq!(view["layers"][0]["chain_id"], diff.as_str(), "of the lowest layer they are the same");
    Ok(())
}

fn a_bad_layer_leaves_nothing(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("good:1", &[("file", b"good")])?;
    let before = host.json(&["images"])?;
    for (name, content, words) in [
        ("garbage", vec![0x5a; 4096], "tar"),
        ("empty", Vec::new(), "the archive is empty"),
        ("cut", cut_off_tar(host)?, "cut"),
    ] {
        let file = host.file(name);
        fs::write(&file, content)?;
        host.fails(&["import", &file.display().to_string(), "bad:1"], words)?;
    }
    // The second layer is not what the configuration says; the first one is, and stays no more than it.
    let (lower, upper, archive) = (host.file("lower.tar"), host.file("upper.tar"), host.file("bad.tar"));
    write_tar(&lower, &[("lower", b"lower")])?;
    write_tar(&upper, &[("upper", b"what it says it is")])?;
    archive::write(&archive, "bad:1", &[&lower, &upper])?;
    let mut bytes = fs::read(&archive)?;
    let at = bytes.windows(18).position(|window| window == b"what it says it is").ok_or("no content")?;
    bytes[at] = b'W';
    fs::write(&archive, bytes)?;
    host.fails(&["load", "-i", &archive.display().to_string()], "digest")?;
    host.fails(&["import", "/does/not/exist.tar", "bad:1"], "/does/not/exist.tar")?;
    expect_eq!(host.json(&["images"])?, before);
    expect_eq!(host.json(&["pool", "status"])?["layers"], 1);
    host.check()
}

fn cut_off_tar(host: &Host) -> Outcome<Vec<u8>> {
    let whole = host.file("whole.tar");
    write_tar(&whole, &[("file", &[3; 100_000])])?;
    let mut content = fs::read(whole)?;
    content.truncate(50_000);
    Ok(content)
}

fn in_use_is_refused(host: &Host) -> Outcome {
    host.pool("512M")?;
    let image = host.image("base:1", &[("file", b"content")])?;
    let first = host.ok(&["create", "--name", "box", "base:1"])?;
    // A name that looks like an ID does not take its place.
    host.ok(&["create", "--name", &first, "base:1"])?;
    host.ok(&["rm", &first])?;
    expect_eq!(host.json(&["ps", "-a"])?[0]["name"], first.as_str());
    let other = host.ok(&["ps", "-a", "--json"])?;
    expect!(!other.contains("\"box\""), "the ID's container went: {other}");
    host.ok(&["rm", &first])?;
    expect_eq!(host.run(&["import", "-", &image])?.code, Some(2), "an ID is no name for an image");
    host.ok(&["create", "--name", "box", "base:1"])?;
    host.fails(&["create", "--name", "box", "base:1"], "name box is in use")?;
    host.fails(&["rmi", "base:1"], "container box was made from it")?;
    host.mount("box")?;
    host.fails(&["rm", "box"], "unmount it first")?;
    host.fails(&["pool", "destroy", "--yes"], "mounted")?;
    host.fails(&["pool", "down"], "mounted")?;
    let target = host.mount("box")?;
    let open = fs::File::open(target.join("file"))?;
    host.fails(&["umount", "box"], "a process works in container box")?;
    drop(open);
    host.ok(&["umount", "box"])?;
    host.fails(&["umount", "box"], "not mounted")?;
    host.fails(&["pool", "create", "--driver", host.driver.name()], "there is a")?;
    expect_eq!(host.run(&["pool", "destroy"])?.code, Some(2), "it must be asked for with --yes");
    Ok(())
}

fn names_that_do_not_exist(host: &Host) -> Outcome {
    host.fails(&["pool", "status"], "lamina pool create")?;
    host.fails(&["rm", "nobody"], "no pool")?;
    host.pool("512M")?;
    for verb in ["mount", "umount", "rm", "diff"] {
        host.fails(&[verb, "nobody"], "no such container: nobody")?;
    }
    for verb in ["create", "history", "rmi"] {
        host.fails(&[verb, "nothing:1"], "no such image: nothing:1")?;
    }
    host.fails(&["commit", "nobody", "some:1"], "no such container")?;
    host.finds_nothing(&["inspect", "nobody"], "no such object: nobody")?;
    host.fails(&["load", "-i", "/does/not/exist"], "/does/not/exist")?;
    Ok(())
}

fn wrong_usage_is_code_2(host: &Host) -> Outcome {
    for args in [
        &["frobnicate"][..],
        &["import"],
        &["pool", "create", "--driver", "aufs"],
        &["pool", "create", "--size", "much"],
        &["pool", "create", "--fs", "fat"],
        &["import", "-", "Upper/Case:1"],
        &["ps", "--bogus"],
        &["pool", "destroy"],
    ] {
        let said: Said = host.run(args)?;
        expect_eq!(said.code, Some(2), "{args:?}: {said:?}");
    }
    // Who is not root is told so, whatever he asks for.
    let said = Said::from(host.command(&["images"]).uid(65534).gid(65534).output()?);
    expect!(said.code == Some(1) && said.err.contains("you are not root"), "{said:?}");
    expect!(!host.root().exists(), "wrong usage touches nothing");
    Ok(())
}

fn pools_that_cannot_be(host: &Host) -> Outcome {
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

fn after_a_reboot_the_next_command_works(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let target = host.mount("box")?;
    fs::write(target.join("note"), "kept")?;
    host.ok(&["umount", "box"])?;
    // Loop devices, dm devices and mounts are gone, as after a restart.
    host.ok(&["pool", "down"])?;
    expect_eq!(host.ok(&["diff", "box"])?, "A /note");
    let target = host.mount("box")?;
    expect_eq!(fs::read(target.join("note"))?, b"kept");
    host.ok(&["umount", "box"]).map(drop)
}

fn ten_creates_at_once(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    let children = (0..10)
        .map(|number| host.spawn(&["create", "--name", &format!("box-{number}"), "base:1"], Stdio::null()))
        .collect::<Outcome<Vec<_>>>()?;
    let mut ids = BTreeSet::new();
    for child in children {
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(0), "{said:?}");
        ids.insert(said.out.trim().to_owned());
    }
    expect_eq!(ids.len(), 10, "ten IDs, all different");
    let names: Vec<String> = (0..10).map(|number| format!("box-{number}")).collect();
    let removals = names.iter().map(|name| host.spawn(&["rm", name], Stdio::null())).collect::<Outcome<Vec<_>>>()?;
    for child in removals {
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(0), "{said:?}");
    }
    expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
    host.check()
}

fn one_image_imported_ten_times_at_once(host: &Host) -> Outcome {
    host.pool("512M")?;
    let tar = host.file("rootfs.tar");
    write_tar(&tar, &[("file", b"content"), ("big", &[9; 300_000])])?;
    let tar = tar.display().to_string();
    let children = (0..10)
        .map(|number| host.spawn(&["import", &tar, &format!("same:{number}")], Stdio::null()))
        .collect::<Outcome<Vec<_>>>()?;
    for child in children {
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(0), "{said:?}");
    }
    expect_eq!(host.json(&["pool", "status"])?["layers"], 1, "the layer lies in the pool once");
    expect_eq!(host.json(&["images"])?.as_array().map(Vec::len), Some(10));
    host.check()
}

fn first_commands_at_once_make_one_pool(host: &Host) -> Outcome {
    let children = (0..4).map(|_| host.spawn(&host.pool_args("512M"), Stdio::null())).collect::<Outcome<Vec<_>>>()?;
    let mut made = 0;
    for child in children {
        let said = Said::from(child.wait_with_output()?);
        made += usize::from(said.code == Some(0));
        expect!(said.code == Some(0) || said.err.contains("there is a"), "{said:?}");
    }
    expect_eq!(made, 1);
    host.check()
}

fn a_signal_undoes_what_was_begun(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    let before = host.json(&["images"])?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = host.spawn(&["import", "-", "half:1"], Stdio::piped())?;
        let Some(mut stdin) = child.stdin.take() else { return Err("no pipe".into()) };
        // The pipe holds 64 KiB: once this much is written, the command is reading and its snapshot exists.
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1 << 20);
        header.set_mode(0o644);
        tar.append_data(&mut header, "half", &[5; 1 << 20][..])?;
        stdin.write_all(&tar.into_inner()?[..600_000])?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(1), "{said:?}");
        expect!(said.err.contains("interrupted"), "{said:?}");
        drop(stdin);
        expect_eq!(host.json(&["images"])?, before);
        expect_eq!(host.json(&["pool", "status"])?["layers"], 1);
        host.check()?;
    }
    Ok(())
}

/// A root was used as it was typed, and the mount table knows only what the kernel calls it: `umount` said 'not
/// mounted', and `rm` deleted a mounted container.
fn a_root_behind_a_link_is_the_same_root(host: &Host) -> Outcome {
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

/// A pool whose row was lost was taken for one that this command had half made, and removed when making failed.
fn a_lost_database_does_not_cost_the_pool(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["pool", "down"])?;
    let aside = host.file("aside");
    fs::create_dir(&aside)?;
    let present: Vec<&str> = DATABASE.into_iter().filter(|name| host.root().join(name).exists()).collect();
    for name in &present {
        fs::rename(host.root().join(name), aside.join(name))?;
    }
    let tar = host.file("rootfs.tar").display().to_string();
    host.fails(&["import", &tar, "other:1"], "the database does not know")?;
    for name in DATABASE {
        match fs::remove_file(host.root().join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    for name in &present {
        fs::rename(aside.join(name), host.root().join(name))?;
    }
    host.ok(&["create", "--name", "box", "base:1"])?;
    expect_eq!(fs::read(host.mount("box")?.join("file"))?, b"content");
    host.ok(&["umount", "box"]).map(drop)
}

/// A mount that waited for a removal mounted what was being removed.
fn mounting_and_removing_at_once(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    for _ in 0..5 {
        host.ok(&["create", "--name", "box", "base:1"])?;
        let removing = host.spawn(&["rm", "box"], Stdio::null())?;
        let mounting = host.spawn(&["mount", "box"], Stdio::null())?;
        let removed = Said::from(removing.wait_with_output()?);
        let mounted = Said::from(mounting.wait_with_output()?);
        match (removed.code, mounted.code) {
            (Some(0), Some(1)) => {}
            (Some(1), Some(0)) => {
                host.ok(&["umount", "box"])?;
                host.ok(&["rm", "box"])?;
            }
            _ => return Err(format!("one of both must win: {removed:?}, {mounted:?}").into()),
        }
        host.check()?;
    }
    Ok(())
}

/// Commands that looked at one layer took its device away from each other.
fn ten_diffs_and_commits_at_once(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    fs::write(host.mount("box")?.join("note"), "written")?;
    host.ok(&["umount", "box"])?;
    let references: Vec<String> = (0..5).map(|number| format!("commit:{number}")).collect();
    let mut children = Vec::new();
    for reference in &references {
        children.push(host.spawn(&["diff", "box"], Stdio::null())?);
        children.push(host.spawn(&["commit", "box", reference], Stdio::null())?);
    }
    for child in children {
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(0), "{said:?}");
    }
    expect_eq!(host.json(&["images"])?.as_array().map(Vec::len), Some(6));
    host.check()
}

/// `check` called a file system that the user had mounted in a container a stray one, and unmounted it.
fn mounts_inside_a_container_are_the_users(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("proc/keep", b"")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let inside = host.mount("box")?.join("proc");
    let none = None::<&str>;
    nix::mount::mount(Some("proc"), &inside, Some("proc"), nix::mount::MsFlags::empty(), none)?;
    let checked = host.run(&["check", "--repair"])?;
    let there = inside.join("self").exists();
    nix::mount::umount(&inside)?;
    expect_eq!(checked.code, Some(0), "{checked:?}");
    expect!(there, "what the user mounted stays");
    host.ok(&["umount", "box"]).map(drop)
}

/// `load` told every name that the image has here.
fn load_tells_what_it_loaded(host: &Host) -> Outcome {
    host.pool("512M")?;
    let tar = host.file("layer");
    write_tar(&tar, &[("file", b"content")])?;
    for reference in ["first:1", "second:1"] {
        let archive = host.file("image.tar");
        archive::write(&archive, reference, &[&tar])?;
        let told = host.ok(&["load", "-i", &archive.display().to_string()])?;
        expect_eq!(told, format!("Loaded image: {reference}"));
    }
    // The same from standard input.
    let child = host.spawn(&["load"], fs::File::open(host.file("image.tar"))?.into())?;
    let said = Said::from(child.wait_with_output()?);
    expect_eq!((said.code, said.out.as_str()), (Some(0), "Loaded image: second:1\n"), "{said:?}");
    Ok(())
}

/// `pool down` and `check --repair` made a root directory where there was none, and a root that is a file had no images.
fn looking_makes_nothing(host: &Host) -> Outcome {
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

/// A command that waited for another one's lock did not hear Ctrl-C.
fn a_signal_ends_waiting(host: &Host) -> Outcome {
    host.pool("512M")?;
    let locks = fs::File::options().write(true).open(host.root().join("locks"))?;
    let pool = libc::flock {
        l_type: libc::F_WRLCK.try_into()?,
        l_whence: libc::SEEK_SET.try_into()?,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&locks, FcntlArg::F_OFD_SETLK(&pool))?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let child = host.spawn(&["pool", "down"], Stdio::null())?;
        let call = format!("/proc/{}/syscall", child.id());
        let waits = || fs::read_to_string(&call).is_ok_and(|told| told.starts_with(&format!("{} ", libc::SYS_fcntl)));
        let deadline = Instant::now() + Duration::from_secs(30);
        while !waits() {
            expect!(Instant::now() < deadline, "it never waited for the lock");
            std::thread::yield_now();
        }
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let said = Said::from(child.wait_with_output()?);
        expect_eq!(said.code, Some(1), "{said:?}");
        expect!(said.err.contains("interrupted"), "{said:?}");
    }
    drop(locks);
    host.ok(&["pool", "status"]).map(drop)
}

/// `info` failed where it would have helped most.
fn a_pool_that_does_not_come_up_is_told(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.ok(&["pool", "down"])?;
    // The pool's own file or mark, whichever the driver has.
    let mark = host.root().join("pool").join(if host.has_device() { "data" } else { "pool" });
    let aside = host.file("aside");
    fs::rename(&mark, &aside)?;
    host.fails(&["pool", "status"], &mark.parent().unwrap_or(&mark).display().to_string())?;
    let told = host.json(&["info"])?;
    expect!(told["trouble"].as_str().is_some_and(|trouble| !trouble.is_empty()), "{told}");
    expect!(told["programs"].as_array().is_some_and(|programs| !programs.is_empty()), "{told}");
    fs::rename(&aside, &mark)?;
    expect_eq!(host.json(&["info"])?["trouble"], serde_json::Value::Null);
    host.check()
}

/// With a database older than the pool, making something deleted what the database did not know.
fn an_old_database_costs_nothing(host: &Host) -> Outcome {
    println!("VM-EXPECT-KMSG: device-mapper: thin: Creation of new snapshot");
    let copy = |from: &Path, to: &Path| -> Outcome {
        for name in DATABASE {
            match fs::copy(from.join(name), to.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                Err(_) => fs::write(to.join(name), "")?,
                Ok(_) => {}
            }
        }
        Ok(())
    };
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    let (old, new) = (host.file("old"), host.file("new"));
    fs::create_dir(&old)?;
    fs::create_dir(&new)?;
    copy(&host.root(), &old)?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    fs::write(host.mount("box")?.join("note"), "kept")?;
    host.ok(&["umount", "box"])?;
    copy(&host.root(), &new)?;

    copy(&old, &host.root())?;
    host.fails(&["create", "--name", "other", "base:1"], "the database does not know")?;
    for args in [&["check"][..], &["check", "--repair"]] {
        let said = host.run(args)?;
        expect!(said.code == Some(1) && said.out.contains("the database does not know it"), "{said:?}");
    }
    copy(&new, &host.root())?;
    expect_eq!(fs::read(host.mount("box")?.join("note"))?, b"kept");
    host.ok(&["umount", "box"])?;
    host.check()
}

/// Where the host's mounts are shared, a mount inside a container appeared in the pool too, and became part of a layer.
fn what_is_mounted_inside_is_not_in_the_pool(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    fs::create_dir(host.file("outside"))?;
    fs::write(host.file("outside/secret"), "")?;
    let script = "root=$(\"$1\" mount box) && mkdir \"$root/data\" && mount --bind \"$2\" \"$root/data\" &&
        \"$1\" diff box; code=$?; umount \"$root/data\"; \"$1\" umount box; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "shared", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_lamina")]);
    // A pool that lives in mounts of this namespace must be up here, not there.
    let said = Said::from(command.arg(host.file("outside")).env("LAMINA_ROOT", host.root()).output()?);
    expect_eq!((said.code, said.out.as_str()), (Some(0), "A /data\n"), "{said:?}");
    host.check()
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

/// A kernel without a mechanism is told which, with its configuration symbol.
fn a_missing_kernel_feature_is_named() -> Result<Completion, Failed> {
    if pool::supported(DriverKind::Thin).is_ok() {
        return Ok(Completion::ignored_with("this kernel has device-mapper"));
    }
    with_host(DriverKind::Vfs, |host| {
        host.fails(&["pool", "create", "--driver", "thin"], "CONFIG_BLK_DEV_DM")?;
        let drivers = host.json(&["info"])?["drivers"].to_string();
        expect!(drivers.contains("CONFIG_BLK_DEV_DM"), "{drivers}");
        Ok(())
    })
}

/// A machine without mkfs.btrfs, which is hidden here in a mount namespace, is told its package, and has no half pool.
fn a_missing_program_names_its_package() -> Result<Completion, Failed> {
    with_host(DriverKind::Btrfs, |host| {
        let found = MKFS_BTRFS.find()?;
        let hide = format!("mount --bind /dev/null {} && exec \"$@\"", found.display());
        let lamina = host.command(&host.pool_args("512M"));
        let mut hidden = Command::new("unshare");
        hidden.args(["--mount", "sh", "-c", &hide, "sh"]).arg(lamina.get_program()).args(lamina.get_args());
        let said = Said::from(hidden.output()?);
        expect_eq!(said.code, Some(1), "{said:?}");
        expect!(said.err.contains("apt-get install btrfs-progs"), "{said:?}");
        host.fails(&["pool", "status"], "no pool")?;
        host.pool("512M")
    })
}

/// While it was up: what the kernel has of it is taken down by its devices, not by the name that is gone.
fn a_pool_whose_file_was_removed_goes(host: &Host) -> Outcome {
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
fn given_devices_and_files(host: &Host) -> Outcome {
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
