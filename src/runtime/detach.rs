//! The keys that leave a container's terminal: ctrl-p ctrl-q, as Docker's, if the user names no others.

use std::str::FromStr;

use crate::error::{Error, Kind, Result};

/// The most keys of one wish to leave.
const MOST: usize = 16;

/// A sequence of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    bytes: [u8; MOST],
    length: usize,
}

impl Keys {
    fn of(keys: &[u8]) -> Option<Self> {
        let mut bytes = [0; MOST];
        bytes.get_mut(..keys.len())?.copy_from_slice(keys);
        Some(Self { bytes, length: keys.len() })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Default for Keys {
    fn default() -> Self {
        let mut bytes = [0; MOST];
        [bytes[0], bytes[1]] = [CTRL_P, CTRL_Q];
        Self { bytes, length: 2 }
    }
}

/// As Docker has them: with commas between, each one character, or `ctrl-` and one of `a-z@[\]^_`.
impl FromStr for Keys {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid =
            |what: String| Error::new(Kind::Invalid, format!("detach keys '{}': {what}", text.escape_debug()));
        if text.is_empty() {
            return Ok(Self::default());
        }
        let key = |name: &str| match (name.strip_prefix("ctrl-").map(str::as_bytes), name.as_bytes()) {
            (Some([letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]), _) => Ok(letter & 0x1f),
            (None, [key]) => Ok(*key),
            _ => Err(invalid(format!(
                "'{}' is neither one character nor ctrl- and one of a-z@[\\]^_",
                name.escape_debug()
            ))),
        };
        let keys = text.split(',').map(key).collect::<Result<Vec<u8>>>()?;
        Self::of(&keys).ok_or_else(|| invalid(format!("they are {} and may be {MOST}", keys.len())))
    }
}

/// What waits whether the next key makes it a wish to leave.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    keys: Keys,
    held: Vec<u8>,
}

/// What becomes of what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// It goes to the container.
    On(Vec<u8>),
    /// This goes to the container, then the user leaves.
    Leave(Vec<u8>),
}

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

impl DetachKeys {
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys, held: Vec::new() }
    }

    pub(super) fn typed(&mut self, bytes: &[u8]) -> Typed {
        let mut on = Vec::with_capacity(bytes.len() + self.held.len());
        for byte in bytes {
            self.held.push(*byte);
            while !self.keys.bytes().starts_with(&self.held) {
                on.push(self.held.remove(0));
            }
            if self.held == self.keys.bytes() {
                self.held.clear();
                return Typed::Leave(on);
            }
        }
        Typed::On(on)
    }
}

#[cfg(test)]
mod tests {
    use super::{DetachKeys, Keys, Typed};

    #[test]
    fn only_all_keys_leave_and_nothing_typed_is_lost() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.typed(b"ls\x10"), Typed::On(b"ls".to_vec()));
        assert_eq!(keys.typed(b"x\x11"), Typed::On(b"\x10x\x11".to_vec()));
        assert_eq!(keys.typed(b"\x10\x10"), Typed::On(b"\x10".to_vec()));
        assert_eq!(keys.typed(b"\x11rest"), Typed::Leave(Vec::new()));
        assert_eq!(keys.typed(b"a\x10\x11b"), Typed::Leave(b"a".to_vec()));
    }

    #[test]
    fn other_keys_are_read_as_docker_reads_them() {
        let mut keys = DetachKeys::new("a,a,ctrl-e".parse().unwrap());
        assert_eq!(keys.typed(b"\x10\x11aa"), Typed::On(b"\x10\x11".to_vec()));
        assert_eq!(keys.typed(b"a"), Typed::On(b"a".to_vec()));
        assert_eq!(keys.typed(b"\x05"), Typed::Leave(Vec::new()));
        assert_eq!("ctrl-@,ctrl-\\".parse::<Keys>().unwrap(), Keys::of(&[0, 0x1c]).unwrap());
        assert_eq!("".parse::<Keys>().unwrap(), Keys::default());
        for bad in ["ctrl-A", "ab", "a,", "ctrl-", "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a"] {
            assert!(bad.parse::<Keys>().is_err(), "{bad}");
        }
    }
}
