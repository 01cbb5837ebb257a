//! What volumes take, and what happens when there is no more.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
};

use lamina::{
    Kind,
    driver::{Access, DriverKind, Health},
    units::Bytes,
};

use super::tree::fingerprint;
use crate::{
    expect, expect_eq,
    pool::{Outcome, Pool},
};

/// Bytes that no file system stores as a hole.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(length.div_ceil(8))
    .flatten()
    .take(length)
    .collect()
}

fn write_through(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub fn usage_follows_what_is_written(pool: &mut Pool) -> Outcome {
    const BASE: Bytes = Bytes::mib(16);
    let base = pool.layer(None, |root| Ok(write_through(&root.join("base"), &noise(16 << 20))?))?;
    let child = pool.active(Some(&base))?;
    let usage = || -> Outcome<Bytes> { Ok(pool.driver().usage(child.id, &child.parents)?.exclusive) };
    let fresh = usage()?;
    if pool.spec.kind == DriverKind::Vfs {
        expect!(fresh >= BASE, "a full copy of 16 MiB takes {fresh}");
    } else {
        expect!(fresh <= Bytes::mib(1), "a child without a write takes {fresh}");
    }
    pool.write(&child, |root| Ok(write_through(&root.join("own"), &noise(1 << 20))?))?;
    let written = usage()?;
    expect!(written >= fresh + Bytes::mib(1), "with 1 MiB written it takes {written}, before {fresh}");
    expect!(written <= fresh + Bytes::mib(4), "with 1 MiB written it takes {written}, before {fresh}");
    let of_base = pool.driver().usage(base.id, &[])?.exclusive;
    expect!(of_base <= BASE + Bytes::mib(8), "16 MiB take {of_base}");
    Ok(())
}

pub fn status_tells_space_and_health(pool: &mut Pool) -> Outcome {
    let before = pool.driver().status()?;
    expect_eq!(before.health, Health::Ok);
    expect!(before.data.used <= before.data.total && before.data.total > Bytes(0), "{before:?}");
    let kind = pool.spec.kind;
    if matches!(kind, DriverKind::Overlay | DriverKind::Vfs) {
        let refused = pool.driver().grow(Bytes::gib(100)).map_err(|error| error.kind());
        expect_eq!(refused, Err(lamina::Kind::Unsupported));
        return Ok(());
    }
    expect!(before.data.total <= pool.spec.size, "{before:?}");
    pool.layer(None, |root| Ok(write_through(&root.join("own"), &noise(32 << 20))?))?;
    let after = pool.driver().status()?;
    expect!(after.data.used >= before.data.used + Bytes::mib(16), "after writing 32 MiB {after:?}, before {before:?}");
    Ok(())
}

pub fn a_full_pool_fails_the_writer_alone(pool: &mut Pool) -> Outcome {
    for part in ["EXT4-fs", "Aborting journal", "I/O error", "JBD2"] {
        println!("VM-EXPECT-KMSG: {part}");
    }
    let base = pool.layer(None, |root| Ok(write_through(&root.join("base"), &noise(4 << 20))?))?;
    let before = pool.read(&base, fingerprint)?;
    let [greedy, modest] = [pool.active(Some(&base))?, pool.active(Some(&base))?];
    pool.write(&modest, |root| Ok(write_through(&root.join("own"), b"modest")?))?;

    let mounted = pool.mount(&greedy, Access::ReadWrite)?;
    let bytes = noise(4 << 20);
    pool.driver().reserve(greedy.id, mounted.root(), Bytes::gib(1))?;
    let full = (0..256).find_map(|number| write_through(&mounted.path().join(number.to_string()), &bytes).err());
    let full = full.ok_or("1 GiB went into a pool of 320 MiB")?;
    // The file system on a thin device has room and meets an error of its disk, which its journal tells as EIO.
    let thin = pool.spec.kind == DriverKind::Thin && full.raw_os_error() == Some(libc::EIO);
    expect!(thin || full.kind() == ErrorKind::StorageFull, "{full}");
    drop(mounted);
    pool.driver().release(greedy.id)?;

    expect_eq!(pool.read(&base, fingerprint)?, before);
    expect_eq!(pool.read(&modest, |root| Ok(fs::read(root.join("own"))?))?, b"modest");
    pool.driver().delete(greedy.id)?;
    pool.write(&modest, |root| Ok(write_through(&root.join("more"), &bytes)?))?;
    let child = pool.active(Some(&base))?;
    expect_eq!(pool.read(&child, fingerprint)?, before);
    Ok(())
}

/// How much of `most` MiB can be written, and the error that ended it.
fn fill(path: &Path, most: usize) -> (usize, Option<i32>) {
    let block = noise(1 << 20);
    let write = |done: &mut usize| -> std::io::Result<()> {
        let mut file = File::create(path)?;
        while *done < most {
            file.write_all(&block)?;
            file.sync_data()?;
            *done += 1;
        }
        Ok(())
    };
    let mut done = 0;
    let error = write(&mut done).err().and_then(|error| error.raw_os_error());
    (done, error)
}

pub fn a_limit_stops_its_volume_alone(pool: &mut Pool) -> Outcome {
    const LIMIT: Bytes = Bytes::mib(32);
    let base = pool.layer(None, |root| Ok(write_through(&root.join("base"), &noise(8 << 20))?))?;
    let (limited, free) = (pool.active(Some(&base))?, pool.active(Some(&base))?);
    let set = pool.driver().limit(limited.id, LIMIT);
    if matches!(pool.spec.kind, DriverKind::Overlay | DriverKind::Vfs) {
        let error = set.expect_err("a directory has no limit");
        expect_eq!(error.kind(), Kind::Unsupported);
        expect!(error.to_string().contains("use btrfs or thin"), "{error}");
        return Ok(());
    }
    match set {
        // btrfs before Linux 6.7 says so, and has no limits then.
        Err(error) if error.kind() == Kind::Unsupported && error.to_string().contains("6.7") => return Ok(()),
        set => set?,
    }
    for round in 0..2 {
        let (wrote, error) = pool.write(&limited, |root| Ok(fill(&root.join("much"), 64)))?;
        expect!((24..=33).contains(&wrote), "round {round}: {wrote} MiB of {LIMIT} were written, then {error:?}");
        expect!(matches!(error, Some(libc::ENOSPC | libc::EDQUOT)), "round {round}: {error:?}");
        let (wrote, error) = pool.write(&free, |root| Ok(fill(&root.join("much"), 64)))?;
        expect_eq!((wrote, error), (64, None), "others notice nothing");
        // What is removed can be written again.
        pool.write(&limited, |root| Ok(fs::remove_file(root.join("much"))?))?;
        let (wrote, error) = pool.write(&limited, |root| Ok(fill(&root.join("little"), 8)))?;
        expect_eq!((wrote, error), (8, None));
        pool.write(&limited, |root| Ok(fs::remove_file(root.join("little"))?))?;
        expect_eq!(pool.read(&limited, |root| Ok(fs::read(root.join("base"))?.len()))?, 8 << 20);
        // The limit is the volume's, whatever becomes of the pool.
        pool.reopen()?;
    }
    expect_eq!(pool.driver().check()?, Vec::<String>::new());
    Ok(())
}
