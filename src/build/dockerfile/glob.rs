//! The shell patterns of `${name#pattern}` and its relatives: `*`, `?` and the backslash, no sets (BuildKit's
//! shell/lex.go has none either).

use crate::error::{Error, Kind, Result};

/// A pattern on characters; `*` and `?` do not match a newline, as in the regular expressions that BuildKit makes of them.
pub(super) struct Glob(Vec<Piece>);

enum Piece {
    Character(char),
    Any,
    Run,
}

impl Piece {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Character(own) => *own == character,
            Self::Any | Self::Run => character != '\n',
        }
    }
}

impl Glob {
    /// A backslash stands before `*`, `?` and itself, and before the `}` and `/` that would have ended the pattern.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            pieces.push(match character {
                '*' => Piece::Run,
                '?' => Piece::Any,
                '\\' => match rest.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Piece::Character(escaped),
                    _ => {
                        let reason =
                            format!("pattern '{text}': a '\\' stands only before '*', '?', '}}', '/' and '\\'");
                        return Err(Error::new(Kind::Invalid, reason));
                    }
                },
                character => Piece::Character(character),
            });
        }
        Ok(Self(pieces))
    }

    /// The value without the shortest or longest start that matches.
    pub(super) fn trim_start(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let mut ends = self.ends(&value);
        let end = if longest { ends.next_back() } else { ends.next() };
        value[end.unwrap_or(0)..].iter().collect()
    }

    /// The value without the shortest or longest end that matches.
    pub(super) fn trim_end(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let mut starts =
            (0..=value.len()).filter(|start| self.ends(&value[*start..]).next_back() == Some(value.len() - start));
        let start = if longest { starts.next() } else { starts.next_back() };
        value[..start.unwrap_or(value.len())].iter().collect()
    }

    /// The value with its first match, or all, replaced; each match as long as can be.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let mut replaced = String::new();
        let mut at = 0;
        let mut done = false;
        let mut after_match = false;
        while at <= value.len() {
            let end = if done { None } else { self.ends(&value[at..]).next_back().map(|length| at + length) };
            // An empty match right after another is none.
            if let Some(end) = end.filter(|end| *end > at || !after_match) {
                replaced += replacement;
                done = !all;
                if end > at {
                    (at, after_match) = (end, true);
                    continue;
                }
            }
            replaced.extend(value.get(at));
            (at, after_match) = (at + 1, false);
        }
        replaced
    }

    /// How many characters a match from the start can take, ascending.
    fn ends(&self, value: &[char]) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let mut reached = vec![false; value.len() + 1];
        reached[0] = true;
        for piece in &self.0 {
            let mut next = vec![false; reached.len()];
            for at in 0..reached.len() {
                let before = at.checked_sub(1).filter(|before| piece.takes(value[*before]));
                next[at] = match piece {
                    Piece::Run => reached[at] || before.is_some_and(|before| next[before]),
                    _ => before.is_some_and(|before| reached[before]),
                };
            }
            reached = next;
        }
        reached.into_iter().enumerate().filter(|(_, reached)| *reached).map(|(at, _)| at)
    }
}
