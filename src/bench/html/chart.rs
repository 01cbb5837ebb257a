//! A chart of one measure: along a progression of sizes or numbers, or row by row.

use plotters::{
    chart::ChartContext,
    coord::{cartesian::Cartesian2d, ranged1d::Ranged},
    prelude::{
        Circle, DrawingAreaErrorKind, EmptyElement, IntoDrawingArea as _, IntoFont as _, Polygon, RGBColor, SVGBackend,
    },
    style::{Color as _, TextStyle},
};

use super::{Panel, axis::Axis, bars, lines, palette::Level};
use crate::bench::report::{About, Unit};

pub(super) const INK: RGBColor = RGBColor(1, 2, 3);
pub(super) const FAINT: RGBColor = RGBColor(221, 222, 223);

/// Of all charts, in pixels: a telephone shows them at about this width, so that their words stay as large as they are.
pub(super) const WIDTH: u32 = 360;

pub(super) type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// The drawing, as SVG to stand in a page.
pub(super) fn draw(panel: &Panel<'_>, rows: &[About]) -> Drawn<String> {
    let mut svg = String::new();
    let size = if panel.is_progression() { lines::SIZE } else { bars::size(panel) };
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    if panel.is_progression() {
        lines::draw(&area, panel, rows)?
    } else {
        bars::draw(&area, panel, rows)?
    }
    drop(area);
    // It scales with the page; the words beside it say what it shows.
    let head = format!("<svg width=\"{}\" height=\"{}\"", size.0, size.1);
    Ok(svg.replacen(&head, "<svg role=\"img\" aria-label=\"chart of the numbers below\"", 1))
}

/// The axis that all of a measure has room on.
pub(super) fn axis_of(panel: &Panel<'_>) -> Axis {
    let unit = panel.series.first().map_or(Unit::Seconds, |series| series.unit);
    let summaries = panel.series.iter().map(|series| series.summary);
    Axis::new(unit, summaries.flat_map(|summary| [summary.lower, summary.median, summary.upper]))
}

pub(super) fn words(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// A median: its shape tells the level of its row.
pub(super) fn mark<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    at: (f64, f64),
    row: &str,
    colour: RGBColor,
) -> Drawn<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let shape: &[(i32, i32)] = match Level::of(row) {
        Level::Block => {
            return chart.draw_series([Circle::new(at, 4, colour.filled())]).map(drop);
        }
        Level::File => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
        Level::Both => &[(0, -5), (5, 0), (0, 5), (-5, 0)],
        Level::Whole => &[(0, -5), (5, 4), (-5, 4)],
    };
    chart.draw_series([EmptyElement::at(at) + Polygon::new(shape.to_vec(), colour.filled())]).map(drop)
}
