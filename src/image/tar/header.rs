//! The 512-byte header of a tar member, parsed strictly.

use ::tar::Header;

/// A point in time as the kernel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds past that second, always below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What a member becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file; its data follow.
    File,
    /// One more name for an earlier member.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device with this major and minor number.
    CharDevice(u32, u32),
    /// A block device with this major and minor number.
    BlockDevice(u32, u32),
    /// A directory.
    Directory,
    /// A fifo.
    Fifo,
}

/// A header's type byte, extensions included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    Member(MemberKind),
    GnuSparse,
    LongName,
    LongLink,
    Pax,
    GlobalPax,
}

/// The numbers and names of one header.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) flag: Flag,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: i64,
}

/// Whether the checksum fits; some old programs summed signed bytes.
pub(super) fn checksum_fits(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let stored = number(&bytes[148..156]);
    let plain = bytes[..148].iter().chain(&bytes[156..]);
    let unsigned: i64 = plain.clone().map(|byte| i64::from(*byte)).sum::<i64>() + 8 * 32;
    let signed: i64 = plain.map(|byte| i64::from(byte.cast_signed())).sum::<i64>() + 8 * 32;
    stored.is_some_and(|stored| stored == unsigned || stored == signed)
}

/// Reads a header whose checksum fits; the error says what is wrong with it.
pub(super) fn parse(header: &Header) -> Result<Parsed, String> {
    let old = header.as_old();
    let field = |bytes: &[u8], what: &str| number(bytes).ok_or_else(|| format!("its {what} is not a number"));
    let positive =
        |bytes: &[u8], what: &str| field(bytes, what)?.try_into().map_err(|_| format!("its {what} is negative"));
    let device = |bytes: Option<&[u8]>, what: &str| -> Result<u32, String> {
        u32::try_from(field(bytes.unwrap_or_default(), what)?).map_err(|_| format!("its {what} is out of range"))
    };
    let fields = header.as_ustar().map(|h| (&h.dev_major, &h.dev_minor));
    let fields = fields.or(header.as_gnu().map(|h| (&h.dev_major, &h.dev_minor)));
    let numbers = || -> Result<(u32, u32), String> {
        Ok((
            device(fields.map(|(major, _)| &major[..]), "device major number")?,
            device(fields.map(|(_, minor)| &minor[..]), "device minor number")?,
        ))
    };
    let name = header.path_bytes().into_owned();
    let flag = match header.as_bytes()[156] {
        // Before POSIX, a directory was a file whose name ends with a slash.
        0 if name.ends_with(b"/") => Flag::Member(MemberKind::Directory),
        0 | b'0' | b'7' => Flag::Member(MemberKind::File),
        b'1' => Flag::Member(MemberKind::HardLink),
        b'2' => Flag::Member(MemberKind::Symlink),
        b'3' => numbers().map(|(major, minor)| Flag::Member(MemberKind::CharDevice(major, minor)))?,
        b'4' => numbers().map(|(major, minor)| Flag::Member(MemberKind::BlockDevice(major, minor)))?,
        b'5' => Flag::Member(MemberKind::Directory),
        b'6' => Flag::Member(MemberKind::Fifo),
        b'S' => Flag::GnuSparse,
        b'L' => Flag::LongName,
        b'K' => Flag::LongLink,
        b'x' | b'X' => Flag::Pax,
        b'g' => Flag::GlobalPax,
        other => return Err(format!("its type '{}' is unknown", other.escape_ascii())),
    };
    Ok(Parsed {
        flag,
        name,
        link: header.link_name_bytes().unwrap_or_default().into_owned(),
        size: positive(&old.size, "size")?,
        // Type bits in the mode field repeat the type; only permissions count.
        mode: u32::try_from(field(&old.mode, "mode")? & 0o7777).unwrap_or_default(),
        uid: positive(&old.uid, "owner")?,
        gid: positive(&old.gid, "group")?,
        mtime: field(&old.mtime, "modification time")?,
    })
}

/// A numeric field: octal between blanks, empty for zero, or GNU's base 256 in two's complement.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first().unwrap_or(&0);
    if first & 0x80 != 0 {
        let start = if first & 0x40 != 0 { -1 } else { i128::from(first & 0x3f) };
        let value = field[1..].iter().try_fold(start, |sum: i128, byte| {
            let next = (sum << 8) | i128::from(*byte);
            i64::try_from(next).is_ok().then_some(next)
        })?;
        return i64::try_from(value).ok();
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let digits = &digits[..digits.iter().position(blank).unwrap_or(digits.len())];
    digits.iter().try_fold(0i64, |sum, byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_octal_or_base_256_with_sign() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777 ", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"12x\0", None),
            (b"-1\0", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }
}
