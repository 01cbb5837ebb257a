//! What `--chmod` asks for: a mode in octal, or letters as in chmod(1).

use crate::error::{Error, Kind, Result};

const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXECUTE: u32 = 0o111;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// New permissions, which may depend on the old ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permissions {
    Octal(u32),
    Letters(Vec<Change>),
}

/// One operator with what stands on both sides of it, as `go=rX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The bits of those who are meant.
    who: u32,
    operator: char,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Bits for everybody, and whether `X` is among the letters.
    Bits(u32, bool),
    /// What the user (6), the group (3) or the others (0) have; the number is where their bits begin.
    SameAs(u32),
}

impl Permissions {
    /// Reads the value of the flag.
    ///
    /// # Errors
    /// `Invalid`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let invalid = || {
            let what = "it is neither an octal mode up to 7777 nor letters as in 'u=rwX,go=rX'";
            Error::new(Kind::Invalid, format!("--chmod={}: {what}", text.escape_debug()))
        };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(invalid);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            changes.extend(clause_changes(clause).ok_or_else(invalid)?);
        }
        Ok(Self::Letters(changes))
    }

    /// What a file or directory with this mode gets.
    pub(super) fn of(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Letters(changes) => changes.iter().fold(mode & 0o7777, |mode, change| change.apply(mode, is_dir)),
        }
    }
}

/// The changes of `ugoa` letters, each operator with what follows it; nobody named is everybody, as with a umask of 0.
fn clause_changes(clause: &str) -> Option<Vec<Change>> {
    let start = clause.find(['+', '-', '='])?;
    let mut who = if start == 0 { 0o7777 } else { 0 };
    for letter in clause[..start].chars() {
        who |= match letter {
            'u' => 0o700 | SETUID,
            'g' => 0o070 | SETGID,
            'o' => 0o007 | STICKY,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let mut changes = Vec::new();
    let mut rest = &clause[start..];
    while let Some(operator) = rest.chars().next() {
        let letters = &rest[1..];
        let end = letters.find(['+', '-', '=']).unwrap_or(letters.len());
        changes.push(Change { who, operator, what: what(&letters[..end])? });
        rest = &letters[end..];
    }
    Some(changes)
}

fn what(letters: &str) -> Option<What> {
    match letters {
        "u" => return Some(What::SameAs(6)),
        "g" => return Some(What::SameAs(3)),
        "o" => return Some(What::SameAs(0)),
        _ => {}
    }
    let (mut bits, mut conditional) = (0, false);
    for letter in letters.chars() {
        match letter {
            'r' => bits |= READ,
            'w' => bits |= WRITE,
            'x' => bits |= EXECUTE,
            's' => bits |= SETUID | SETGID,
            't' => bits |= STICKY,
            'X' => conditional = true,
            _ => return None,
        }
    }
    Some(What::Bits(bits, conditional))
}

impl Change {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let bits = match self.what {
            What::Bits(bits, conditional) if conditional && (is_dir || mode & EXECUTE != 0) => bits | EXECUTE,
            What::Bits(bits, _) => bits,
            // Once for each of the three.
            What::SameAs(shift) => (mode >> shift & 7) * 0o111,
        };
        match self.operator {
            '+' => mode | bits & self.who,
            '-' => mode & !(bits & self.who),
            _ => mode & !self.who | bits & self.who,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Permissions;

    #[test]
    fn letters_change_what_chmod_changes() {
        for (text, before, file, dir) in [
            ("755", 0o600, 0o755, 0o755),
            ("04711", 0o600, 0o4711, 0o4711),
            ("u=rwX,go=rX", 0o600, 0o644, 0o755),
            ("u=rwX,go=rX", 0o700, 0o755, 0o755),
            ("+x", 0o644, 0o755, 0o755),
            ("a-w", 0o666, 0o444, 0o444),
            ("g=u", 0o640, 0o660, 0o660),
            ("go=", 0o777, 0o700, 0o700),
            ("o+u,u-x", 0o750, 0o657, 0o657),
            ("u+s,g+s", 0o755, 0o6755, 0o6755),
            ("+t", 0o777, 0o1777, 0o1777),
            ("u=rx", 0o4755, 0o555, 0o555),
            ("ug+w-x", 0o555, 0o665, 0o665),
            ("a=r,u+w", 0o777, 0o644, 0o644),
        ] {
            let asked = Permissions::parse(text).unwrap();
            assert_eq!((asked.of(before, false), asked.of(before, true)), (file, dir), "{text} of {before:o}");
        }
        for text in ["", "99", "17777", "0x1", "rwx", "u", "u=rwz", "b+x", "u=rw,", "+x,,", "u+gr", "755,u+x"] {
            let error = Permissions::parse(text).unwrap_err().to_string();
            assert!(error.contains("neither an octal mode up to 7777 nor letters"), "{text}: {error}");
        }
    }

    #[test]
    fn letters_mean_what_they_mean_to_chmod_itself() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (file, dir) = (directory.path().join("file"), directory.path().join("dir"));
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&dir).unwrap();
        for text in ["u=rwX,go=rX", "a+x,g-r", "g=u,o=g", "u+s", "ugo-w+X", "o=u-x", "a=", "go+rwX,u+t"] {
            for mode in [0o600, 0o751, 0o444] {
                for (path, is_dir) in [(&file, false), (&dir, true)] {
                    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
                    let done = std::process::Command::new("chmod").arg(text).arg(path).status().unwrap();
                    assert!(done.success());
                    let found = std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
                    assert_eq!(
                        Permissions::parse(text).unwrap().of(mode, is_dir),
                        found,
                        "{text} of {mode:o} {path:?}"
                    );
                }
            }
        }
    }
}
