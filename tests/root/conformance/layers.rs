//! What one layer does to those below, and how many there can be.

use std::fs;

use lamina::{Kind, driver::Access, id::VolumeId};

use super::tree::shown;
use crate::{
    expect, expect_eq,
    pool::{Outcome, Pool, Volume},
};

/// As many layers as Docker allows (layer/layer_store.go: maxLayerDepth).
pub fn one_hundred_and_twenty_five_layers(pool: &mut Pool) -> Outcome {
    const DEPTH: usize = 125;
    let mut top: Option<Volume> = None;
    for number in 0..DEPTH {
        top = Some(pool.layer(top.as_ref(), |root| {
            fs::write(root.join(format!("layer-{number}")), number.to_string())?;
            Ok(fs::write(root.join("last"), number.to_string())?)
        })?);
    }
    let child = pool.active(top.as_ref())?;
    pool.write(&child, |root| {
        for number in 0..DEPTH {
            expect_eq!(fs::read_to_string(root.join(format!("layer-{number}")))?, number.to_string());
        }
        expect_eq!(fs::read_to_string(root.join("last"))?, "124");
        fs::write(root.join("layer-0"), "changed")?;
        fs::remove_file(root.join("layer-1"))?;
        Ok(fs::remove_file(root.join("last"))?)
    })?;
    pool.driver().seal(child.id)?;
    expect_eq!(shown(&pool.changes(&child)?), "D last, C layer-0, D layer-1");
    expect_eq!(pool.read(&child, |root| Ok(fs::read_dir(root)?.count()))?, DEPTH - 1);
    Ok(())
}

/// A page of mount options is full long before, were the names of the directories not short.
pub fn five_hundred_directories_are_the_limit(pool: &mut Pool) -> Outcome {
    let mut parents: Vec<VolumeId> = Vec::new();
    for number in 0..500 {
        let volume = Volume { id: pool.next()?, parents: parents.clone() };
        match parents.is_empty() {
            true => pool.driver().create(volume.id)?,
            false => pool.driver().snapshot(volume.id, &parents)?,
        }
        if number % 100 == 0 {
            pool.write(&volume, |root| Ok(fs::write(root.join(number.to_string()), "")?))?;
        }
        pool.driver().seal(volume.id)?;
        parents.insert(0, volume.id);
    }
    let top = pool.next()?;
    pool.driver().snapshot(top, &parents)?;
    let top = Volume { id: top, parents };
    expect_eq!(pool.write(&top, |root| Ok(fs::read_dir(root)?.count()))?, 5);
    let refused = pool.driver().mounts(top.id, &top.parents, Access::ReadOnly).map_err(|error| error.kind());
    expect_eq!(refused, Err(Kind::Unsupported), "501 directories");
    Ok(())
}

pub fn deleted_names_stay_deleted(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, |root| {
        fs::create_dir_all(root.join("dir/sub"))?;
        fs::write(root.join("dir/sub/file"), "")?;
        fs::write(root.join("dir/kept"), "")?;
        Ok(fs::write(root.join("file"), "")?)
    })?;
    let child = pool.layer(Some(&base), |root| {
        fs::remove_file(root.join("file"))?;
        Ok(fs::remove_dir_all(root.join("dir/sub"))?)
    })?;
    expect_eq!(shown(&pool.changes(&child)?), "C dir, D dir/sub, D file");
    let grandchild = pool.layer(Some(&child), |root| {
        expect!(!root.join("file").exists() && !root.join("dir/sub").exists(), "deleted names are there again");
        Ok(fs::write(root.join("file"), "new")?)
    })?;
    expect_eq!(shown(&pool.changes(&grandchild)?), "A file");
    pool.read(&grandchild, |root| {
        expect_eq!(fs::read(root.join("file"))?, b"new");
        expect_eq!(fs::read_dir(root.join("dir"))?.count(), 1);
        Ok(())
    })
}

pub fn a_directory_made_anew_is_empty(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, |root| {
        fs::create_dir_all(root.join("dir/sub"))?;
        fs::write(root.join("dir/sub/old"), "")?;
        Ok(fs::write(root.join("dir/old"), "")?)
    })?;
    let child = pool.layer(Some(&base), |root| {
        fs::remove_dir_all(root.join("dir"))?;
        fs::create_dir_all(root.join("dir/sub"))?;
        Ok(fs::write(root.join("dir/sub/new"), "")?)
    })?;
    let expected = "C dir, D dir/old, C dir/sub, A dir/sub/new, D dir/sub/old";
    expect_eq!(shown(&pool.changes(&child)?), expected);
    let again = pool.layer(Some(&child), |root| Ok(fs::write(root.join("dir/sub/newer"), "")?))?;
    expect_eq!(shown(&pool.changes(&again)?), "C dir, C dir/sub, A dir/sub/newer");
    expect_eq!(pool.read(&again, |root| Ok(fs::read_dir(root.join("dir/sub"))?.count()))?, 2);
    Ok(())
}

pub fn files_and_directories_replace_each_other(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, |root| {
        fs::create_dir(root.join("dir"))?;
        fs::write(root.join("dir/in"), "")?;
        Ok(fs::write(root.join("file"), "")?)
    })?;
    let child = pool.layer(Some(&base), |root| {
        fs::remove_dir_all(root.join("dir"))?;
        fs::write(root.join("dir"), "now a file")?;
        fs::remove_file(root.join("file"))?;
        fs::create_dir(root.join("file"))?;
        Ok(fs::write(root.join("file/in"), "")?)
    })?;
    expect_eq!(shown(&pool.changes(&child)?), "C dir, C file, A file/in");
    let back = pool.layer(Some(&child), |root| {
        fs::remove_file(root.join("dir"))?;
        fs::remove_dir_all(root.join("file"))?;
        Ok(std::os::unix::fs::symlink("dir", root.join("file"))?)
    })?;
    expect_eq!(shown(&pool.changes(&back)?), "D dir, C file");
    pool.read(&back, |root| {
        expect_eq!(fs::read_dir(root)?.count(), 1);
        Ok(())
    })
}
