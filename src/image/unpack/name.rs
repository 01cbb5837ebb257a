//! Names in layer archives: checked, split, whiteouts recognised.
//!
//! Invariant: a name that passed has no component `..`, no NUL, does not start with a slash, and fits a path of the
//! kernel.

use crate::{
    error::{Error, Kind, Result},
    image::shown,
};

/// The kernel's PATH_MAX counts the terminating zero.
const LONGEST: usize = 4095;

const WHITEOUT: &[u8] = b".wh.";

/// What a member's name asks for. Paths are relative to the root with single slashes; the root is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The root directory itself.
    Root,
    /// Something to be made.
    Entry { parent: Vec<u8>, name: Vec<u8> },
    /// Something of an earlier layer to be removed.
    Whiteout { parent: Vec<u8>, name: Vec<u8> },
    /// A directory whose content of earlier layers is removed.
    Opaque { directory: Vec<u8> },
}

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::Invalid, reason))
}

impl Name {
    pub(super) fn parse(stored: &[u8]) -> Result<Self> {
        let (parent, name) = match split(stored, "name")? {
            None => return Ok(Self::Root),
            Some(split) => split,
        };
        let reserved = |component: &[u8]| component.starts_with(WHITEOUT);
        if parent.split(|byte| *byte == b'/').any(reserved) {
            return refuse("its name lies below '.wh.', which is reserved for whiteouts");
        }
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Self::Entry { parent, name: name.to_vec() }),
            Some(b".wh..opq") => Ok(Self::Opaque { directory: parent }),
            Some(b"") => refuse("a whiteout of nothing"),
            Some(b"." | b"..") => refuse("a whiteout of '.' or '..'"),
            Some(hidden) if reserved(hidden) => refuse("a whiteout of a name that starts with '.wh.'"),
            Some(hidden) => Ok(Self::Whiteout { parent, name: hidden.to_vec() }),
        }
    }

    /// The same of an archive that is no layer, in which no name means more than itself.
    pub(super) fn plain(stored: &[u8]) -> Result<Self> {
        Ok(match split(stored, "name")? {
            None => Self::Root,
            Some((parent, name)) => Self::Entry { parent, name: name.to_vec() },
        })
    }

    /// The same of an archive for `ADD`: also a name that begins with a slash or goes up and down again lies below the
    /// root, but what no layer can hold is refused.
    pub(super) fn added(stored: &[u8]) -> Result<Self> {
        let clean = cleaned(stored)?;
        if clean.split(|byte| *byte == b'/').any(|component| component.starts_with(WHITEOUT)) {
            return refuse("in a layer, a name that begins with '.wh.' removes another");
        }
        if clean.is_empty() { Ok(Self::Root) } else { Self::plain(&clean) }
    }

    /// The target of a hard link of such an archive.
    pub(super) fn added_link_target(stored: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
        let clean =
            cleaned(stored).map_err(|error| Error::new(error.kind(), format!("{error} ({})", shown(stored))))?;
        Self::link_target(if clean.is_empty() { b"." } else { &clean })
    }

    /// The target of a hard link as parent and name.
    pub(super) fn link_target(stored: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
        match split(stored, "hard link's target")
            .map_err(|error| Error::new(error.kind(), format!("{error} ({})", shown(stored))))?
        {
            None => refuse("its hard link's target is the root directory"),
            Some((parent, name)) => Ok((parent, name.to_vec())),
        }
    }
}

/// A name below the root, as Go's `path.Clean` leaves it; one that leads out is refused.
fn cleaned(stored: &[u8]) -> Result<Vec<u8>> {
    let mut clean: Vec<&[u8]> = Vec::new();
    for component in stored.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if clean.pop().is_none() => return refuse("it leads out of the directory that it is unpacked in"),
            b".." => {}
            component => clean.push(component),
        }
    }
    Ok(clean.join(&b'/'))
}

/// Splits off the last component; `None` is the root.
fn split<'a>(stored: &'a [u8], what: &str) -> Result<Option<(Vec<u8>, &'a [u8])>> {
    if stored.is_empty() {
        return refuse(format!("its {what} is empty"));
    }
    if stored[0] == b'/' {
        return refuse(format!("its {what} is absolute"));
    }
    if stored.contains(&0) {
        return refuse(format!("its {what} contains a zero byte"));
    }
    if stored.len() > LONGEST {
        return refuse(format!("its {what} has {} bytes and the kernel takes at most {LONGEST}", stored.len()));
    }
    let components = || stored.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    if components().any(|part| part == b"..") {
        return refuse(format!("its {what} contains '..'"));
    }
    let Some(name) = components().next_back() else { return Ok(None) };
    let count = components().count();
    let parts: Vec<&[u8]> = components().take(count - 1).collect();
    Ok(Some((parts.join(&b'/'), name)))
}

#[cfg(test)]
mod tests {
    use super::Name;

    fn entry(parent: &str, name: &str) -> Name {
        Name::Entry { parent: parent.into(), name: name.into() }
    }

    #[test]
    fn names_are_split_and_whiteouts_found() {
        for (stored, name) in [
            ("a", entry("", "a")),
            ("./a/", entry("", "a")),
            ("a//b/./c", entry("a/b", "c")),
            ("./", Name::Root),
            (".", Name::Root),
            ("a/..b", entry("a", "..b")),
            ("a/.whx", entry("a", ".whx")),
            ("a/.wh.b", Name::Whiteout { parent: "a".into(), name: "b".into() }),
            (".wh..wh..opq", Name::Opaque { directory: "".into() }),
            ("a/.wh..wh..opq", Name::Opaque { directory: "a".into() }),
            (".wh..b", Name::Whiteout { parent: "".into(), name: ".b".into() }),
        ] {
            assert_eq!(Name::parse(stored.as_bytes()).unwrap(), name, "{stored}");
        }
    }

    #[test]
    fn added_names_stay_below_the_root() {
        for (stored, name) in [
            ("a", entry("", "a")),
            ("/etc/x", entry("etc", "x")),
            ("a/../b/./c", entry("b", "c")),
            ("a/..", Name::Root),
            ("/", Name::Root),
            ("", Name::Root),
        ] {
            assert_eq!(Name::added(stored.as_bytes()).unwrap(), name, "{stored}");
        }
        for (stored, reason) in [
            ("../a", "leads out"),
            ("/..", "leads out"),
            ("a/../../b", "leads out"),
            ("a/.wh.b", "'.wh.' removes another"),
            (".wh..wh..opq", "'.wh.' removes another"),
            (".wh.d/x", "'.wh.' removes another"),
            ("a\0", "zero byte"),
        ] {
            let error = Name::added(stored.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{stored}: {error}");
        }
        assert_eq!(Name::added_link_target(b"/a/b").unwrap(), (b"a".to_vec(), b"b".to_vec()));
        assert!(Name::added_link_target(b"../x").unwrap_err().to_string().contains("leads out"));
        assert!(Name::added_link_target(b"/").unwrap_err().to_string().contains("root directory"));
    }

    #[test]
    fn names_that_could_lead_outside_are_refused() {
        for (stored, reason) in [
            (&b""[..], "empty"),
            (b"/etc/passwd", "absolute"),
            (b"../a", "'..'"),
            (b"a/../b", "'..'"),
            (b"a/..", "'..'"),
            (b"a\0b", "zero byte"),
            (b".wh.", "whiteout of nothing"),
            (b"a/.wh..", "whiteout of '.' or '..'"),
            (b"a/.wh...", "whiteout of '.' or '..'"),
            (b".wh..wh.aufs", "starts with '.wh.'"),
            (b"a/.wh.b/c", "reserved"),
            (&[b'a'; 4096], "4096 bytes"),
        ] {
            let error = Name::parse(stored).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(Name::link_target(b"/etc/shadow").unwrap_err().to_string().contains("absolute"));
        assert!(Name::link_target(b"../x").unwrap_err().to_string().contains("'..'"));
    }
}
