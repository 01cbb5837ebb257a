//! Volumes come, are sealed, and go.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use lamina::{
    driver::{Access, DriverKind, pool},
    id::VolumeId,
};

use super::tree::{fingerprint, furnish, set_mtime, set_xattr, wait_until};
use crate::{
    expect, expect_eq,
    pool::{Outcome, Pool, Volume},
};

pub fn a_new_volume_is_empty(pool: &mut Pool) -> Outcome {
    let volume = pool.active(None)?;
    pool.write(&volume, |root| {
        let names: Vec<_> = fs::read_dir(root)?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        expect_eq!(names, Vec::<std::ffi::OsString>::new());
        expect_eq!(fs::metadata(root)?.permissions().mode() & 0o7777, 0o755);
        Ok(())
    })?;
    pool.driver().seal(volume.id)?;
    expect_eq!(pool.changes(&volume)?, []);
    Ok(())
}

pub fn a_child_shows_its_parent(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, furnish)?;
    let child = pool.active(Some(&base))?;
    expect_eq!(pool.read(&child, fingerprint)?, pool.read(&base, fingerprint)?);
    pool.driver().seal(child.id)?;
    expect_eq!(pool.changes(&child)?, []);
    Ok(())
}

pub fn the_root_directory_is_inherited_with_its_metadata(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, |root| {
        fs::set_permissions(root, fs::Permissions::from_mode(0o1751))?;
        std::os::unix::fs::chown(root, Some(12), Some(34))?;
        // The root's path is a link in /proc.
        set_xattr(&root.join("."), "user.root", b"yes")?;
        set_mtime(&root.join("."), 5)
    })?;
    let child = pool.layer(Some(&base), |_| Ok(()))?;
    let grandchild = pool.active(Some(&child))?;
    expect_eq!(pool.read(&grandchild, fingerprint)?, pool.read(&base, fingerprint)?);
    pool.read(&grandchild, |root| {
        expect_eq!(fs::metadata(root)?.permissions().mode() & 0o7777, 0o1751);
        Ok(())
    })
}

pub fn a_sealed_volume_cannot_be_written(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, furnish)?;
    pool.driver().seal(base.id)?;
    let child = pool.layer(Some(&base), |_| Ok(()))?;
    for volume in [&base, &child] {
        expect_sealed(pool, volume)?;
        pool.read(volume, |root| {
            let error = fs::write(root.join("readme"), "x").err().and_then(|error| error.raw_os_error());
            expect_eq!(error, Some(libc::EROFS));
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether a driver refuses the mount, or the mount the write, is its own affair.
fn expect_sealed(pool: &Pool, volume: &Volume) -> Outcome {
    let before = pool.read(volume, fingerprint)?;
    let written = pool.read(volume, |root| Ok(fs::write(root.join("new"), "")?));
    expect!(written.is_err(), "sealed volume {} was written through a mount for reading", volume.id);
    // A thin device has no mark for it: there it is the store that never asks to write a sealed one.
    if pool.spec.kind != DriverKind::Thin {
        let written = pool.write(volume, |root| Ok(fs::write(root.join("new"), "")?));
        expect!(written.is_err(), "sealed volume {} was written", volume.id);
    }
    expect_eq!(pool.read(volume, fingerprint)?, before, "sealed volume {}", volume.id);
    Ok(())
}

pub fn a_sealed_parent_never_changes(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, furnish)?;
    let before = pool.read(&base, fingerprint)?;
    let child = pool.layer(Some(&base), vandalise)?;
    expect_eq!(pool.read(&base, fingerprint)?, before);
    let middle = pool.read(&child, fingerprint)?;
    let grandchild = pool.active(Some(&child))?;
    pool.write(&grandchild, |root| {
        for entry in fs::read_dir(root)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    })?;
    expect_eq!(pool.read(&child, fingerprint)?, middle);
    pool.driver().delete(grandchild.id)?;
    pool.driver().delete(child.id)?;
    expect_eq!(pool.read(&base, fingerprint)?, before);
    Ok(())
}

/// Changes, removes and adds in every way.
fn vandalise(root: &Path) -> Outcome {
    fs::write(root.join("data"), vec![8; 300_000])?;
    File::options().append(true).open(root.join("readme"))?.write_all(b"more")?;
    fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o700))?;
    fs::remove_file(root.join("link"))?;
    fs::remove_dir_all(root.join("etc/conf.d"))?;
    fs::create_dir(root.join("etc/conf.d"))?;
    fs::rename(root.join("etc/hosts"), root.join("etc/hosts.old"))?;
    set_xattr(&root.join("etc/hosts.old"), "user.new", b"1")
}

pub fn siblings_never_see_each_others_writes(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, furnish)?;
    let [one, two] = [pool.active(Some(&base))?, pool.active(Some(&base))?];
    let untouched = pool.read(&two, fingerprint)?;
    let (first, second) = (pool.mount(&one, Access::ReadWrite)?, pool.mount(&two, Access::ReadWrite)?);
    vandalise(&first.path())?;
    expect_eq!(fingerprint(&second.path())?, untouched);
    fs::write(second.path().join("data"), "two")?;
    expect_eq!(fs::read(first.path().join("data"))?, vec![8; 300_000]);
    drop((first, second));
    for volume in [&one, &two] {
        pool.driver().release(volume.id)?;
    }
    pool.driver().delete(one.id)?;
    expect_eq!(pool.read(&two, |root| Ok(fs::read(root.join("data"))?))?, b"two");
    Ok(())
}

pub fn mounting_and_releasing_can_be_repeated(pool: &mut Pool) -> Outcome {
    let volume = pool.active(None)?;
    pool.driver().release(volume.id)?;
    for round in 0..4 {
        let spec = pool.driver().mounts(volume.id, &[], Access::ReadWrite)?;
        expect_eq!(pool.driver().mounts(volume.id, &[], Access::ReadWrite)?, spec, "a second answer");
        pool.write(&volume, |root| {
            expect_eq!(fs::read_dir(root)?.count(), round);
            Ok(fs::write(root.join(round.to_string()), "")?)
        })?;
        pool.driver().release(volume.id)?;
    }
    expect_eq!(pool.driver().active()?, [], "after the last release");
    Ok(())
}

pub fn deleting_is_idempotent(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, furnish)?;
    let child = pool.active(Some(&base))?;
    pool.write(&child, vandalise)?;
    for _ in 0..2 {
        pool.driver().delete(child.id)?;
        expect_eq!(pool.driver().volumes()?, [base.id]);
    }
    expect!(pool.driver().mounts(child.id, &child.parents, Access::ReadOnly).is_err(), "a deleted volume was mounted");
    pool.driver().delete(VolumeId::MAX)?;
    // The number is free again.
    pool.driver().snapshot(child.id, &child.parents)?;
    expect_eq!(pool.read(&child, fingerprint)?, pool.read(&base, fingerprint)?);
    Ok(())
}

pub fn volumes_lists_exactly_what_exists(pool: &mut Pool) -> Outcome {
    expect_eq!(pool.driver().volumes()?, []);
    let base = pool.layer(None, furnish)?;
    let child = pool.active(Some(&base))?;
    let captured = pool.capture(&child)?;
    pool.driver().create(VolumeId::MAX)?;
    expect_eq!(pool.driver().volumes()?, [base.id, child.id, captured.id, VolumeId::MAX]);
    expect!(pool.driver().create(base.id).is_err(), "a volume was made twice");
    pool.driver().delete(child.id)?;
    expect_eq!(pool.driver().volumes()?, [base.id, captured.id, VolumeId::MAX]);
    expect_eq!(pool.driver().check()?, Vec::<String>::new());
    Ok(())
}

pub fn a_pool_taken_down_and_up_again_has_everything(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, furnish)?;
    let child = pool.active(Some(&base))?;
    pool.write(&child, vandalise)?;
    let before = (pool.read(&base, fingerprint)?, pool.read(&child, fingerprint)?);
    pool.reopen()?;
    expect_eq!(pool.driver().volumes()?, [base.id, child.id]);
    expect_eq!((pool.read(&base, fingerprint)?, pool.read(&child, fingerprint)?), before);
    pool.write(&child, |root| Ok(fs::write(root.join("after"), "")?))?;
    expect_sealed(pool, &base)
}

pub fn a_parent_may_be_mounted_while_children_are_made(pool: &mut Pool) -> Outcome {
    let base = pool.layer(None, furnish)?;
    let mounted = pool.mount(&base, Access::ReadOnly)?;
    let child = pool.active(Some(&base))?;
    expect_eq!(pool.read(&child, fingerprint)?, fingerprint(&mounted.path())?);
    drop(mounted);
    pool.driver().release(base.id)?;
    Ok(())
}

pub fn snapshots_of_one_parent_can_be_made_at_once(pool: &mut Pool) -> Outcome {
    const EACH: u64 = 8;
    let base = pool.layer(None, furnish)?;
    let before = pool.read(&base, fingerprint)?;
    // Each thread opens the pool for itself, as two commands would.
    let (spec, parents) = (&pool.spec, [base.id]);
    let make = |first: u64| {
        let driver = pool::open(spec)?;
        (first..first + EACH).try_for_each(|number| driver.snapshot(VolumeId::new(number)?, &parents))
    };
    thread::scope(|scope| {
        let threads = [100, 200].map(|first| scope.spawn(move || make(first)));
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?.map_err(Into::into))
            as Outcome
    })?;
    expect_eq!(pool.driver().volumes()?.len() as u64, 1 + 2 * EACH);
    for number in [100, 100 + EACH - 1, 200, 200 + EACH - 1] {
        let child = Volume { id: VolumeId::new(number)?, parents: vec![base.id] };
        expect_eq!(pool.read(&child, fingerprint)?, before, "volume {number}");
    }
    Ok(())
}

pub fn a_capture_holds_one_state_of_a_volume_being_written(pool: &mut Pool) -> Outcome {
    const RECORD: usize = 64;
    let base = pool.layer(None, furnish)?;
    let volume = pool.active(Some(&base))?;
    let mounted = pool.mount(&volume, Access::ReadWrite)?;
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let append = || -> std::io::Result<()> {
        let mut log = File::options().create(true).append(true).open(mounted.path().join("log"))?;
        while !stop.load(Ordering::Relaxed) {
            let record = format!("{:0RECORD$}", written.load(Ordering::Relaxed));
            log.write_all(record.as_bytes())?;
            written.fetch_add(1, Ordering::Release);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let writer = scope.spawn(append);
        let observe = || -> Outcome {
            wait_until(|| written.load(Ordering::Acquire) > 1000 || writer.is_finished())?;
            let before = written.load(Ordering::Acquire);
            let captured = pool.capture(&volume)?;
            let log = pool.read(&captured, |root| Ok(fs::read(root.join("log"))?))?;
            expect_eq!(log.len() % RECORD, 0, "bytes of a record cut off");
            expect!(
                (log.len() / RECORD) as u64 >= before,
                "{before} records were written, {} captured",
                log.len() / RECORD
            );
            for (number, record) in log.chunks(RECORD).enumerate() {
                expect_eq!(record, format!("{number:0RECORD$}").as_bytes());
            }
            let held = pool.read(&captured, fingerprint)?;
            let then = written.load(Ordering::Acquire);
            wait_until(|| written.load(Ordering::Acquire) > then + 1000 || writer.is_finished())?;
            expect!(!writer.is_finished(), "the writer ended");
            expect_eq!(pool.read(&captured, fingerprint)?, held);
            expect_sealed(pool, &captured)
        };
        let observed = observe();
        stop.store(true, Ordering::Relaxed);
        let ended = writer.join().map_err(|_| "the writer panicked")?;
        observed?;
        Ok(ended?) as Outcome
    })?;
    drop(mounted);
    pool.driver().release(volume.id)?;
    Ok(())
}
