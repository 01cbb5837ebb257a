//! PAX extended headers (POSIX pax, "pax Extended Header"): records `LENGTH KEY=VALUE\n`, the value in any bytes.

use super::{header::Time, sparse::Segment};

/// What the extended header of one member says; `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) atime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// GNU tar's sparse files in PAX archives, formats 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) map: Vec<Segment>,
    offset: Option<u64>,
    mapped: bool,
}

impl PaxSparse {
    /// Whether the map is in the header itself (0.0 and 0.1).
    pub(super) fn in_header(&self) -> bool {
        self.mapped
    }

    /// Whether the map stands before the data (1.0).
    pub(super) fn in_data(&self) -> bool {
        self.major == Some(1)
    }
}

/// Reads all records.
pub(super) fn parse(mut data: &[u8]) -> Result<Pax, String> {
    let mut pax = Pax::default();
    // Some writers pad with zeros inside the declared size.
    while !data.is_empty() && data[0] != 0 {
        let (record, rest) = split_record(data).ok_or("its PAX header has a malformed record")?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or("its PAX header has a record without '='")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        take(&mut pax, key, value)
            .ok_or_else(|| format!("its PAX record {} cannot be {}", super::super::shown(key), excerpt(value)))?;
        data = rest;
    }
    Ok(pax)
}

fn excerpt(value: &[u8]) -> String {
    super::super::shown(&value[..value.len().min(64)])
}

/// Cuts off the first record, without its length and newline.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    Some((&data[space + 1..length - 1], &data[length..]))
}

fn take(pax: &mut Pax, key: &[u8], value: &[u8]) -> Option<()> {
    match key {
        b"path" => pax.path = Some(value.to_vec()),
        b"linkpath" => pax.link = Some(value.to_vec()),
        // Sizes are signed in Go's archive/tar, and offsets behind them must not overflow here.
        b"size" => pax.size = Some(decimal(value).filter(|size| i64::try_from(*size).is_ok())?),
        b"uid" => pax.uid = Some(decimal(value)?),
        b"gid" => pax.gid = Some(decimal(value)?),
        b"mtime" => pax.mtime = Some(time(value)?),
        b"atime" => pax.atime = Some(time(value)?),
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                if name.is_empty() || name.contains(&0) {
                    return None;
                }
                pax.xattrs.push((name.to_vec(), value.to_vec()));
            } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                take_sparse(&mut pax.sparse, name, value)?;
            }
        }
    }
    Some(())
}

fn take_sparse(sparse: &mut PaxSparse, key: &[u8], value: &[u8]) -> Option<()> {
    match key {
        b"major" => sparse.major = Some(decimal(value)?),
        b"name" => sparse.name = Some(value.to_vec()),
        b"realsize" | b"size" => sparse.real_size = Some(decimal(value)?),
        b"numblocks" => sparse.mapped = true,
        b"offset" => sparse.offset = Some(decimal(value)?),
        b"numbytes" => sparse.map.push(Segment { offset: sparse.offset.take()?, length: decimal(value)? }),
        b"map" => {
            sparse.mapped = true;
            let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
            let numbers = numbers?;
            if numbers.len() % 2 != 0 {
                return None;
            }
            sparse.map = numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect();
        }
        _ => {}
    }
    Some(())
}

/// An unsigned decimal number.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds since 1970 with a sign and any number of decimals, cut to nanoseconds towards the past.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let seconds = i64::try_from(decimal(&digits[..point])?).ok()?;
    let fraction = digits.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds =
        (0..9).fold(0, |sum: u32, place| sum * 10 + fraction.get(place).map_or(0, |d| u32::from(d - b'0')));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::{Time, parse, time};

    #[test]
    fn values_may_hold_newlines_and_any_byte() {
        let data = b"32 SCHILY.xattr.user.a=\n1 b=c\n\xff\n30 SCHILY.xattr.user.b=abcdef\n";
        let pax = parse(data).unwrap();
        assert_eq!(pax.xattrs[0], (b"user.a".to_vec(), b"\n1 b=c\n\xff".to_vec()));
        assert_eq!(pax.xattrs[1], (b"user.b".to_vec(), b"abcdef".to_vec()));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [&b"x"[..], b"5 a=b\n", b"99 a=b\n", b"5 ab\n", b"12 size=-1\n\n", b"10 size=x\n", b"0 a=b\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_have_signs_and_fractions() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1700000000.123456789999", 1_700_000_000, 123_456_789),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time { seconds, nanoseconds }), "{text}");
        }
        for bad in ["", "-", "1.x", "a", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }
}
