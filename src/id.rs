//! Names of things: digests and the identities made of them, container and cache IDs, volume numbers.
//!
//! Invariant: a value of these types is well formed; text is checked once, where it enters.

use std::{
    fmt,
    io::{self, Write},
    str::{self, FromStr},
};

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Kind, Result},
    units::Bytes,
};

/// A sha256 digest, printed as the OCI image-spec does: `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest that `hasher` has arrived at.
    pub fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The first bytes.
    pub(crate) fn beginning(&self) -> [u8; 8] {
        let mut beginning = [0; 8];
        beginning.copy_from_slice(&self.0[..8]);
        beginning
    }

    /// The first 12 hexadecimal digits, as Docker shortens IDs for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

/// A writer that passes on what it gets, and knows the digest and the number of these bytes in the end.
#[derive(Debug)]
pub struct Hashing<W> {
    out: W,
    hasher: Sha256,
    length: u64,
}

impl<W: Write> Hashing<W> {
    /// Passes on to `out`.
    pub fn new(out: W) -> Self {
        Self { out, hasher: Sha256::new(), length: 0 }
    }

    /// What was written to, and what that was.
    pub fn finish(self) -> (W, Digest, Bytes) {
        (self.out, Digest::finish(self.hasher), Bytes(self.length))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix("sha256:").and_then(unhex).map(Self).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("digest '{text}' is not 'sha256:' and 64 lower-case hexadecimal digits"))
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                text.parse().map(Self)
            }
        }
    };
}

digest_id! {
    /// A layer's identity: the sha256 of its uncompressed tar (OCI image-spec, "Layer DiffID").
    DiffId
}

digest_id! {
    /// Identity of a stack of layers (OCI image-spec, "Layer ChainID").
    ChainId
}

digest_id! {
    /// An image's identity: the sha256 of its configuration's bytes.
    ImageId
}

impl ChainId {
    /// The identity of `diff` on top of `parent`: the diff ID itself for the lowest layer, else the sha256 of
    /// `<parent> <diff>`.
    pub fn stack(parent: Option<ChainId>, diff: DiffId) -> Self {
        Self(match parent {
            None => diff.0,
            Some(parent) => Digest::of(format!("{parent} {diff}").as_bytes()),
        })
    }

    /// The identities of all stacks from the lowest layer up to each of `diffs`.
    pub fn chain(diffs: &[DiffId]) -> Vec<Self> {
        let mut parent = None;
        diffs.iter().map(|diff| *parent.insert(Self::stack(parent, *diff))).collect()
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new one from the system's random numbers.
            pub fn random() -> Self {
                let mut bytes = [0u8; 32];
                rand::rng().fill(&mut bytes);
                Self(hex(&bytes))
            }

            /// All 64 hexadecimal digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, for people.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match unhex(text) {
                    Some(_) => Ok(Self(text.to_owned())),
                    None => Err(Error::new(Kind::Invalid, format!("'{text}' is not 64 lower-case hexadecimal digits"))),
                }
            }
        }
    };
}

random_id! {
    /// A container's identity.
    ContainerId
}

random_id! {
    /// The random name under which a snapshot lies in the pool; never derived from its content.
    CacheId
}

/// A volume's number in its pool. 24 bits, because that is what a thin-pool's device ID has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeId(u32);

impl VolumeId {
    /// The largest number: dm-thin refuses device IDs above it (`MAX_DEV_ID`, drivers/md/dm-thin.c).
    pub const MAX: Self = Self((1 << 24) - 1);

    /// Volume `number`.
    ///
    /// # Errors
    /// `Invalid` above [`VolumeId::MAX`].
    pub fn new(number: u64) -> Result<Self> {
        match u32::try_from(number) {
            Ok(number) if number <= Self::MAX.0 => Ok(Self(number)),
            _ => Err(Error::new(
                Kind::Invalid,
                format!("volume number {number} is above {}, the last that a thin-pool can address", Self::MAX.0),
            )),
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VolumeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.parse().map_err(|_| Error::new(Kind::Invalid, format!("'{text}' is not a volume number")))?;
        Self::new(number)
    }
}

#[cfg(test)]
mod tests {
    use super::{CacheId, ChainId, DiffId, Digest, VolumeId};

    #[test]
    fn chain_ids_follow_the_image_spec() {
        let diffs: Vec<DiffId> = [b"a", b"b", b"c"].iter().map(|text| DiffId(Digest::of(*text))).collect();
        let chain = ChainId::chain(&diffs);
        assert_eq!(chain[0].0, diffs[0].0);
        let second = Digest::of(format!("{} {}", diffs[0], diffs[1]).as_bytes());
        assert_eq!(chain[1].0, second);
        assert_eq!(chain[2].0, Digest::of(format!("{second} {}", diffs[2]).as_bytes()));
    }

    #[test]
    fn digests_are_checked_where_they_enter() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        for bad in ["", "sha256:", "sha512:00", &empty[..70], &empty.to_uppercase(), "sha256:../../etc/passwd"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn volume_numbers_fit_a_thin_pool() {
        assert!(VolumeId::new(0xff_ffff).is_ok());
        assert!(VolumeId::new(0x100_0000).is_err());
    }

    #[test]
    fn random_ids_parse_and_differ() {
        let id = CacheId::random();
        assert_eq!(id.as_str().parse::<CacheId>().unwrap(), id);
        assert_ne!(id, CacheId::random());
    }
}
