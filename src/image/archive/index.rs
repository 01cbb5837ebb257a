//! What lies where in an archive's file.
//!
//! Invariant: names are only looked up, never used as paths, so `..` in them reaches nothing.

use std::{collections::HashMap, fs::File};

use crate::{
    error::{Act as _, Kind, Result},
    image::tar::{FileInput, MemberKind, Members},
    interrupt,
};

/// The most members that an image archive may have; real ones have a few for each layer.
const LIMIT: usize = 100_000;

/// The longest name that is of use.
const LONGEST: usize = 256;

/// How many links may lead to one another; the kernel's limit for symlinks is the same.
const LINKS: usize = 40;

#[derive(Debug)]
enum Place {
    Stored { offset: u64, size: u64 },
    Link(String),
}

/// Members by name.
#[derive(Debug)]
pub(super) struct Index {
    places: HashMap<String, Place>,
}

impl Index {
    pub(super) fn read(file: File) -> Result<Self> {
        let mut input = FileInput::new(file).act(|| "find its length")?;
        let mut members = Members::new(&mut input);
        let mut places = HashMap::new();
        while let Some(member) = members.next()? {
            interrupt::check()?;
            // Names that are not UTF-8 cannot be named by a manifest.
            let Ok(name) = std::str::from_utf8(&member.name) else { continue };
            // Nothing that a manifest names is so long, and memory must not grow with names.
            if name.len() > LONGEST || member.link.len() > LONGEST {
                continue;
            }
            let link = String::from_utf8_lossy(&member.link);
            let name = normal("", name);
            let place = match member.kind {
                MemberKind::File if member.segments.is_some() => {
                    return Err(member.error(Kind::Unsupported, "a sparse file in an image archive"));
                }
                MemberKind::File => Place::Stored { offset: members.offset(), size: member.size },
                MemberKind::HardLink => Place::Link(normal("", &link)),
                MemberKind::Symlink => {
                    Place::Link(normal(name.rsplit_once('/').map_or("", |(parent, _)| parent), &link))
                }
                _ => continue,
            };
            if places.len() >= LIMIT {
                return Err(member.error(Kind::Invalid, format!("an image archive of more than {LIMIT} members")));
            }
            places.insert(name, place);
        }
        Ok(Self { places })
    }

    /// Where `name` is stored, links followed: offset and size.
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal("", name);
        for _ in 0..LINKS {
            match self.places.get(&name)? {
                Place::Stored { offset, size } => return Some((*offset, *size)),
                Place::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

/// `path`, relative to `base`, without `.`, `..` and doubled slashes.
fn normal(base: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn links_are_resolved_inside_the_archive() {
        assert_eq!(normal("abc", "../def/layer.tar"), "def/layer.tar");
        assert_eq!(normal("", "./blobs//sha256/x"), "blobs/sha256/x");
        assert_eq!(normal("a", "/b"), "b");
        assert_eq!(normal("a", "../../../../b"), "b");
    }
}
