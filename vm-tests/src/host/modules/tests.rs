//! Orders over a small `modules.dep`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::Modules;

const DEP: &str = "kernel/md/dm-thin-pool.ko: kernel/md/dm-bio-prison.ko kernel/md/dm-mod.ko\n\
                   kernel/md/dm-mod.ko:\nkernel/md/dm-bio-prison.ko.xz: kernel/lib/a.ko\nkernel/lib/a.ko:\n";
const BUILTIN: &str = "kernel/fs/ext4/ext4.ko\n";

#[test]
fn what_is_needed_comes_first_and_once() {
    let order = Modules::parse(DEP, BUILTIN).load_order(&["dm_thin_pool", "dm_mod"]).unwrap();
    assert_eq!(
        order,
        ["kernel/lib/a.ko", "kernel/md/dm-bio-prison.ko.xz", "kernel/md/dm-mod.ko", "kernel/md/dm-thin-pool.ko"]
    );
}

#[test]
fn a_built_in_module_needs_no_file() {
    assert!(Modules::parse(DEP, BUILTIN).load_order(&["ext4"]).unwrap().is_empty());
}

#[test]
fn a_missing_module_is_named() {
    let error = Modules::parse(DEP, BUILTIN).load_order(&["dm_flakey"]).unwrap_err();
    assert!(error.to_string().contains("dm_flakey"));
}
