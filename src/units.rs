//! Sizes that do not mix: bytes for people and files, 512-byte sectors for device-mapper tables.
//!
//! Parsing takes powers of 1024 (`64K`, `100G`, `1MiB`), as LVM and Docker's size options do; printing for people
//! uses Docker's form (base 1000, three digits) in [`Bytes::docker`] and powers of 1024 in `Display`.

use std::{
    fmt, iter,
    ops::{Add, AddAssign, Sub},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A number of 512-byte sectors, the unit of device-mapper tables whatever the device's block size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sectors(pub u64);

impl Bytes {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// Whole sectors in it, rounded down.
    pub const fn sectors(self) -> Sectors {
        Sectors(self.0 / 512)
    }

    /// The difference, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Rounded up to a multiple of `unit`.
    #[must_use]
    pub const fn round_up(self, unit: Self) -> Self {
        Self(self.0.next_multiple_of(unit.0))
    }

    /// As Docker prints sizes: base 1000, three significant digits, no space (`4.1kB`, `103MB`, `0B`).
    /// Follows `HumanSizeWithPrecision(size, 3)` of go-units, whose `%.3g` drops trailing zeros.
    pub fn docker(self) -> String {
        const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
        #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
        let mut size = self.0 as f64;
        let mut unit = 0;
        while size >= 1000.0 && unit + 1 < UNITS.len() {
            size /= 1000.0;
            unit += 1;
        }
        format!("{}{}", three_digits(size), UNITS[unit])
    }
}

/// `%.3g` for 0 <= value < 1000, where rounding up to 1000 prints `1e+03` in C and Go alike.
fn three_digits(value: f64) -> String {
    if value >= 999.5 {
        return "1e+03".to_owned();
    }
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Sectors {
    /// The same size in bytes.
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 * 512)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
        for (name, shift) in UNITS {
            let unit = 1u64 << shift;
            if self.0 >= unit || shift == 0 {
                let tenths = (u128::from(self.0) * 10 / u128::from(unit)) % 10;
                return match tenths {
                    0 => write!(f, "{} {name}", self.0 / unit),
                    _ => write!(f, "{}.{tenths} {name}", self.0 / unit),
                };
            }
        }
        Ok(())
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sectors", self.0)
    }
}

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(
                Kind::Invalid,
                format!("size '{text}' is not a number with a unit; write for example 64K, 10G or 1T"),
            )
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = unit.to_ascii_lowercase();
        let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
        let shift = match unit {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            "p" => 50,
            _ => return Err(bad()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

/// Ends at the largest number: apparent sizes of sparse files, which anybody can make, add up to more.
impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn docker_sizes_are_those_that_docker_printed() {
        for (bytes, text) in [
            (0, "0B"),
            (5, "5B"),
            (112, "112B"),
            (999, "999B"),
            (4_096, "4.1kB"),
            (4_000, "4kB"),
            (164_048_057, "164MB"),
            (103_000_000, "103MB"),
            (1_000_000, "1MB"),
            (35_580, "35.6kB"),
            (999_999, "1e+03kB"),
        ] {
            assert_eq!(Bytes(bytes).docker(), text);
        }
    }

    #[test]
    fn sizes_parse_in_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("64K", 65_536), ("64k", 65_536), ("1MiB", 1 << 20), ("10GB", 10 << 30), ("7", 7)]
        {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1.5G", "12x", "99999999999999999999", "20000000T", "1 G"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn display_uses_the_largest_unit() {
        assert_eq!(Bytes(65_536).to_string(), "64 KiB");
        assert_eq!(Bytes(1_610_612_736).to_string(), "1.5 GiB");
        assert_eq!(Bytes(12).to_string(), "12 B");
    }
}
