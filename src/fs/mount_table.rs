//! The kernel's list of mounts, `/proc/self/mountinfo` (proc_pid_mountinfo(5)), parsed once.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use crate::error::{Act as _, Error, Kind, Result};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Device number of the file system, major and minor.
    pub device: (u32, u32),
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Type of the file system.
    pub fstype: String,
    /// The mounted device or name.
    pub source: PathBuf,
}

/// All mounts of this process's namespace, in mount order.
///
/// # Errors
/// When /proc is not there or a line has another form than the kernel documents.
pub fn mount_table() -> Result<Vec<MountEntry>> {
    parse_table(&fs::read("/proc/self/mountinfo").act(|| "read /proc/self/mountinfo")?)
}

/// The mounts that a `mountinfo` tells of, in mount order.
pub(super) fn parse_table(table: &[u8]) -> Result<Vec<MountEntry>> {
    table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
}

/// On which file system of the `table` the directory `path` lies, and where in it: what a bind mount of it shows as
/// device and root. Of the mounts at or above it that is the deepest, and of several at one place the last.
pub fn home(table: &[MountEntry], path: &Path) -> Option<((u32, u32), PathBuf)> {
    let above = table.iter().filter(|mount| path.starts_with(&mount.target));
    let mount = above.max_by_key(|mount| mount.target.as_os_str().len())?;
    let rest = path.strip_prefix(&mount.target).unwrap_or(path);
    // Joining nothing would add a slash.
    Some((mount.device, if rest == Path::new("") { mount.root.clone() } else { mount.root.join(rest) }))
}

/// The mounts at or below `directory`, deepest last mounted first, so that unmounting in this order works.
///
/// # Errors
/// As [`mount_table`].
pub fn mounts_below(directory: &Path) -> Result<Vec<MountEntry>> {
    let mut found = mount_table()?;
    found.retain(|mount| mount.target.starts_with(directory));
    found.reverse();
    Ok(found)
}

fn parse(line: &[u8]) -> Result<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let entry = || -> Option<MountEntry> {
        let separator = fields.iter().position(|field| *field == b"-")?;
        let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
        Some(MountEntry {
            device: (major.parse().ok()?, minor.parse().ok()?),
            root: unescape(fields.get(3)?),
            target: unescape(fields.get(4)?),
            fstype: String::from_utf8_lossy(fields.get(separator + 1)?).into_owned(),
            source: unescape(fields.get(separator + 2)?),
        })
    };
    entry().ok_or_else(|| {
        Error::new(Kind::Corrupt, format!("/proc/self/mountinfo has the line '{}'", String::from_utf8_lossy(line)))
    })
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some([a, b, c]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &tail[3..];
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::path::Path;

    #[test]
    fn a_line_with_optional_fields_and_escapes_parses() {
        let line =
            br"36 35 98:0 /mnt1 /mnt/a\040b\134 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let entry = parse(line).unwrap();
        assert_eq!(entry.device, (98, 0));
        assert_eq!(entry.root, Path::new("/mnt1"));
        assert_eq!(entry.target, Path::new(r"/mnt/a b\"));
        assert_eq!(entry.fstype, "ext3");
        assert_eq!(entry.source, Path::new("/dev/root"));
    }

    #[test]
    fn a_short_line_is_an_error() {
        assert!(parse(b"36 35 98:0 /mnt1").is_err());
    }
}
