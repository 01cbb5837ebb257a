//! A machine that was restarted, and what may be missing or old then.

use std::{fs, path::Path};

use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

/// The files of the database.
const DATABASE: [&str; 3] = ["lamina.db", "lamina.db-wal", "lamina.db-shm"];

pub fn after_a_reboot_the_next_command_works(host: &Host) -> Outcome {
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

/// A pool whose row was lost was taken for one that this command had half made, and removed when making failed.
pub fn a_lost_database_does_not_cost_the_pool(host: &Host) -> Outcome {
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

/// `info` failed where it would have helped most.
pub fn a_pool_that_does_not_come_up_is_told(host: &Host) -> Outcome {
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
pub fn an_old_database_costs_nothing(host: &Host) -> Outcome {
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
