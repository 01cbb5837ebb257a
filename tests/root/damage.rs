//! Damage that a pool meets: what the kernel or a disk did is told by `check`, and mended without losing anything.

#![allow(clippy::print_stdout, reason = "a test's output is its report")]

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use lamina::driver::DriverKind;
use libtest_mimic::Trial;

use crate::{
    expect, expect_eq,
    full::{expect_messages, goes_on, layer},
    lamina::{Host, with_host},
    pool::Outcome,
};

pub fn trials() -> Vec<Trial> {
    [
        ("a_noted_error_is_told_and_mended", noted_errors as fn(&Host) -> Outcome),
        ("damaged_metadata_is_rebuilt", damaged_metadata_is_rebuilt),
    ]
    .map(|(name, case)| {
        Trial::ignorable_test(format!("damage::thin::{name}"), move || with_host(DriverKind::Thin, case))
    })
    .into()
}

/// Makes the kernel meet an error in the ext4 that is mounted there.
fn trigger(root: &Path) -> Outcome {
    let device = fs::metadata(root)?.dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let name = fs::canonicalize(format!("/sys/dev/block/{number}"))?;
    let name = name.file_name().ok_or("a block device has a name")?;
    fs::write(Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error"), "a test's")?;
    expect_eq!(fs::write(root.join("refused"), "").map_err(|error| error.raw_os_error()), Err(Some(libc::EROFS)));
    Ok(())
}

fn noted_errors(host: &Host) -> Outcome {
    expect_messages();
    host.pool("512M")?;
    host.image("base", &[("layer", &layer())])?;
    host.ok(&["create", "--name", "box", "base"])?;
    let told = |repair: &[&str], words: &str| -> Outcome {
        let said = host.run(&[&["check"], repair].concat())?;
        println!("{said:?}");
        expect!(said.out.contains("its ext4 has noted") && said.out.contains(words), "{said:?}");
        expect_eq!(said.code, Some(i32::from(repair.is_empty())));
        Ok(())
    };
    let harm = |name: &str| -> Outcome {
        let root = host.mount("box")?;
        fs::write(root.join(name), "kept")?;
        rustix::fs::syncfs(File::open(&root)?)?;
        trigger(&root)
    };
    // Mounted, it is told and left alone; then mended by itself.
    harm("one")?;
    told(&[], "it is in use")?;
    host.ok(&["umount", "box"])?;
    told(&[], "errors, the last in")?;
    told(&["--repair"], "(repaired)")?;
    host.check()?;
    // The next mount mends it too, and what is committed never has a mark.
    harm("two")?;
    host.ok(&["commit", "box", "while-harmed"])?;
    host.ok(&["umount", "box"])?;
    let root = host.mount("box")?;
    for name in ["one", "two"] {
        expect_eq!(fs::read_to_string(root.join(name))?, "kept");
    }
    expect_eq!(host.ok(&["diff", "box"])?, "A /one\nA /two");
    host.check()?;
    goes_on(host)
}

fn damaged_metadata_is_rebuilt(host: &Host) -> Outcome {
    expect_messages();
    host.pool("512M")?;
    host.image("base", &[("layer", &layer())])?;
    host.ok(&["pool", "down"])?;
    damage_metadata(host)?;
    let said = host.run(&["check", "--repair"])?;
    println!("{said:?}");
    expect_eq!(said.code, Some(0));
    expect!(said.out.contains("was damaged and is rebuilt"), "{said:?}");
    goes_on(host)
}

/// Damages the metadata of a pool that is down, so that nothing is lost which cannot be made anew.
pub fn damage_metadata(host: &Host) -> Outcome {
    let metadata = File::options().read(true).write(true).open(host.root().join("pool/metadata"))?;
    let mut damaged = false;
    for block in 1..metadata.metadata()?.size() / 4096 {
        let mut bytes = [0; 4096];
        metadata.read_exact_at(&mut bytes, block * 4096)?;
        // Nodes of trees have flags; what else is written is the maps of free space and their index, which the kernel
        // reads first of all, and which can be made anew from the trees.
        if bytes.iter().any(|byte| *byte != 0) && bytes[4..8] == [0; 4] {
            metadata.write_all_at(b"damage", block * 4096 + 100)?;
            damaged = true;
        }
    }
    expect!(damaged, "no block to damage");
    Ok(())
}
