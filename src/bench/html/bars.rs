//! A chart of a measure by rows, one below the other: a mark for each median with its number beside it, a line from
//! quartile to quartile; below each other also where the measure was taken at several things that are no progression.

use plotters::{
    coord::{Shift, cartesian::Cartesian2d, types::RangedCoordf64},
    prelude::{ChartBuilder, ChartContext, DrawingArea, EmptyElement, PathElement, SVGBackend, Text},
    style::{
        Color as _,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    Panel,
    axis::Axis,
    chart::{Drawn, FAINT, WIDTH, axis_of, mark, words},
    palette,
};
use crate::bench::report::{About, Series};

/// Pixels of a row, of a title above rows, of the axis below, and of the margins.
const ROW: u32 = 21;
const TITLE: u32 = 22;
const BELOW: u32 = 24;
const MARGIN: u32 = 4;
/// For the names of rows, and for the numbers.
const NAMES: u32 = 92;
const NUMBERS: u32 = 68;

/// A line of the chart: what it is at, and a row's numbers or the title.
enum Line<'a> {
    Title(&'a str),
    Row(&'a Series),
}

fn lines<'a>(panel: &Panel<'a>) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for at in &panel.ats {
        if !at.is_empty() {
            lines.push(Line::Title(at));
        }
        lines.extend(panel.rows.iter().filter_map(|row| panel.at(row, at)).map(Line::Row));
    }
    lines
}

fn height(line: &Line<'_>) -> u32 {
    if matches!(line, Line::Title(_)) { TITLE } else { ROW }
}

/// How large it will be.
pub(super) fn size(panel: &Panel<'_>) -> (u32, u32) {
    (WIDTH, lines(panel).iter().map(height).sum::<u32>() + BELOW + 2 * MARGIN)
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, RangedCoordf64>>;

pub(super) fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel<'_>, rows: &[About]) -> Drawn<()> {
    let axis = axis_of(panel);
    let lines = lines(panel);
    let total = lines.iter().map(height).sum::<u32>();
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_right(NUMBERS)
        .x_label_area_size(BELOW)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(axis.clone(), f64::from(total)..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(plotters::style::TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .x_labels(4)
        .x_label_style(words(11))
        .draw()?;
    let mut top = 0;
    for line in &lines {
        let middle = f64::from(top) + f64::from(height(line)) / 2.0;
        match line {
            Line::Title(at) => title(&mut chart, &axis, middle, at)?,
            Line::Row(series) => row(&mut chart, &axis, middle, series, rows)?,
        }
        top += height(line);
    }
    area.present()
}

fn title(chart: &mut Chart<'_, '_>, axis: &Axis, y: f64, at: &str) -> Drawn<()> {
    let style = words(12).pos(Pos::new(HPos::Left, VPos::Center));
    let text = Text::new(at.to_owned(), (6 - i32::try_from(NAMES).unwrap_or_default(), 2), &style);
    chart.draw_series([EmptyElement::at((axis.low(), y)) + text]).map(drop)
}

fn row(chart: &mut Chart<'_, '_>, axis: &Axis, y: f64, series: &Series, rows: &[About]) -> Drawn<()> {
    let colour = palette::colour(rows, &series.row);
    let [lower, median, upper] =
        [series.summary.lower, series.summary.median, series.summary.upper].map(|value| axis.inside(value));
    // Its length means something from zero only.
    if axis.logarithmic {
        chart.draw_series([PathElement::new(vec![(axis.low(), y), (median, y)], FAINT.stroke_width(1))])?;
    } else {
        chart.draw_series([PathElement::new(vec![(axis.low(), y), (median, y)], colour.stroke_width(5))])?;
    }
    chart.draw_series([PathElement::new(vec![(lower, y), (upper, y)], colour.stroke_width(2))])?;
    for end in [lower, upper] {
        let tick = PathElement::new(vec![(0, -4), (0, 4)], colour.stroke_width(2));
        chart.draw_series([EmptyElement::at((end, y)) + tick])?;
    }
    mark(chart, (median, y), &series.row, colour)?;
    let name = words(12).pos(Pos::new(HPos::Right, VPos::Center));
    let value = words(12).pos(Pos::new(HPos::Left, VPos::Center));
    let shown = series.unit.show(series.summary.median);
    chart.draw_series([EmptyElement::at((axis.low(), y)) + Text::new(series.row.clone(), (-7, 1), &name)])?;
    chart.draw_series([EmptyElement::at((upper.max(median), y)) + Text::new(shown, (8, 1), &value)])?;
    Ok(())
}
