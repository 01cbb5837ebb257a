//! What is refused: wrong usage, names that are not there, what is in use, layers that are bad, machines without a feature.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use lamina::{
    driver::{DriverKind, pool},
    program::MKFS_BTRFS,
};
use libtest_mimic::{Completion, Failed};

use crate::{
    archive, expect, expect_eq,
    lamina::{Host, Said, with_host, write_tar},
    pool::Outcome,
};

pub fn a_bad_layer_leaves_nothing(host: &Host) -> Outcome {
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

pub fn in_use_is_refused(host: &Host) -> Outcome {
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

pub fn names_that_do_not_exist(host: &Host) -> Outcome {
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
    host.fails(&["inspect", "nobody"], "no such image or container: nobody")?;
    host.fails(&["load", "-i", "/does/not/exist"], "/does/not/exist")?;
    Ok(())
}

pub fn wrong_usage_is_code_2(host: &Host) -> Outcome {
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

/// A kernel without a mechanism is told which, with its configuration symbol.
pub fn a_missing_kernel_feature_is_named() -> Result<Completion, Failed> {
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
pub fn a_missing_program_names_its_package() -> Result<Completion, Failed> {
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
