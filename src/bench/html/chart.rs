//! A chart of one measure: a dot for each median, a line from quartile to quartile, rows side by side.
//!
//! Colours in the drawing are those of light paper; the page's style gives each another in the dark, by its value.

use std::fmt::Write as _;

use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Circle, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _, IntoFont as _,
        IntoLogRange as _, LineSeries, PathElement, RGBColor, SVGBackend, Text,
    },
    style::{Color as _, TextStyle},
};

use super::Panel;
use crate::bench::{
    PEERS, ROWS,
    report::{About, Unit},
};

/// Of each row, in light and in dark: the first, which are rows that are measured by themselves, distinguishable for most eyes (Okabe
/// and Ito), brighter in the dark.
const COLOURS: [(&str, &str); 17] = [
    ("#0072b2", "#56a8e8"),
    ("#004c78", "#8fc7f5"),
    ("#009e73", "#2fd0a2"),
    ("#d55e00", "#ff8a3c"),
    ("#a34800", "#ffb27a"),
    ("#e69f00", "#ffc94d"),
    ("#8a4f7d", "#d79bc8"),
    ("#666666", "#aaaaaa"),
    ("#b30059", "#ff70b0"),
    ("#5a3d99", "#b49cf0"),
    ("#00808a", "#4fd3dd"),
    ("#4f7a00", "#a6d84a"),
    ("#c2185b", "#ff9ebf"),
    ("#795548", "#c9a597"),
    ("#1a237e", "#a3adff"),
    ("#827717", "#d9cf5a"),
    ("#37474f", "#cfd8dc"),
];

const _: () = assert!(COLOURS.len() >= ROWS.len() + PEERS.len(), "two rows have the same colour");

const INK: RGBColor = RGBColor(1, 2, 3);
const FAINT: RGBColor = RGBColor(221, 222, 223);

/// The number of a row's colour.
pub(super) fn place(rows: &[About], name: &str) -> usize {
    rows.iter().position(|row| row.name == name).unwrap_or_default() % COLOURS.len()
}

/// Gives the drawings' colours to the page.
pub(super) fn style(rows: &[About]) -> String {
    let mut style = String::new();
    let (mut light, mut dark) = (String::new(), String::new());
    for row in rows {
        let number = place(rows, row.name);
        let (on_light, on_dark) = COLOURS[number];
        let _ = write!(light, "--r{number}:{on_light};");
        let _ = write!(dark, "--r{number}:{on_dark};");
        let _ = writeln!(
            style,
            ".r{number}{{--row:var(--r{number})}}\nsvg [stroke=\"{0}\" i]{{stroke:var(--r{number})}}\n\
             svg [fill=\"{0}\" i]{{fill:var(--r{number})}}",
            on_light
        );
    }
    format!(":root{{{light}}}\n@media (prefers-color-scheme:dark){{@media screen{{:root{{{dark}}}}}}}\n{style}")
}

fn colour(number: usize) -> RGBColor {
    let part = |from: usize| u8::from_str_radix(&COLOURS[number].0[from..from + 2], 16).unwrap_or_default();
    RGBColor(part(1), part(3), part(5))
}

const SIZE: (u32, u32) = (520, 300);

type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// The drawing, as SVG to stand in a page.
pub(super) fn draw(panel: &Panel<'_>, rows: &[About]) -> Drawn<String> {
    let mut svg = String::new();
    draw_on(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), panel, rows)?;
    // It scales with the page; the words beside it say what it shows.
    let head = format!("<svg width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
    Ok(svg.replacen(&head, "<svg role=\"img\" aria-label=\"chart of the numbers below\"", 1))
}

/// The ends of the axis of values, and where zero lies on it, which has no logarithm.
fn range(panel: &Panel<'_>) -> (f64, f64) {
    let numbers = || panel.series.iter().flat_map(|series| [series.summary.lower, series.summary.upper]);
    let positive = || numbers().filter(|number| *number > 0.0);
    let low = positive().fold(f64::INFINITY, f64::min);
    let high = positive().fold(0.0, f64::max);
    if high == 0.0 { (1.0, 10.0) } else { (low / 2.0, high * 2.0) }
}

fn draw_on(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel<'_>, rows: &[About]) -> Drawn<()> {
    let (low, high) = range(panel);
    let unit = panel.series.first().map(|series| series.unit);
    let show = |value: &f64| unit.map(|unit| unit.show(*value)).unwrap_or_default();
    let groups = number(panel.ats.len());
    // Round numbers are powers of ten for seconds, and of two for bytes.
    let base = if unit == Some(Unit::Seconds) { 10.0 } else { 16.0 };
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(14)
        .x_label_area_size(26)
        .y_label_area_size(74)
        .build_cartesian_2d(0.0..groups, (low..high).log_scale().base(base))?;
    let words = ("sans-serif", 13).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(plotters::style::TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .y_labels(6)
        .y_label_style(words.clone())
        .y_label_formatter(&show)
        .draw()?;
    for (row_number, row) in panel.rows.iter().enumerate() {
        let colour = colour(place(rows, row));
        let at = |group: usize| number(group) + (number(row_number) + 1.0) / (number(panel.rows.len()) + 1.0);
        let points: Vec<_> = panel
            .ats
            .iter()
            .enumerate()
            .filter_map(|(group, name)| Some((at(group), panel.at(row, name)?.summary)))
            .collect();
        let inside = |value: f64| value.clamp(low, high);
        let medians = points.iter().map(|(x, summary)| (*x, inside(summary.median)));
        chart.draw_series(LineSeries::new(medians.clone(), colour.stroke_width(1)))?;
        chart.draw_series(points.iter().map(|(x, summary)| {
            let ends = vec![(*x, inside(summary.lower)), (*x, inside(summary.upper))];
            PathElement::new(ends, colour.stroke_width(3))
        }))?;
        chart.draw_series(medians.map(|middle| Circle::new(middle, 4, colour.filled())))?;
    }
    draw_names(area, panel, &words)
}

/// Below each group its name, in its middle.
fn draw_names(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel<'_>, words: &TextStyle<'_>) -> Drawn<()> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let (left, right) = (8 + 74, i32::try_from(SIZE.0).unwrap_or_default() - 14);
    let count = i32::try_from(panel.ats.len()).unwrap_or(1).max(1);
    let style = words.clone().pos(Pos::new(HPos::Center, VPos::Center));
    for (group, name) in (0..).zip(&panel.ats) {
        let middle = left + (right - left) * (2 * group + 1) / (2 * count);
        area.draw(&Text::new((*name).to_owned(), (middle, i32::try_from(SIZE.1).unwrap_or_default() - 16), &style))?;
    }
    area.present()
}

#[expect(clippy::cast_precision_loss, reason = "rows and groups are few")]
fn number(count: usize) -> f64 {
    count as f64
}
