//! `lamina build` on every driver: real commands in real containers, from real Dockerfiles.

mod context;
mod full;
mod mounts;
mod options;
mod reference;
mod steps;
mod together;
mod trouble;

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use lamina::{
    driver::DriverKind,
    program::{CRUN, RUNC},
};
use libtest_mimic::{Completion, Trial};

use crate::{
    disk::SmallDisk,
    lamina::{Host, Said, with_host, with_host_in},
    pool::Outcome,
};

type Case = fn(&Host) -> Outcome;

const CASES: [(&str, Case); 16] = [
    ("the_second_image_shares_every_layer", steps::the_second_image_shares_every_layer),
    ("steps_go_with_their_image", steps::steps_go_with_their_image),
    ("what_was_done_is_not_done_again", steps::what_was_done_is_not_done_again),
    ("every_instruction_reaches_the_configuration", steps::every_instruction_reaches_the_configuration),
    ("commands_run_in_the_image", steps::commands_run_in_the_image),
    ("stages_take_from_one_another", steps::stages_take_from_one_another),
    ("the_same_input_gives_the_same_image", steps::the_same_input_gives_the_same_image),
    ("a_built_image_is_saved_and_loaded", steps::a_built_image_is_saved_and_loaded),
    ("copies_go_where_they_should", context::copies_go_where_they_should),
    ("nothing_outside_is_copied", context::nothing_outside_is_copied),
    ("what_is_ignored_is_not_there", context::what_is_ignored_is_not_there),
    ("archives_are_unpacked_by_add", context::archives_are_unpacked_by_add),
    ("mistakes_are_told_with_their_place", trouble::mistakes_are_told_with_their_place),
    ("what_a_build_needs_stays_until_it_ends", together::what_a_build_needs_stays_until_it_ends),
    ("builds_at_once_and_pruning_disturb_nobody", together::builds_at_once_and_pruning_disturb_nobody),
    ("a_killed_build_leaves_nothing_running", trouble::a_killed_build_leaves_nothing_running),
];

/// What is the same whatever the driver, so that the emulated machine, which is slow, need not do it.
const SAME: [(&str, Case); 3] = [
    ("a_mounted_context_stays_what_it_was", mounts::a_mounted_context_stays_what_it_was),
    ("the_reference_is_followed", reference::the_reference_is_followed),
    ("newer_options_do_what_they_say", options::newer_options_do_what_they_say),
];

/// One case per driver.
pub fn trials() -> Vec<Trial> {
    let case = |driver: DriverKind, name: &str, body: Case| {
        Trial::ignorable_test(format!("build::{driver}::{name}"), move || {
            if CRUN.find().is_err() && RUNC.find().is_err() {
                return Ok(Completion::ignored_with("neither crun nor runc is installed"));
            }
            with_host(driver, body)
        })
    };
    let mut trials: Vec<Trial> =
        DriverKind::ALL.into_iter().flat_map(|driver| CASES.map(|(name, body)| case(driver, name, body))).collect();
    for driver in DriverKind::ALL.into_iter().filter(|driver| *driver != DriverKind::Thin) {
        trials.extend(SAME.map(|(name, body)| case(driver, name, body)));
    }
    // What these write takes an emulated machine longer than a case may; `full` has thin's pools.
    let driver = DriverKind::Btrfs;
    trials.push(case(driver, "the_pool_ends_in_a_step", full::the_pool_ends_in_a_step));
    trials.push(Trial::ignorable_test(format!("build::{driver}::the_disk_below_ends_in_a_step"), move || {
        let disk = SmallDisk::new(3 << 29)?;
        with_host_in(&disk.path(), driver, |host| full::the_disk_below_ends_in_a_step(host, &disk.path()))
    }));
    trials
}

/// The statically linked shell with all its commands, which is all that the images of these tests have.
const BUSYBOX: &str = "/bin/busybox";

/// A pool, and an image `base` in which a shell runs.
fn base(host: &Host) -> Outcome {
    base_in(host, "1G")
}

/// The same in a pool of this size.
fn base_in(host: &Host, size: &str) -> Outcome {
    host.pool(size)?;
    let tree = host.file("base");
    for directory in ["bin", "etc", "tmp"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::copy(BUSYBOX, tree.join("bin/busybox"))?;
    for name in ["sh", "ls", "cat", "id", "wc", "stat", "mkdir", "touch", "chmod", "sleep"] {
        symlink("busybox", tree.join("bin").join(name))?;
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n")?;
    fs::write(tree.join("etc/group"), "root:x:0:\nwww:x:33:\n")?;
    let tar = host.file("base.tar");
    let mut archive = tar::Builder::new(fs::File::create(&tar)?);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", &tree)?;
    archive.finish()?;
    host.ok(&["import", &tar.to_string_lossy(), "base"]).map(drop)
}

/// A build context with this Dockerfile and these files.
fn context(host: &Host, dockerfile: &str, files: &[(&str, &str)]) -> Outcome<PathBuf> {
    let context = host.file("context");
    fs::create_dir_all(&context)?;
    fs::write(context.join("Dockerfile"), dockerfile)?;
    for (name, content) in files {
        let path = context.join(name);
        fs::create_dir_all(path.parent().ok_or("a file has a directory")?)?;
        fs::write(path, content)?;
    }
    Ok(context)
}

/// Builds the context.
fn build(host: &Host, more: &[&str]) -> Outcome<Said> {
    let context = host.file("context").to_string_lossy().into_owned();
    host.run(&[&["build"], more, &[&context]].concat())
}

/// The same, which must succeed; returns the image's ID.
fn built(host: &Host, more: &[&str]) -> Outcome<String> {
    let said = build(host, more)?;
    if said.code == Some(0) { Ok(said.out.trim().to_owned()) } else { Err(format!("build {more:?}: {said:?}").into()) }
}

/// How many steps were taken from the cache.
fn cached(said: &Said) -> usize {
    said.err.matches("Using cache").count()
}

/// Mounts a new container of an image.
fn tree(host: &Host, image: &str) -> Outcome<PathBuf> {
    let id = host.ok(&["create", image])?;
    host.mount(&id)
}
