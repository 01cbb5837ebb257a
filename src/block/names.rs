//! The names of all device-mapper devices of ours.
//!
//! Invariant: a name has at most 24 bytes and a UUID at most 48, far below the kernel's 127 and 128 (`DM_NAME_LEN`,
//! `DM_UUID_LEN`): "lamina-" 7 + 8 digits + "-" 1 + a volume's number, at most 8 digits (24 bits); "LAMINA-" 7 +
//! 32 digits + "-" 1 + 8. Whose a device is, its UUID tells; the name is for people and may collide.

use std::fmt;

use crate::error::{Error, Kind, Result};

/// Makes the names of one pool.
#[derive(Clone, Debug)]
pub struct Names {
    uuid: String,
}

/// The two names of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmName {
    /// For people.
    pub name: String,
    /// For us.
    pub uuid: String,
}

impl Names {
    /// Names for the pool marked with `uuid`.
    ///
    /// # Errors
    /// `Invalid` if it is not 32 lower-case hexadecimal digits.
    pub fn new(uuid: &str) -> Result<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if uuid.len() == 32 && uuid.bytes().all(digit) {
            return Ok(Self { uuid: uuid.to_owned() });
        }
        Err(Error::new(Kind::Invalid, format!("pool UUID '{uuid}' is not 32 lower-case hexadecimal digits")))
    }

    /// The pool's device.
    pub fn pool(&self) -> DmName {
        self.device("pool")
    }

    /// The device of thin device `id`.
    pub fn volume(&self, id: u32) -> DmName {
        self.device(id)
    }

    /// The thin device that `name` belongs to, if it is a name that [`Names::volume`] makes.
    pub fn volume_of(&self, name: &str) -> Option<u32> {
        let digits = name.strip_prefix("lamina-")?.strip_prefix(&self.uuid[..8])?.strip_prefix('-')?;
        let id = digits.parse().ok()?;
        (self.volume(id).name == name).then_some(id)
    }

    fn device(&self, what: impl fmt::Display) -> DmName {
        DmName { name: format!("lamina-{}-{what}", &self.uuid[..8]), uuid: format!("LAMINA-{}-{what}", self.uuid) }
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn names_keep_their_lengths_and_come_back() {
        let names = Names::new("0123456789abcdef0123456789abcdef").unwrap();
        let last = names.volume(0xff_ffff);
        assert_eq!(last.name, "lamina-01234567-16777215");
        assert_eq!((last.name.len(), last.uuid.len()), (24, 48));
        assert_eq!(names.volume_of(&last.name), Some(0xff_ffff));
        for other in ["lamina-01234567-pool", "lamina-01234567-007", "lamina-11234567-7", "lamina-01234567-", "x"] {
            assert_eq!(names.volume_of(other), None, "{other}");
        }
        assert!(Names::new("0123456789ABCDEF0123456789abcdef").is_err());
    }
}
