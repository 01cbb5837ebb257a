//! Many commands at once.

use std::{collections::BTreeSet, fs, process::Stdio};

use crate::{
    expect, expect_eq,
    lamina::{Host, Said, write_tar},
    pool::Outcome,
};

pub fn ten_creates_at_once(host: &Host) -> Outcome {
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

pub fn one_image_imported_ten_times_at_once(host: &Host) -> Outcome {
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

pub fn first_commands_at_once_make_one_pool(host: &Host) -> Outcome {
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

/// A mount that waited for a removal mounted what was being removed.
pub fn mounting_and_removing_at_once(host: &Host) -> Outcome {
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
pub fn ten_diffs_and_commits_at_once(host: &Host) -> Outcome {
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
