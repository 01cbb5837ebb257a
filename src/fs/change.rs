//! What a difference between two trees is.

use std::path::PathBuf;

/// What happened to a path between a parent and its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It exists only in the child.
    Added,
    /// It exists in both and differs, or it is a directory with a difference below it.
    Changed,
    /// It exists only in the parent. Nothing below a deleted directory is listed.
    Deleted,
}

/// One difference: a path relative to the root, without a leading slash, in bytes as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub kind: ChangeKind,
}

/// All differences of a child against its parent, in the order of `Path`: names by bytes, a directory before what it
/// holds, and all that before the next name. The order of [`Change`] itself is the same, so `changes.is_sorted()`.
///
/// Exact, with Docker's meaning (`docker diff`; moby pkg/archive/changes.go), but by content where Docker trusts size
/// and mtime:
/// - A path is `Added` or `Deleted` if only one of the trees has it. All below an added directory is listed too;
///   nothing below a deleted one is.
/// - A path that both have is `Changed` if it differs in type, mode (with setuid, setgid, sticky), owner, group or any
///   extended attribute (`security.capability` and ACLs among them; `trusted.overlay.*`, which overlayfs writes for
///   itself, left out); and for all but directories in mtime to the nanosecond; and for its type in the bytes of a
///   file, the target of a symlink, the number of a device.
/// - A directory that both have is also `Changed` if anything below it is listed, so that every listed path is preceded
///   by its parents. The root itself is never listed.
/// - Where a directory became something else, the path is `Changed` and nothing below is listed; where something else
///   became a directory, the path is `Changed` and all below is `Added`.
/// - Not compared: mtime and size of directories (every temporary file would list its directory: moby issue 9874),
///   access and change times, inode numbers, and which names are links to one inode. A further hard link is an `Added`
///   file, and two names of one changed file are both `Changed`.
pub type Changes = Vec<Change>;
