//! The keys that leave a container's terminal: ctrl-p ctrl-q, as Docker's.

/// What waits whether the next key makes it a wish to leave.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    held: bool,
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
    pub(super) fn typed(&mut self, bytes: &[u8]) -> Typed {
        let mut on = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            match (std::mem::take(&mut self.held), *byte) {
                (true, CTRL_Q) => return Typed::Leave(on),
                (held, CTRL_P) => {
                    on.extend(held.then_some(CTRL_P));
                    self.held = true;
                }
                (held, byte) => {
                    on.extend(held.then_some(CTRL_P));
                    on.push(byte);
                }
            }
        }
        Typed::On(on)
    }
}

#[cfg(test)]
mod tests {
    use super::{DetachKeys, Typed};

    #[test]
    fn only_both_keys_leave_and_nothing_typed_is_lost() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.typed(b"ls\x10"), Typed::On(b"ls".to_vec()));
        assert_eq!(keys.typed(b"x\x11"), Typed::On(b"\x10x\x11".to_vec()));
        assert_eq!(keys.typed(b"\x10\x10"), Typed::On(b"\x10".to_vec()));
        assert_eq!(keys.typed(b"\x11rest"), Typed::Leave(Vec::new()));
        assert_eq!(keys.typed(b"a\x10\x11b"), Typed::Leave(b"a".to_vec()));
    }
}
