//! Ends of saving and keeping: death half-way, a full disk, and memory.

use std::{
    fs,
    io::{Read, Write},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use lamina::driver::DriverKind;
use libtest_mimic::{Completion, Failed, Trial};

use super::kept;
use crate::{
    disk::SmallDisk,
    expect, expect_eq,
    lamina::{Host, with_host, with_host_in},
    pool::Outcome,
};

pub(super) fn trials() -> Vec<Trial> {
    let case = |driver: DriverKind| {
        Trial::ignorable_test(format!("save::{driver}::a_full_disk_leaves_nothing"), move || full_disk(driver))
    };
    let mut trials: Vec<Trial> = DriverKind::ALL.into_iter().map(case).collect();
    trials.push(Trial::ignorable_test("save::memory_stays_small_for_a_large_layer", || {
        with_host(DriverKind::Overlay, memory)
    }));
    trials
}

/// The head of a member with `size` bytes; those of a whiteout nobody's disk need hold.
pub fn head(name: &str, size: u64) -> Outcome<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// What the process has written, in bytes; 0 when it has ended.
fn written(child: &Child) -> u64 {
    let told = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
    told.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
}

pub(super) fn a_killed_save_leaves_nothing(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("large:1", &[("large", &vec![7; 96 << 20])])?;
    let directory = host.file("out");
    fs::create_dir(&directory)?;
    let target = directory.join("large.tar");
    fs::write(&target, "what was there")?;
    let mut child = host.spawn(&["save", "-o", &target.display().to_string(), "large:1"], Stdio::null())?;
    let begun = Instant::now();
    while written(&child) < 4 << 20 {
        expect!(child.try_wait()?.is_none() && begun.elapsed() < Duration::from_secs(60), "it did not write");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    let status = child.wait()?;
    expect!(!status.success(), "it ended before it was killed");
    expect_eq!(fs::read(&target)?, b"what was there");
    expect_eq!(fs::read_dir(&directory)?.count(), 1, "nothing else is left");
    host.ok(&["save", "-o", &target.display().to_string(), "large:1"])?;
    expect!(fs::metadata(&target)?.len() > 96 << 20, "given again, it is done");
    host.check()
}

/// The layer's archive takes the disk: it is told, and nothing of it is left.
fn full_disk(driver: DriverKind) -> Result<Completion, Failed> {
    let disk = SmallDisk::new(500 << 20)?;
    let base = disk.path();
    with_host_in(&base, driver, |host| {
        host.pool("1G")?;
        host.image("base:1", &[("file", b"content")])?;
        let size = 600 << 20;
        let mut child = host.spawn(&["import", "-", "big:1"], Stdio::piped())?;
        let mut input = child.stdin.take().ok_or("no standard input")?;
        input.write_all(head(".wh.big", size)?.as_bytes())?;
        let noise: Vec<u8> =
            (0..1u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect();
        // It ends reading when it has failed.
        let _ = (0..size >> 20).try_for_each(|_| input.write_all(&noise));
        drop(input);
        let said = crate::lamina::Said::from(child.wait_with_output()?);
        expect!(said.code == Some(1) && said.err.contains("are kept back") && said.err.contains("blobs"), "{said:?}");
        expect_eq!(kept(host)?.len(), 1, "only that of the other image is left");
        expect_eq!(host.json(&["images"])?.as_array().map(Vec::len), Some(1));
        host.check()
    })
}

/// The most memory that a process has had, in KiB; 0 when it has ended.
pub fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// What a stream of a layer's tar is compressed with.
enum Form {
    Plain,
    Gzip,
    /// With the largest window that is taken.
    Zstd,
}

/// The most memory of an import of 2 GiB below the name `member`, in KiB.
fn import(host: &Host, form: &Form, member: &str, image: &str) -> Outcome<u64> {
    let mut child = host.spawn(&["import", "-", image], Stdio::piped())?;
    let input = child.stdin.take().ok_or("no standard input")?;
    let mut out: Box<dyn Write> = match form {
        Form::Plain => Box::new(input),
        Form::Gzip => Box::new(flate2::write::GzEncoder::new(input, flate2::Compression::fast())),
        Form::Zstd => {
            let mut encoder = zstd::Encoder::new(input, 1)?;
            encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(25))?;
            Box::new(encoder.auto_finish())
        }
    };
    out.write_all(head(member, SIZE)?.as_bytes())?;
    // Nothing repeats within a window, or memory would never be filled.
    let block: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()[0]).collect();
    let mut most = 0;
    for _ in 0..SIZE >> 20 {
        out.write_all(&block)?;
        most = most.max(peak(&child));
    }
    out.write_all(&[0; 1024])?;
    drop(out);
    expect!(child.wait()?.success(), "{image} is not imported");
    Ok(most)
}

const SIZE: u64 = 2 << 30;

/// 2 GiB of layers go in and out: named in an outline, standing in it, compressed, and packed again.
fn memory(host: &Host) -> Outcome {
    const MOST: u64 = 64 << 10;
    host.pool("512M")?;
    for (form, member, image) in [
        (Form::Plain, "named", "named:1"),
        (Form::Plain, ".wh.standing", "standing:1"),
        (Form::Gzip, ".wh.gzip", "gzip:1"),
        (Form::Zstd, ".wh.zstd", "zstd:1"),
    ] {
        let most = import(host, &form, member, image)?;
        expect!(most > 0 && most < MOST, "importing {image} took {most} KiB");
    }
    host.ok(&["create", "--name", "box", "gzip:1"])?;
    fs::File::create(host.mount("box")?.join("sparse"))?.set_len(SIZE)?;
    host.ok(&["umount", "box"])?;
    host.ok(&["commit", "box", "packed:1"])?;
    let saved = [("docker", "named:1", SIZE), ("docker", "standing:1", SIZE), ("oci", "packed:1", 1 << 20)];
    for (format, image, least) in saved {
        let mut child = host.spawn(&["save", "--format", format, image], Stdio::null())?;
        let mut output = child.stdout.take().ok_or("no standard output")?;
        let (mut buffer, mut length, mut most) = (vec![0; 1 << 20], 0u64, 0);
        loop {
            most = most.max(peak(&child));
            let count = output.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            length += count as u64;
        }
        expect!(child.wait()?.success() && length > least, "{image}: {length} bytes");
        expect!(most > 0 && most < MOST, "saving {image} took {most} KiB");
    }
    Ok(())
}
