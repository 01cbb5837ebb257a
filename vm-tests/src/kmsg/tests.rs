//! Trouble is found, chatter is not, declared trouble is allowed.

use super::{message, trouble};

#[test]
fn trouble_is_found() {
    for line in [
        "BUG: test",
        "WARNING: CPU: 1 PID: 77 at fs/btrfs/inode.c:1",
        "INFO: task mount:12 blocked for more than 120 seconds.",
        "EXT4-fs error (device dm-3): ext4_lookup:1855: inode #2",
        "BTRFS critical (device loop0): corrupt leaf",
        "BTRFS error (device loop0): bdev /dev/loop0 errs: wr 1",
        "XFS (dm-1): Metadata Corruption detected at xfs_agf",
        "Buffer I/O error on dev dm-4, logical block 0, async page read",
        "device-mapper: thin: 254:2: metadata operation 'dm_pool_commit_metadata' failed: error = -5",
        "device-mapper: thin: 254:2: switching pool to read-only mode",
    ] {
        assert_eq!(trouble(line, &[]), [line]);
    }
}

#[test]
fn chatter_is_not() {
    let log = "EXT4-fs (dm-1): mounted filesystem with ordered data mode\nBTRFS info (device loop0): using crc32c\n\
               device-mapper: uevent: version 1.0.3\nloop0: detected capacity change from 0 to 8";
    assert!(trouble(log, &[]).is_empty());
}

#[test]
fn a_declared_line_is_allowed_and_others_stay() {
    let log = "Buffer I/O error on dev dm-4\nBUG: other\nI/O error on dev dm-5";
    assert_eq!(trouble(log, &["dev dm-4".into()]), ["BUG: other", "I/O error on dev dm-5"]);
}

#[test]
fn a_record_becomes_a_line_with_its_time() {
    assert_eq!(message("12,339,5140900,-;BUG: test; indeed\n SUBSYSTEM=x\n"), "[    5.140900] BUG: test; indeed");
    assert_eq!(message("torn"), "torn");
}
