//! Random operations, layer on layer: what the driver tells is what a walk finds, and no layer below changes.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::tree::{fingerprint, rewrite_in_secret, set_mtime, set_xattr};
use crate::{
    expect, expect_eq,
    pool::{Fault, Outcome, Pool, Volume},
};

/// `LAMINA_TEST_SEED` tries another sequence; the seed is part of each failure's text.
pub fn changes_equal_a_walk_after_random_operations(pool: &mut Pool) -> Outcome {
    const ROUNDS: usize = 12;
    let seed = std::env::var("LAMINA_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_607);
    let mut random = StdRng::seed_from_u64(seed);
    let within = |round: usize| move |fault: Fault| Fault(format!("seed {seed}, round {round}: {}", fault.0));
    let mut layers: Vec<Volume> = Vec::new();
    let mut prints = HashMap::new();
    let mut listed = 0;
    for round in 0..ROUNDS {
        let operate = |root: &Path| (0..60).try_for_each(|_| operation(root, &mut random));
        let layer = pool.layer(layers.last(), operate).map_err(within(round))?;
        listed += pool.changes(&layer).map_err(within(round))?.len();
        prints.insert(layer.id, pool.read(&layer, fingerprint)?);
        layers.push(layer);
    }
    expect!(listed > ROUNDS * 10, "only {listed} changes in {ROUNDS} rounds");
    for layer in &layers {
        expect_eq!(pool.read(layer, fingerprint)?, prints[&layer.id], "seed {seed}, layer {}", layer.id);
    }
    Ok(())
}

/// Few names, so that operations meet.
fn any_path(root: &Path, random: &mut StdRng) -> PathBuf {
    let mut path = root.to_path_buf();
    for _ in 0..random.random_range(1..=3) {
        path.push(["a", "b", "c", "d.e", "f"][random.random_range(0..5)]);
    }
    path
}

/// One operation; that it can fail, where a file is in the way or there is none, is part of the game.
fn operation(root: &Path, random: &mut StdRng) -> Outcome {
    let (path, other) = (any_path(root, random), any_path(root, random));
    let byte: u8 = random.random_range(0..3);
    let tried = match random.random_range(0..18) {
        0 | 1 => fs::create_dir_all(&path),
        2..=4 => write(&path, &vec![byte; random.random_range(0..3) * 3000]),
        5 => return rewrite_in_secret_if_there(&path, byte),
        6 => fs::remove_file(&path),
        7 => fs::remove_dir_all(&path),
        8 => fs::rename(&path, &other),
        9 => fs::hard_link(&path, &other),
        10 => symlink(["a", "b"][usize::from(byte % 2)], &path),
        11 => fs::set_permissions(&path, Permissions::from_mode(0o700 + u32::from(byte))),
        12 => chown(&path, Some(byte.into()), None),
        13 => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).map_err(Into::into),
        14 => mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, 1 + u64::from(byte)).map_err(Into::into),
        15 => fs::remove_dir_all(&path).and_then(|()| fs::create_dir(&path)),
        16 if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_symlink()) => {
            // Refused on fifos and devices.
            let _ = set_xattr(&path, "user.x", &[byte]);
            Ok(())
        }
        _ if fs::symlink_metadata(&path).is_ok() => return set_mtime(&path, byte.into()),
        _ => Ok(()),
    };
    match tried.map_err(|error| error.raw_os_error()) {
        Ok(())
        | Err(Some(
            libc::ENOENT
            | libc::EEXIST
            | libc::ENOTDIR
            | libc::EISDIR
            | libc::ENOTEMPTY
            | libc::EINVAL
            | libc::EXDEV
            | libc::EPERM
            | libc::ELOOP
            | libc::EACCES
            | libc::ENXIO,
        )) => Ok(()),
        Err(errno) => Err(format!("{errno:?} at {}", path.display()).into()),
    }
}

/// As `fs::write`, but a fifo is not waited for.
fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_NONBLOCK).open(path)?.write_all(content)
}

fn rewrite_in_secret_if_there(path: &Path, byte: u8) -> Outcome {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => rewrite_in_secret(path, &vec![byte; usize::try_from(meta.len())?]),
        _ => Ok(()),
    }
}
