//! What tells rows apart: a colour and a mark. Block-level rows are blue and round, file-level ones orange and square, which
//! the colour-blind see apart, too; copies and the floor are grey.
//!
//! Colours in the drawings are those of light paper; the page's style gives each another in the dark, by its value.

use std::fmt::Write as _;

use plotters::style::RGBColor;

use crate::bench::report::About;

/// On which level a row copies what is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Blocks: thin and btrfs.
    Block,
    /// Files: overlayfs.
    File,
    /// Files, which share blocks and cache.
    Both,
    /// All of the image, or there is nothing to copy.
    Whole,
}

impl Level {
    /// By the name of the row.
    pub(super) fn of(row: &str) -> Self {
        let has = |names: &[&str]| names.iter().any(|name| row.contains(name));
        match row {
            _ if row.contains('+') => Self::Both,
            _ if has(&["overlay"]) => Self::File,
            _ if has(&["thin", "btrfs", "devicemapper", "devmapper"]) => Self::Block,
            _ => Self::Whole,
        }
    }

    /// Of its rows, each on light and on dark ground.
    const fn colours(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Block => &[
                ("#0B5CAD", "#6DB3FF"),
                ("#3D8FD6", "#A8D1FF"),
                ("#00819A", "#3FD0E6"),
                ("#273C8F", "#8EA2FF"),
                ("#5A7FB0", "#C3DCFA"),
            ],
            Self::File => &[
                ("#C24E00", "#FF8F45"),
                ("#C98300", "#FFC247"),
                ("#8A3A00", "#E0A070"),
                ("#B3324F", "#FF8095"),
                ("#A06A2C", "#D9AC74"),
                ("#D9653B", "#FFB199"),
            ],
            Self::Both => &[("#7A3FA0", "#C994F2")],
            Self::Whole => &[
                ("#55565E", "#B4B5BD"),
                ("#85868E", "#898A93"),
                ("#3A3A40", "#D2D3DA"),
                ("#6C6458", "#C9BFAF"),
                ("#A3A49C", "#77786F"),
            ],
        }
    }
}

/// The number of a row among all.
pub(super) fn place(rows: &[About], name: &str) -> usize {
    rows.iter().position(|row| row.name == name).unwrap_or_default()
}

fn colours(rows: &[About], name: &str) -> (&'static str, &'static str) {
    let level = Level::of(name);
    let earlier = rows[..place(rows, name)].iter().filter(|row| Level::of(&row.name) == level).count();
    level.colours()[earlier % level.colours().len()]
}

/// What a row is drawn in.
pub(super) fn colour(rows: &[About], name: &str) -> RGBColor {
    let (light, _) = colours(rows, name);
    let part = |from: usize| u8::from_str_radix(&light[from..from + 2], 16).unwrap_or_default();
    RGBColor(part(1), part(3), part(5))
}

/// Gives the drawings' colours to the page.
pub(super) fn style(rows: &[About]) -> String {
    let mut style = String::new();
    let (mut light, mut dark) = (String::new(), String::new());
    for (number, row) in rows.iter().enumerate() {
        let (on_light, on_dark) = colours(rows, &row.name);
        // Writing to a string cannot fail.
        let _ = write!(light, "--r{number}:{on_light};");
        let _ = write!(dark, "--r{number}:{on_dark};");
        let _ = writeln!(
            style,
            ".r{number}{{--row:var(--r{number})}}\nsvg [stroke=\"{on_light}\" i]{{stroke:var(--r{number})}}\n\
             svg [fill=\"{on_light}\" i]{{fill:var(--r{number})}}"
        );
    }
    format!(":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{style}")
}

#[cfg(test)]
mod tests {
    use super::{About, Level, colour};
    use crate::bench::{PEERS, ROWS};

    #[test]
    fn every_row_has_a_colour_of_its_own_and_the_family_of_its_level() {
        let rows: Vec<_> = ROWS.iter().chain(&PEERS).map(|row| About::of(row.name(), row.about(), None)).collect();
        for (number, row) in rows.iter().enumerate() {
            let same = rows[..number].iter().find(|other| colour(&rows, &other.name) == colour(&rows, &row.name));
            assert!(same.is_none(), "{} and {same:?}", row.name);
        }
        for (name, level) in [
            ("thin/xfs", Level::Block),
            ("btrfs", Level::Block),
            ("overlay/btrfs", Level::File),
            ("btrfs+overlay", Level::Both),
            ("podman/overlay", Level::File),
            ("vfs", Level::Whole),
            ("bare", Level::Whole),
        ] {
            assert_eq!(Level::of(name), level, "{name}");
        }
    }
}
