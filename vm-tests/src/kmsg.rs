//! Which lines of a kernel log mean trouble.
//!
//! Pure text: the guest reads the log, this decides. A case that provokes an error on purpose declares the line.

/// A line is trouble if it contains all parts of one entry, in any order.
const TROUBLE: &[&[&str]] = &[
    &["BUG:"],
    &["kernel BUG at"],
    &["WARNING:"],
    &["Oops"],
    &["general protection fault"],
    &["Kernel panic"],
    &["INFO: task ", "blocked for more than"],
    &["soft lockup"],
    &["rcu", "self-detected stall"],
    &["rcu", "detected stalls"],
    &["INFO: possible recursive locking"],
    &["possible circular locking dependency"],
    &["refcount_t:"],
    &["UBSAN:"],
    &["Out of memory: Killed process"],
    &["EXT4-fs error"],
    &["EXT4-fs (", "failed"],
    &["JBD2:", "rror"],
    &["Aborting journal"],
    &["BTRFS error"],
    &["BTRFS critical"],
    &["BTRFS: error"],
    &["XFS", "Corruption"],
    &["XFS", "I/O Error Detected"],
    &["XFS", "metadata I/O error"],
    &["I/O error"],
    &["lost async page write"],
    &["device-mapper:", "rror"],
    &["device-mapper:", "failed"],
    &["device-mapper:", "needs_check"],
    &["switching pool to"],
    &["kernel log overran"],
];

/// The lines that mean trouble and that no entry of `expected` allows, in their order.
pub(crate) fn trouble<'log>(log: &'log str, expected: &[String]) -> Vec<&'log str> {
    log.lines()
        .filter(|line| TROUBLE.iter().any(|parts| parts.iter().all(|part| line.contains(part))))
        .filter(|line| !expected.iter().any(|allowed| line.contains(allowed.as_str())))
        .collect()
}

/// The message of one `/dev/kmsg` record, with its time: `priority,sequence,microseconds,flags;message`, followed by
/// lines of metadata that start with a space.
pub(crate) fn message(record: &str) -> String {
    let first = record.lines().next().unwrap_or_default();
    let Some((prefix, text)) = first.split_once(';') else {
        return first.to_owned();
    };
    let micros: u64 = prefix.split(',').nth(2).and_then(|field| field.parse().ok()).unwrap_or_default();
    format!("[{:5}.{:06}] {text}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests;
