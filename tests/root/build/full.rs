//! No space in the middle of a step: the cause is told, nothing of the step stays, the rest is untouched, and the same
//! build goes on once there is space.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use super::{base_in, build, cached, context};
use crate::{expect, expect_eq, full::expect_messages, lamina::Host, pool::Outcome};

const BEFORE: &str = "FROM base\nRUN busybox mkdir /made && echo kept > /made/before\n";

/// Steps that write 400 MiB, each in its own way, and where the build stands then.
const STEPS: [&str; 2] = ["COPY big /\n", "RUN busybox dd if=/dev/zero of=/big bs=1M count=400\n"];

/// A pool, a container whose files must not suffer, and a large file for the context, of no zeros, which would take no space.
fn prepare(host: &Host, size: &str) -> Outcome {
    expect_messages();
    base_in(host, size)?;
    context(host, BEFORE, &[])?;
    let mut big = File::create(host.file("context").join("big"))?;
    io::copy(&mut io::repeat(0x5a).take(400 << 20), &mut big)?;
    host.ok(&["create", "--name", "other", "base"])?;
    let root = host.mount("other")?;
    fs::write(root.join("file"), "untouched")?;
    Ok(())
}

/// The step fails with these words, and leaves nothing.
fn step_fails(host: &Host, step: &str, words: &[&str]) -> Outcome {
    let counted = || -> Outcome<_> {
        let status = host.json(&["pool", "status"])?;
        Ok((host.ok(&["images", "-a", "-q"])?.lines().count(), status["layers"].clone()))
    };
    context(host, BEFORE, &[])?;
    build(host, &[])?;
    let before = counted()?;
    context(host, &format!("{BEFORE}{step}"), &[])?;
    let said = build(host, &["-t", "large"])?;
    expect!(said.code == Some(1) && said.out.is_empty() && said.err.contains("Dockerfile:3:1: "), "{said:?}");
    expect_eq!(cached(&said), 1);
    for words in words {
        expect!(said.err.contains(words), "{step:?} should say {words:?}: {said:?}");
    }
    host.check()?;
    expect_eq!(counted()?, before);
    let file = host.mount("other")?.join("file");
    expect_eq!(fs::read_to_string(&file)?, "untouched");
    Ok(fs::write(file, "untouched")?)
}

fn step_works(host: &Host, step: &str) -> Outcome {
    context(host, &format!("{BEFORE}{step}"), &[])?;
    let said = build(host, &["-t", "large"])?;
    expect_eq!(said.code, Some(0), "{said:?}");
    host.ok(&["create", "--name", "look", "large"])?;
    expect_eq!(fs::metadata(host.mount("look")?.join("big"))?.len(), 400 << 20);
    host.ok(&["umount", "look"])?;
    host.ok(&["rm", "look"])?;
    host.ok(&["rmi", "large"])?;
    host.check()
}

pub fn the_pool_ends_in_a_step(host: &Host) -> Outcome {
    prepare(host, "256M")?;
    for step in STEPS {
        step_fails(host, step, &["pool is full (data ", "grow it with 'lamina pool grow SIZE'"])?;
    }
    // An instruction that fails for another reason is not blamed on the pool.
    context(host, &format!("{BEFORE}RUN exit 3\n"), &[])?;
    let said = build(host, &[])?;
    expect!(said.err.contains("a non-zero code: 3\n") && !said.err.contains("full"), "{said:?}");
    host.ok(&["pool", "grow", "1G"])?;
    STEPS.into_iter().try_for_each(|step| step_works(host, step))
}

pub fn the_disk_below_ends_in_a_step(host: &Host, disk: &Path) -> Outcome {
    prepare(host, "2G")?;
    let ballast = disk.join("ballast");
    let free = || rustix::fs::statvfs(disk).map(|space| space.f_bavail * space.f_frsize);
    let file = File::create(&ballast)?;
    let rest = free()?.checked_sub(350 << 20).ok_or("the disk is too small")?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, rest)?;
    for step in STEPS {
        step_fails(host, step, &["the disk below the pool is full (", "free some space there"])?;
        // What others have mounted is written still.
        expect!(free()? > 64 << 20, "the step left {} bytes of the disk", free()?);
    }
    // Open it would keep its space.
    drop(file);
    fs::remove_file(ballast)?;
    STEPS.into_iter().try_for_each(|step| step_works(host, step))
}
