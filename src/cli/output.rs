//! Tables for people and JSON for programs.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Prints `value` as JSON, indented, with a newline.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    told(serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from).and_then(|()| out.write_all(b"\n")))
}

/// A full disk behind standard output must not read like a full pool.
fn told(written: io::Result<()>) -> Result<()> {
    written.context("write to standard output")
}

/// Prints one line.
pub(super) fn line(text: impl std::fmt::Display) -> Result<()> {
    told(writeln!(io::stdout().lock(), "{text}"))
}

/// Tells a person something on standard error. Nobody is told that this failed, and nothing else fails for it.
pub(super) fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints bytes and a newline: paths need not be UTF-8.
pub(super) fn bytes(text: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    told(out.write_all(text).and_then(|()| out.write_all(b"\n")))
}

/// `name` on one line: what moves a terminal's cursor or ends the line is written as `\\xNN`, all else as it is.
pub(super) fn on_one_line(name: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(name.len());
    for byte in name {
        if byte.is_ascii_control() {
            shown.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        } else {
            shown.push(*byte);
        }
    }
    shown
}

/// Prints columns as wide as they need, three spaces apart, as Docker's listings are.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let mut out = tabwriter::TabWriter::new(io::stdout().lock()).padding(3);
    told(writeln!(out, "{}", header.join("\t")))?;
    for row in rows {
        told(writeln!(out, "{}", row.join("\t")))?;
    }
    told(out.flush())
}

/// At most `width` characters, the last one `…` if something was cut, as Docker's listings do.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::{cut, on_one_line};

    #[test]
    fn no_name_makes_a_line_of_its_own() {
        assert_eq!(on_one_line(b"a\nb\x1b[31m\xff\xc3\xa4"), b"a\\x0ab\\x1b[31m\xff\xc3\xa4");
    }

    #[test]
    fn cut_counts_characters_and_keeps_what_fits() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
