//! One member's header blocks: ustar, with a PAX extended header for what does not fit.

use ::tar::{EntryType, Header};
use rustix::fs::{FileType, Stat, major, minor};

use crate::{
    error::{Error, Kind, Result},
    image::tar::Time,
};

/// What a header says.
#[derive(Debug)]
pub(crate) struct Entry {
    name: Vec<u8>,
    kind: EntryType,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: Time,
    device: Option<(u32, u32)>,
    pub(crate) link: Vec<u8>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The largest value of an octal field of 7 and of 11 digits.
const OCTAL7: u64 = 0o777_7777;
const OCTAL11: u64 = 0o777_7777_7777;

/// Filler after `size` bytes of data.
pub(crate) fn padding(size: u64) -> usize {
    usize::try_from((512 - size % 512) % 512).unwrap_or_default()
}

impl Entry {
    pub(crate) fn new(mut name: Vec<u8>, stat: &Stat, file: FileType) -> Result<Self> {
        let kind = match file {
            FileType::RegularFile => EntryType::Regular,
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            other => return Err(Error::new(Kind::Invalid, format!("a layer cannot hold a file of type {other:?}"))),
        };
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        let regular = kind == EntryType::Regular;
        let device = matches!(kind, EntryType::Char | EntryType::Block);
        Ok(Self {
            name,
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            size: if regular { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 },
            mtime: Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() },
            device: device.then(|| (major(stat.st_rdev), minor(stat.st_rdev))),
            link: Vec::new(),
            xattrs: Vec::new(),
        })
    }

    /// The mark of something deleted.
    pub(super) fn whiteout(name: Vec<u8>) -> Self {
        Self::made(name, EntryType::Regular, 0o600, 0)
    }

    /// A directory of root's that no tree has yet.
    pub(crate) fn directory(mut name: Vec<u8>, mode: u32, seconds: i64) -> Self {
        name.push(b'/');
        Self::made(name, EntryType::Directory, mode, seconds)
    }

    /// A regular file of root's that no tree has yet, of `size` bytes.
    pub(crate) fn file(name: Vec<u8>, mode: u32, seconds: i64, size: u64) -> Self {
        Self { size, ..Self::made(name, EntryType::Regular, mode, seconds) }
    }

    fn made(name: Vec<u8>, kind: EntryType, mode: u32, seconds: i64) -> Self {
        let mtime = Time { seconds, nanoseconds: 0 };
        Self { name, kind, mode, owner: (0, 0), size: 0, mtime, device: None, link: Vec::new(), xattrs: Vec::new() }
    }

    /// Gives it other owners.
    pub(crate) fn set_owner(&mut self, owner: (u32, u32)) {
        self.owner = owner;
    }

    /// Gives it other permissions.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        self.mode = mode & 0o7777;
    }

    /// Makes it one more name for an earlier member.
    pub(crate) fn link_to(&mut self, first: Vec<u8>) {
        (self.kind, self.link, self.size, self.device) = (EntryType::Link, first, 0, None);
    }

    /// The blocks before the data.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let records = self.records();
        let mut bytes = Vec::with_capacity(1024);
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            header.as_old_mut().name[..12].copy_from_slice(b"PaxHeaders.0");
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(records.len() as u64);
            header.set_entry_type(EntryType::XHeader);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len() + padding(records.len() as u64), 0);
        }
        bytes.extend_from_slice(self.header().as_bytes());
        bytes
    }

    fn header(&self) -> Header {
        let fitting = |value: u64, most: u64| if value <= most { value } else { 0 };
        let mut header = Header::new_ustar();
        put(&mut header.as_old_mut().name, &self.name);
        put(&mut header.as_old_mut().linkname, &self.link);
        header.set_mode(self.mode);
        header.set_uid(fitting(self.owner.0.into(), OCTAL7));
        header.set_gid(fitting(self.owner.1.into(), OCTAL7));
        header.set_size(fitting(self.size, OCTAL11));
        header.set_mtime(u64::try_from(self.mtime.seconds).map_or(0, |seconds| fitting(seconds, OCTAL11)));
        header.set_entry_type(self.kind);
        if let (Some((major, minor)), Some(ustar)) = (self.device, header.as_ustar_mut()) {
            // Both fit: the kernel's device numbers have 12 and 20 bits (include/linux/kdev_t.h).
            ustar.set_device_major(major);
            ustar.set_device_minor(minor);
        }
        header.set_cksum();
        header
    }

    /// The PAX records for what the header cannot hold.
    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| record(&mut records, key, value);
        if self.name.len() > 100 {
            add(b"path", &self.name);
        }
        if self.link.len() > 100 {
            add(b"linkpath", &self.link);
        }
        if u64::from(self.owner.0) > OCTAL7 {
            add(b"uid", self.owner.0.to_string().as_bytes());
        }
        if u64::from(self.owner.1) > OCTAL7 {
            add(b"gid", self.owner.1.to_string().as_bytes());
        }
        if self.size > OCTAL11 {
            add(b"size", self.size.to_string().as_bytes());
        }
        let plain = u64::try_from(self.mtime.seconds).is_ok_and(|seconds| seconds <= OCTAL11);
        if !plain || self.mtime.nanoseconds != 0 {
            add(b"mtime", decimal(self.mtime).as_bytes());
        }
        for (name, value) in &self.xattrs {
            add(&[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        records
    }
}

fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Seconds with their fraction; before 1970 the fraction counts away from zero.
fn decimal(time: Time) -> String {
    let text = match time {
        Time { seconds, nanoseconds: 0 } => return seconds.to_string(),
        Time { seconds, nanoseconds } if seconds < 0 => {
            format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
        }
        Time { seconds, nanoseconds } => format!("{seconds}.{nanoseconds:09}"),
    };
    text.trim_end_matches('0').to_owned()
}

/// Adds `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() > length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
