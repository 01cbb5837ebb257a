//! No space, as a user meets it: new work is refused in time, writers get an error, layers stay whole, removing works,
//! and growing or freeing brings everything back. For the pool's data, its metadata, and the disk below its files.

#![allow(clippy::print_stdout, reason = "a test's output is its report")]

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Stdio,
};

use lamina::{
    driver::DriverKind,
    fs::MountSpec,
    store::{Key, SnapshotKind, Store},
    units::Bytes,
};
use libtest_mimic::Trial;

use crate::{
    disk::SmallDisk,
    expect, expect_eq,
    lamina::{Host, Said, with_host, with_host_in},
    pool::Outcome,
};

const BLOCK: DriverKind = DriverKind::Thin;
const BOTH: [DriverKind; 2] = [BLOCK, DriverKind::Btrfs];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for driver in BOTH {
        for (name, case) in [
            ("data_ends_and_removing_helps", removing_helps as fn(&Host) -> Outcome),
            ("data_ends_and_growing_helps", growing_helps),
            ("an_image_larger_than_the_pool", an_image_larger_than_the_pool),
        ] {
            trials.push(Trial::ignorable_test(format!("full::{driver}::{name}"), move || with_host(driver, case)));
        }
        trials.push(Trial::ignorable_test(format!("full::{driver}::an_image_larger_than_the_disk_below"), move || {
            let disk = SmallDisk::new(400 << 20)?;
            with_host_in(&disk.path(), driver, |host| an_image_larger_than_the_disk_below(host, &disk.path()))
        }));
        trials.push(Trial::ignorable_test(format!("full::{driver}::the_disk_below_ends"), move || {
            let disk = SmallDisk::new(400 << 20)?;
            with_host_in(&disk.path(), driver, |host| the_disk_below_ends(host, &disk.path()))
        }));
    }
    for (name, case) in [
        ("metadata_grows_before_it_ends", metadata_grows as fn(&Host) -> Outcome),
        ("metadata_ends_and_repair_helps", metadata_ends),
    ] {
        trials.push(Trial::ignorable_test(format!("full::thin::{name}"), move || with_host(BLOCK, case)));
    }
    trials
}

/// What the kernel says when writers meet the end.
pub fn expect_messages() {
    for part in ["EXT4-fs", "journal", "I/O error", "device-mapper", "BTRFS", "loop"] {
        println!("VM-EXPECT-KMSG: {part}");
    }
}

const LAYER: usize = 4 << 20;

pub fn layer() -> Vec<u8> {
    (0..LAYER).map(|at| u8::try_from(at * 7 % 251).unwrap_or(0)).collect()
}

/// A pool with one image and the mounted containers 'writer' and 'reader'.
fn prepare(host: &Host, size: &str) -> Outcome {
    expect_messages();
    host.pool(size)?;
    host.image("base", &[("layer", &layer())])?;
    for name in ["writer", "reader"] {
        host.ok(&["create", "--name", name, "base"])?;
        host.mount(name)?;
    }
    Ok(())
}

/// Nothing of the layer may ever suffer.
fn layer_is_whole(root: &Path) -> Outcome {
    expect!(fs::read(root.join("layer"))? == layer(), "the layer's file has other content");
    Ok(())
}

fn free(host: &Host) -> Outcome<(u64, u64)> {
    let status = host.json(&["pool", "status"])?;
    let number = |field: &str| status["data"][field].as_u64().ok_or("no number in the pool's status");
    Ok((number("total_bytes")? - number("used_bytes")?, number("total_bytes")?))
}

/// Writes a MiB through to the disk. No pool of ours compresses.
fn write(file: &mut File) -> io::Result<()> {
    file.write_all(&[0x5a; 1 << 20])?;
    file.sync_data()
}

fn write_to_the_end(file: &mut File, most: usize) -> Outcome {
    let error = (0..most).find_map(|_| write(file).err()).ok_or("the writer never met the end")?;
    expect!(matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EIO | libc::EROFS)), "{error}");
    Ok(())
}

/// Fills the pool; on the way there new work is refused while there still is room.
fn fill(host: &Host) -> Outcome {
    prepare(host, "256M")?;
    let mut file = File::create(host.mount("writer")?.join("fill"))?;
    loop {
        let (free, total) = free(host)?;
        if free < total / 20 {
            break;
        }
        // Few questions on the way, and the last steps small enough to end between the reserve and nothing.
        for _ in 0..((free / 2) >> 20).max(2) {
            write(&mut file)?;
        }
    }
    host.fails(&["create", "base"], "lamina pool grow")?;
    let tar = host.file("rootfs.tar");
    host.fails(&["import", &tar.to_string_lossy(), "other"], "pool is full")?;
    write(&mut file)?;
    write_to_the_end(&mut file, 256)?;
    drop(file);
    layer_is_whole(&host.mount("reader")?)?;
    host.fails(&["create", "base"], "pool is full")
}

/// Everything works again.
pub fn goes_on(host: &Host) -> Outcome {
    host.ok(&["create", "--name", "after", "base"])?;
    let root = host.mount("after")?;
    layer_is_whole(&root)?;
    let mut file = File::create(root.join("new"))?;
    for _ in 0..32 {
        write(&mut file)?;
    }
    drop(file);
    host.ok(&["commit", "after", "next"])?;
    host.ok(&["umount", "after"])?;
    host.ok(&["rm", "after"])?;
    host.check()
}

fn removing_helps(host: &Host) -> Outcome {
    fill(host)?;
    host.ok(&["umount", "writer"])?;
    host.ok(&["rm", "writer"])?;
    goes_on(host)?;
    layer_is_whole(&host.mount("reader")?)
}

fn growing_helps(host: &Host) -> Outcome {
    fill(host)?;
    host.ok(&["pool", "grow", "512M"])?;
    goes_on(host)?;
    host.ok(&["umount", "writer"])?;
    layer_is_whole(&host.mount("writer")?)?;
    layer_is_whole(&host.mount("reader")?)
}

/// A few KiB that become more than the pool has: refused with the pool's numbers, nothing of it stays, and what was there
/// is untouched. The last bytes of what fits may be in memory only when the archive ends.
fn an_image_larger_than_the_pool(host: &Host) -> Outcome {
    prepare(host, "256M")?;
    let bomb = host.file("bomb.tar.gz");
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(File::create(&bomb)?, flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(300 << 20);
    header.set_mode(0o644);
    tar.append_data(&mut header, "bomb", io::repeat(0x5a).take(300 << 20))?;
    tar.into_inner()?.finish()?;
    host.fails(&["import", &bomb.to_string_lossy(), "bomb"], "full")?;
    expect_eq!(host.json(&["images"])?.as_array().map(Vec::len), Some(1));
    expect_eq!(host.json(&["pool", "status"])?["layers"], 1);
    layer_is_whole(&host.mount("reader")?)?;
    goes_on(host)
}

/// What others have mounted never notices: the import ends while there still is room for them.
fn an_image_larger_than_the_disk_below(host: &Host, disk: &Path) -> Outcome {
    prepare(host, "2G")?;
    let mut import = host.command(&["import", "-", "large"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut tar = tar::Builder::new(import.stdin.take().ok_or("no standard input")?);
    let mut header = tar::Header::new_gnu();
    header.set_size(1 << 30);
    header.set_mode(0o644);
    // The command ends before the archive does.
    let written = tar.append_data(&mut header, "large", io::repeat(0x5a).take(1 << 30));
    drop(tar);
    let said = Said::from(import.wait_with_output()?);
    expect!(written.is_err() && said.code == Some(1), "{written:?} {said:?}");
    expect!(said.err.contains("disk below the pool is full"), "{said:?}");
    expect!(rustix::fs::statvfs(disk)?.f_bavail * 4096 > 100 << 20, "it took more than it may");
    expect_eq!(host.json(&["images"])?.as_array().map(Vec::len), Some(1));
    // The pool was never stopped.
    let mut file = File::create(host.mount("writer")?.join("new"))?;
    write(&mut file)?;
    drop(file);
    layer_is_whole(&host.mount("reader")?)?;
    host.check()
}

fn the_disk_below_ends(host: &Host, disk: &Path) -> Outcome {
    prepare(host, "1G")?;
    host.ok(&["create", "--name", "spare", "base"])?;
    let mut ballast = File::create(disk.join("ballast"))?;
    // The database's log must not be what ends first.
    host.ok(&["ps"])?;
    while rustix::fs::statvfs(disk)?.f_bavail * 4096 > 100 << 20 {
        write(&mut ballast)?;
    }
    host.fails(&["create", "base"], "disk below the pool is full")?;
    while write(&mut ballast).is_ok() {}
    drop(ballast);
    // Deleting works still.
    host.ok(&["rm", "spare"])?;
    expect!(!host.json(&["ps", "-a"])?.to_string().contains("spare"), "it is gone");
    if host.driver == BLOCK {
        // 64 GiB need 48 MiB of metadata, which is never sparse.
        let before = free(host)?.1;
        host.fails(&["pool", "grow", "64G"], "of the disk for pool metadata")?;
        expect_eq!(free(host)?.1, before);
    }
    let root = host.mount("writer")?;
    let mut file = File::create(root.join("fill"))?;
    write_to_the_end(&mut file, 256)?;
    drop(file);
    layer_is_whole(&host.mount("reader")?)?;
    fs::remove_file(disk.join("ballast"))?;
    for name in ["writer", "reader"] {
        host.ok(&["umount", name])?;
    }
    let said = host.run(&["create", "base"])?;
    expect!(said.code == Some(0) || said.err.contains("lamina check --repair"), "{said:?}");
    host.ok(&["check", "--repair"])?;
    goes_on(host)?;
    layer_is_whole(&host.mount("writer")?)
}

/// Gives a container `count` leaves of its own in the pool's tree of mappings, past its file system.
pub fn scatter(store: &Store, key: &Key, count: u64) -> Outcome {
    let MountSpec::Device { device, .. } = store.mounts(key)? else { return Err("a thin volume is a device".into()) };
    let file = File::options().write(true).open(device)?;
    let chunk = vec![1; 64 << 10];
    let written = (0..count).try_for_each(|at| file.write_all_at(&chunk, (1 << 40) + ((at * 150) << 16)));
    let written = written.and_then(|()| file.sync_all());
    drop(file);
    store.release(key)?;
    Ok(written?)
}

/// A pool of 512 MiB with the image 'base', and a layer whose mappings take many leaves.
pub fn store_and_layer(host: &Host) -> Outcome<(Store, Key)> {
    expect_messages();
    host.pool("512M")?;
    host.image("base", &[("layer", &layer())])?;
    let store = Store::open(&host.root())?.ok_or("no pool")?;
    let layer = store.walk()?.into_iter().find(|info| info.kind == SnapshotKind::Committed).ok_or("no layer")?.key;
    // A layer with all these leaves, so that each container must copy them.
    let wide: Key = "wide-active".parse()?;
    store.prepare(&wide, Some(&layer))?;
    let MountSpec::Device { device, .. } = store.mounts(&wide)? else { return Err("a thin volume is a device".into()) };
    let file = File::options().write(true).open(device)?;
    for at in 0..3_000u64 {
        file.write_all_at(&[1; 4096], (1 << 40) + (at << 16))?;
    }
    file.sync_all()?;
    drop(file);
    store.release(&wide)?;
    let committed: Key = "wide".parse()?;
    store.commit(&committed, &wide)?;
    Ok((store, committed))
}

fn metadata_grows(host: &Host) -> Outcome {
    let (store, layer) = store_and_layer(host)?;
    let before = store.status()?.metadata.total;
    expect_eq!(before, Bytes::mib(4));
    let mut made = 0;
    while store.status()?.metadata.total == before {
        let key: Key = format!("c{made}").parse()?;
        store.prepare(&key, Some(&layer))?;
        scatter(&store, &key, 20)?;
        made += 1;
        expect!(made < 200, "metadata never grew: {:?}", store.status()?);
    }
    expect_eq!(store.status()?.metadata.total, Bytes::mib(8));
    host.check()?;
    remove_all(host, &store, &layer, made)
}

fn remove_all(host: &Host, store: &Store, layer: &Key, made: u32) -> Outcome {
    for number in 0..made {
        store.remove(&format!("c{number}").parse()?)?;
    }
    store.remove(layer)?;
    goes_on(host)
}

/// Writers that are already there fill the metadata, which no admission can keep from them.
fn metadata_ends(host: &Host) -> Outcome {
    let (store, layer) = store_and_layer(host)?;
    let made = 70;
    for number in 0..made {
        store.prepare(&format!("c{number}").parse()?, Some(&layer))?;
    }
    let mut failed = 0;
    for number in 0..made {
        failed += u32::from(scatter(&store, &format!("c{number}").parse()?, 20).is_err());
    }
    expect!(failed > 0, "metadata never ended: {:?}", store.status()?);
    println!("{failed} of {made} writers failed: {:?}", store.status()?);
    let said = host.run(&["create", "--name", "first", "base"])?;
    println!("{said:?}");
    if said.code != Some(0) {
        expect!(said.err.contains("lamina check --repair"), "{said:?}");
        let told = host.run(&["check"])?;
        expect!(told.code == Some(1) && told.out.contains("lamina check --repair"), "{told:?}");
        drop(store);
        println!("{}", host.ok(&["check", "--repair"])?);
    }
    let store = Store::open(&host.root())?.ok_or("no pool")?;
    remove_all(host, &store, &layer, made)
}
