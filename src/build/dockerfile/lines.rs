//! From a Dockerfile's text to its instructions: directives, comments, continued lines, here-documents.
//!
//! The rules are those of BuildKit's parser/parser.go: comments and empty lines between continued lines vanish, and the
//! escape character continues a line only where nothing but spaces follow it and no other stands before it.

use std::fmt::Display;

use super::{
    Position,
    here_doc::{self, HereDoc, Marker},
    words,
};
use crate::error::{Error, Kind, Result};

const DIRECTIVES: [&str; 3] = ["syntax", "escape", "check"];

/// One instruction on one line, and where its pieces came from.
pub(super) struct Line<'a> {
    file: &'a str,
    /// Joined, without the space around it.
    pub(super) text: String,
    pub(super) here_docs: Vec<HereDoc>,
    /// Where in `text` the piece of each source line begins, and where that is in the file.
    pieces: Vec<(usize, Position)>,
}

impl Line<'_> {
    /// Where a byte of the text stands in the file.
    pub(super) fn position(&self, offset: usize) -> Position {
        let piece = self.pieces.iter().rev().find(|(start, _)| *start <= offset).or(self.pieces.first());
        let (start, position) = piece.copied().unwrap_or((0, Position { line: 1, column: 1 }));
        let before = self.text.get(start..offset).map_or(0, |text| text.chars().count());
        Position { column: position.column + before, ..position }
    }

    /// An error that points at a byte of the text.
    pub(super) fn error(&self, offset: usize, what: impl Display) -> Error {
        error(self.file, self.position(offset), what)
    }

    fn push(&mut self, number: usize, source: &str, piece: &str) {
        let piece = if self.text.is_empty() { piece.trim_start() } else { piece };
        if !piece.is_empty() {
            // A piece is a slice of its source line.
            let before = &source[..piece.as_ptr().addr() - source.as_ptr().addr()];
            let position = Position { line: number, column: before.chars().count() + 1 };
            self.pieces.push((self.text.len(), position));
            self.text += piece;
        }
    }
}

/// `NAME:LINE:COLUMN: what`.
pub(super) fn error(file: &str, at: Position, what: impl Display) -> Error {
    Error::new(Kind::Invalid, format!("{file}:{}:{}: {what}", at.line, at.column))
}

/// Reads instruction after instruction.
pub(super) struct Lines<'a> {
    file: &'a str,
    /// The lines with their endings, and the number of the next one.
    rest: std::str::SplitInclusive<'a, char>,
    number: usize,
    /// The escape character, by directive or `\`.
    pub(super) escape: char,
}

impl<'a> Lines<'a> {
    /// Reads the directives, too.
    pub(super) fn new(file: &'a str, text: &'a str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let escape = directives(file, text)?;
        Ok(Self { file, rest: text.split_inclusive('\n'), number: 0, escape })
    }

    /// The next instruction, `None` at the end.
    pub(super) fn read(&mut self) -> Result<Option<Line<'a>>> {
        let mut line = Line { file: self.file, text: String::new(), here_docs: Vec::new(), pieces: Vec::new() };
        while let Some(source) = self.next_source() {
            let source = source.trim_end_matches(['\r', '\n']);
            if source.trim_start().is_empty() || source.trim_start().starts_with('#') {
                continue;
            }
            let (piece, continued) = self.without_continuation(source);
            line.push(self.number, source, piece);
            if !continued {
                break;
            }
        }
        line.text.truncate(line.text.trim_end().len());
        if line.text.is_empty() {
            return Ok(None);
        }
        if may_have_here_docs(&line.text) {
            for (offset, marker) in here_doc::markers(&line.text) {
                let document = self.here_doc(&marker).ok_or_else(|| {
                    line.error(offset, format!("here-document '{0}' does not end: no line is just '{0}'", marker.name))
                })?;
                line.here_docs.push(document);
            }
        }
        Ok(Some(line))
    }

    fn next_source(&mut self) -> Option<&'a str> {
        self.number += 1;
        self.rest.next()
    }

    fn without_continuation<'s>(&self, source: &'s str) -> (&'s str, bool) {
        match source.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before, true),
            _ => (source, false),
        }
    }

    fn here_doc(&mut self, marker: &Marker) -> Option<HereDoc> {
        let mut content = String::new();
        while let Some(source) = self.next_source() {
            if marker.is_end(source) {
                return Some(HereDoc { name: marker.name.clone(), content, expand: marker.expand });
            }
            content += marker.stripped(source);
        }
        None
    }
}

/// The escape character by the directives (`# name=value`) on the first lines; any other line ends them.
fn directives(file: &str, text: &str) -> Result<char> {
    let mut escape = '\\';
    let mut seen: Vec<String> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let directive = line.trim_start().strip_prefix('#').and_then(|rest| rest.split_once('='));
        let Some((name, value)) = directive.map(|(name, value)| (name.trim().to_lowercase(), value.trim())) else {
            break;
        };
        if !DIRECTIVES.contains(&name.as_str()) || value.is_empty() {
            break;
        }
        let at = Position { line: index + 1, column: 1 };
        if seen.contains(&name) {
            return Err(error(file, at, format!("the directive '{name}' is given twice")));
        }
        if name == "escape" {
            escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(error(file, at, format!("the escape character is '\\' or '`', not '{value}'"))),
            };
        }
        seen.push(name);
    }
    Ok(escape)
}

/// Only `RUN`, `COPY` and `ADD` have them, also under `ONBUILD`, and not in their JSON form.
fn may_have_here_docs(text: &str) -> bool {
    let (mut keyword, mut rest) = split(text);
    if keyword.eq_ignore_ascii_case("ONBUILD") {
        (keyword, rest) = split(rest);
    }
    while rest.starts_with("--") {
        rest = rest[words::unquoted(rest).1..].trim_start();
    }
    ["RUN", "COPY", "ADD"].iter().any(|name| keyword.eq_ignore_ascii_case(name)) && words::json(rest).is_none()
}

fn split(text: &str) -> (&str, &str) {
    let (keyword, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    (keyword, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::{Line, Lines, Position};

    fn read(text: &str) -> Vec<Line<'_>> {
        let mut lines = Lines::new("Dockerfile", text).unwrap();
        std::iter::from_fn(|| lines.read().unwrap()).collect()
    }

    #[test]
    fn lines_are_joined() {
        for (text, expected) in [
            ("A b\nC d", vec!["A b", "C d"]),
            ("\u{feff}A", vec!["A"]),
            ("  A b  \r\n\tC\r\n", vec!["A b", "C"]),
            ("A \\\n  b \\ \t\nc", vec!["A   b c"]),
            ("A \\\n# comment\n\n  # another\n  b", vec!["A   b"]),
            ("A \\\r\n  b", vec!["A   b"]),
            ("A b\\\\\nC", vec!["A b\\\\", "C"]),
            ("# escape=`\nA `\n b\\\nC", vec!["A  b\\", "C"]),
            ("# syntax=docker/dockerfile:1\n# escape=`\nA `\nb", vec!["A b"]),
            ("# not a directive\n# escape=`\nA `\nB", vec!["A `", "B"]),
            ("\n# escape=`\nA `\nB", vec!["A `", "B"]),
            ("\\\nA", vec!["A"]),
            ("A \\", vec!["A"]),
            ("A \\\n# only\n", vec!["A"]),
            ("A # no comment", vec!["A # no comment"]),
            ("", vec![]),
            ("# x\n\\\n", vec![]),
        ] {
            assert_eq!(read(text).iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }

    #[test]
    fn positions_are_those_of_the_source() {
        let lines = read("# c\n  RUN é \\\n # c\n  b\nX");
        assert_eq!(lines[0].text, "RUN é   b");
        for (needle, line, column) in [("RUN", 2, 3), ("é", 2, 7), ("b", 4, 3)] {
            let offset = lines[0].text.find(needle).unwrap();
            assert_eq!(lines[0].position(offset), Position { line, column }, "{needle}");
        }
        assert_eq!(lines[1].position(0), Position { line: 5, column: 1 });
    }

    #[test]
    fn here_documents_are_taken_out() {
        let lines = read(
            "RUN <<A cat <<-'B'\nx\n# y\nA\n\tz\\\n\tB\nONBUILD COPY <<C /\nc\nC\nRUN [\"a\", \"<<D\"]\nCMD <<E\n",
        );
        let found: Vec<Vec<(&str, &str, bool)>> = lines
            .iter()
            .map(|line| line.here_docs.iter().map(|d| (d.name.as_str(), d.content.as_str(), d.expand)).collect())
            .collect();
        let expected: [&[_]; 4] = [&[("A", "x\n# y\n", true), ("B", "z\\\n", false)], &[("C", "c\n", true)], &[], &[]];
        assert_eq!(found, expected);
    }

    #[test]
    fn bad_lines_are_pointed_at() {
        for (text, told) in [
            ("RUN a \\\n b <<EOF\nx\n", "Dockerfile:2:4: here-document 'EOF' does not end: no line is just 'EOF'"),
            ("# escape=x\n", "Dockerfile:1:1: the escape character is '\\' or '`', not 'x'"),
            ("# escape=`\n# Escape = \\\n", "Dockerfile:2:1: the directive 'escape' is given twice"),
        ] {
            let error = Lines::new("Dockerfile", text).and_then(|mut lines| lines.read()).err().unwrap();
            assert_eq!(error.to_string(), told, "{text:?}");
        }
    }
}
