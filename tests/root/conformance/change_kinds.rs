//! What counts as a change; each answer is also held against a full walk (`Pool::changes`).

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
};

use lamina::driver::DriverKind;

use super::tree::{furnish, rewrite_in_secret, set_mtime, set_xattr, shown};
use crate::{
    expect_eq,
    pool::{Outcome, Pool},
};

/// The changes that `act` makes to a furnished tree.
fn told(pool: &Pool, act: impl FnOnce(&Path) -> Outcome) -> Outcome<String> {
    let base = pool.layer(None, furnish)?;
    let child = pool.layer(Some(&base), act)?;
    Ok(shown(&pool.changes(&child)?))
}

pub fn added_changed_deleted(pool: &mut Pool) -> Outcome {
    let told = told(pool, |root| {
        fs::write(root.join("out.txt"), "")?;
        fs::create_dir_all(root.join("new/deep"))?;
        fs::write(root.join("new/deep/file"), "")?;
        fs::write(root.join("etc/hosts"), "longer than before")?;
        fs::remove_file(root.join("etc/conf.d/one"))?;
        Ok(fs::remove_dir(root.join("tmp"))?)
    })?;
    let expected =
        "C etc, C etc/conf.d, D etc/conf.d/one, C etc/hosts, A new, A new/deep, A new/deep/file, A out.txt, D tmp";
    expect_eq!(told, expected);
    Ok(())
}

pub fn content_of_equal_size_and_time(pool: &mut Pool) -> Outcome {
    let told = told(pool, |root| {
        let mut content = vec![7; 300_000];
        content[299_999] = 8;
        rewrite_in_secret(&root.join("data"), &content)?;
        // Written anew with what it held: no change, whatever blocks it has now.
        rewrite_in_secret(&root.join("etc/conf.d/two"), b"etc/conf.d/two")
    })?;
    expect_eq!(told, "C data");
    Ok(())
}

pub fn metadata_alone(pool: &mut Pool) -> Outcome {
    let told = told(pool, |root| {
        fs::set_permissions(root.join("data"), Permissions::from_mode(0o600))?;
        chown(root.join("etc/hosts"), Some(1), None)?;
        fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777))?;
        set_mtime(&root.join("etc/conf.d/one"), 1)?;
        // The mtime of a directory does not count.
        set_mtime(&root.join("etc/conf.d"), 1)?;
        set_xattr(&root.join("etc/conf.d/two"), "user.x", b"")
    })?;
    expect_eq!(told, "C data, C etc, C etc/conf.d, C etc/conf.d/one, C etc/conf.d/two, C etc/hosts, C tmp");
    Ok(())
}

pub fn links(pool: &mut Pool) -> Outcome {
    let told = told(pool, |root| {
        fs::remove_file(root.join("link"))?;
        symlink("etc/other", root.join("link"))?;
        fs::hard_link(root.join("data"), root.join("tmp/data"))?;
        // One name less for the same file.
        Ok(fs::remove_file(root.join("etc/readme"))?)
    })?;
    expect_eq!(told, "C etc, D etc/readme, C link, C tmp, A tmp/data");
    Ok(())
}

pub fn renamed_directory(pool: &mut Pool) -> Outcome {
    let mut refused = None;
    let told = told(pool, |root| {
        fs::write(root.join("etc/new"), "")?;
        refused = fs::rename(root.join("etc"), root.join("ETC")).err().and_then(|error| error.raw_os_error());
        Ok(())
    })?;
    if pool.spec.kind == DriverKind::Overlay {
        // Programs copy then; so it is with overlayfs.
        expect_eq!((refused, &*told), (Some(libc::EXDEV), "C etc, A etc/new"));
        return Ok(());
    }
    let expected =
        "A ETC, A ETC/conf.d, A ETC/conf.d/one, A ETC/conf.d/two, A ETC/hosts, A ETC/new, A ETC/readme, D etc";
    expect_eq!(told, expected);
    Ok(())
}

pub fn what_was_made_and_removed_is_no_change(pool: &mut Pool) -> Outcome {
    let told = told(pool, |root| {
        fs::write(root.join("tmp/work"), "")?;
        fs::remove_file(root.join("tmp/work"))?;
        // Opened for writing, and away and back.
        fs::File::options().write(true).open(root.join("data"))?;
        fs::rename(root.join("etc/hosts"), root.join("etc/aside"))?;
        fs::rename(root.join("etc/aside"), root.join("etc/hosts"))?;
        fs::set_permissions(root.join("readme"), Permissions::from_mode(0o600))?;
        Ok(fs::set_permissions(root.join("readme"), Permissions::from_mode(0o644))?)
    })?;
    expect_eq!(told, "");
    Ok(())
}

pub fn the_first_layer_is_all_added(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, furnish)?;
    let expected = "A data, A etc, A etc/conf.d, A etc/conf.d/one, A etc/conf.d/two, A etc/hosts, A etc/readme, A link, A readme, A tmp";
    expect_eq!(shown(&pool.changes(&base)?), expected);
    Ok(())
}
