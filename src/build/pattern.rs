//! Path patterns, on bytes because a name need not be UTF-8: Go's `filepath.Match` for the sources of `COPY` and `ADD`,
//! and the same with `**` for `.dockerignore`.
//!
//! Invariant: a pattern that exists is well formed, and matching takes time in proportion to pattern times path.

use crate::error::{Error, Kind, Result};

/// A pattern of path names: `*` any run without `/`, `?` any character but `/`, `[a-z]` and `[^a]` one character of a
/// set, never `/`; a backslash takes the next character literally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Term>);

/// One piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Byte(u8),
    AnyCharacter,
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `*`: any run within one component.
    Run,
    /// `**/`: nothing, or any number of whole components.
    Directories,
    /// `**` at the end: everything.
    Everything,
}

impl Pattern {
    /// Reads a pattern by the grammar of Go's `filepath.Match`, to which `**` is just `*` twice.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if a set or an escape is not complete.
    pub fn parse(text: &[u8]) -> Result<Self> {
        Self::read(text, false)
    }

    /// Reads a pattern in which `**` crosses directories, as moby/patternmatcher compiles it.
    pub(super) fn parse_tree(text: &[u8]) -> Result<Self> {
        let mut pattern = Self::read(text, true)?;
        // `**name` alone is compared by its end and so matches within a name; followed by another wildcard it is not.
        if let [first @ Term::Directories, rest @ ..] = pattern.0.as_mut_slice()
            && !text.starts_with(b"**/")
            && rest.iter().all(|term| matches!(term, Term::Byte(_)))
        {
            *first = Term::Everything;
        }
        Ok(pattern)
    }

    fn read(text: &[u8], tree: bool) -> Result<Self> {
        let mut terms = Vec::new();
        let mut rest = text;
        while let [first, after @ ..] = rest {
            rest = after;
            terms.push(match first {
                b'*' if tree && after.first() == Some(&b'*') => {
                    rest = &after[1..];
                    rest = rest.strip_prefix(b"/").unwrap_or(rest);
                    if rest.is_empty() { Term::Everything } else { Term::Directories }
                }
                b'*' => Term::Run,
                b'?' => Term::AnyCharacter,
                b'[' => set(&mut rest).ok_or_else(|| malformed(text))?,
                b'\\' => {
                    let (escaped, after) = after.split_first().ok_or_else(|| malformed(text))?;
                    rest = after;
                    Term::Byte(*escaped)
                }
                byte => Term::Byte(*byte),
            });
        }
        Ok(Self(terms))
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut reached = start(path);
        for term in &self.0 {
            reached = term.step(&reached, path);
        }
        reached.last() == Some(&true)
    }

    /// Whether something below the directory can match.
    pub(super) fn may_match_below(&self, directory: &[u8]) -> bool {
        let inside = [directory, b"/"].concat();
        let mut reached = start(&inside);
        self.0.iter().any(|term| {
            reached = term.step(&reached, &inside);
            reached.last() == Some(&true)
        })
    }
}

/// Before the first term only the path's start is reached; one place more than bytes, for its end.
fn start(path: &[u8]) -> Vec<bool> {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    reached
}

impl Term {
    /// From the places that the terms before can reach to those that this one can.
    fn step(&self, reached: &[bool], path: &[u8]) -> Vec<bool> {
        let mut next = vec![false; reached.len()];
        match self {
            Self::Byte(_) | Self::AnyCharacter | Self::Set { .. } => {
                for (at, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
                    if let Some(width) = self.width(&path[at..]) {
                        next[at + width] = true;
                    }
                }
            }
            Self::Run | Self::Directories | Self::Everything => {
                let mut begun = false;
                for (at, is_reached) in reached.iter().enumerate() {
                    let before = at.checked_sub(1).map(|before| path[before]);
                    // A run goes on from the place before it; the other two from any place before.
                    next[at] = *is_reached
                        || match self {
                            Self::Run => at > 0 && next[at - 1] && before != Some(b'/'),
                            Self::Directories => begun && before == Some(b'/'),
                            _ => begun,
                        };
                    begun |= *is_reached;
                }
            }
        }
        next
    }

    /// How many bytes a term for one character takes at the start of `path`.
    fn width(&self, path: &[u8]) -> Option<usize> {
        let first = *path.first()?;
        match self {
            Self::Byte(byte) => (first == *byte).then_some(1),
            _ if first == b'/' => None,
            Self::Set { negated, ranges } => {
                let (character, width) = character(path)?;
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                (inside != *negated).then_some(width)
            }
            _ => character(path).map(|(_, width)| width),
        }
    }
}

/// The first character and its width; a byte that is not UTF-8 counts as U+FFFD, as Go decodes it.
fn character(bytes: &[u8]) -> Option<(char, usize)> {
    let chunk = bytes[..bytes.len().min(4)].utf8_chunks().next()?;
    Some(chunk.valid().chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |first| (first, first.len_utf8())))
}

/// The rest of a set after its `[`: at least one range, with `]` and `-` escaped.
fn set(rest: &mut &[u8]) -> Option<Term> {
    let negated = rest.starts_with(b"^");
    if negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    while ranges.is_empty() || !rest.starts_with(b"]") {
        let low = member(rest)?;
        let high = match rest.strip_prefix(b"-") {
            Some(after) => {
                *rest = after;
                member(rest)?
            }
            None => low,
        };
        ranges.push((low, high));
    }
    *rest = &rest[1..];
    Some(Term::Set { negated, ranges })
}

fn member(rest: &mut &[u8]) -> Option<char> {
    match rest.first()? {
        b'-' | b']' => return None,
        b'\\' => *rest = &rest[1..],
        _ => {}
    }
    let (member, width) = character(rest)?;
    *rest = &rest[width..];
    Some(member)
}

fn malformed(text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    Error::new(Kind::Invalid, format!("malformed pattern '{text}': a set '[...]' or a '\\' is not complete"))
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, matches) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("a[^x]b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("**", "a/b", false),
            ("", "", true),
            ("", "a", false),
            ("hom?.txt", "home.txt", true),
            ("arr[[]0].txt", "arr[0].txt", true),
        ] {
            let parsed = Pattern::parse(pattern.as_bytes()).unwrap();
            assert_eq!(parsed.matches(name.as_bytes()), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn names_need_not_be_text() {
        assert!(Pattern::parse(b"a?c").unwrap().matches(b"a\xffc"));
        assert!(Pattern::parse(b"a[^b]c").unwrap().matches(b"a\xffc"));
        assert!(Pattern::parse(b"*\xff").unwrap().matches(b"ab\xff"));
        assert!(!Pattern::parse(b"\xfe").unwrap().matches(b"\xff"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in
            ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[a-", "[]", "[^]"]
        {
            let error = Pattern::parse(pattern.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("malformed pattern"), "{error}");
        }
    }
}
