//! A chart of a measure along a progression of sizes or numbers: a line per row, named where it ends.

use plotters::{
    coord::Shift,
    prelude::{ChartBuilder, DrawingArea, LineSeries, PathElement, SVGBackend, Text},
    style::{
        Color as _,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    Panel,
    chart::{Drawn, FAINT, INK, WIDTH, axis_of, mark, words},
    number, palette,
};
use crate::bench::report::About;

const HEIGHT: u32 = 264;
const MARGIN: u32 = 6;
/// For the numbers of the axis, for the names of rows, and for what varies.
const NUMBERS: u32 = 58;
const NAMES: u32 = 98;
const BELOW: u32 = 50;
/// Between the middles of two names.
const APART: i32 = 13;

/// How large it will be.
pub(super) const SIZE: (u32, u32) = (WIDTH, HEIGHT);

pub(super) fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel<'_>, rows: &[About]) -> Drawn<()> {
    let axis = axis_of(panel);
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_top(10)
        .margin_right(NAMES)
        .x_label_area_size(BELOW)
        .y_label_area_size(NUMBERS)
        .build_cartesian_2d(-0.5..number(panel.ats.len()) - 0.5, axis.clone())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(plotters::style::TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .y_labels(6)
        .y_label_style(words(11))
        .draw()?;
    let mut ends = Vec::new();
    for (turn, row) in panel.rows.iter().enumerate() {
        let colour = palette::colour(rows, row);
        // Side by side, or quartiles would hide each other.
        let aside = (number(turn) + 0.5) / number(panel.rows.len()) * 0.44 - 0.22;
        let found = panel.ats.iter().enumerate().filter_map(|(at, name)| Some((at, panel.at(row, name)?.summary)));
        let points: Vec<_> = found.map(|(at, summary)| (number(at) + aside, summary)).collect();
        let medians = || points.iter().map(|(x, summary)| (*x, axis.inside(summary.median)));
        chart.draw_series(LineSeries::new(medians(), colour.mix(0.55).stroke_width(1)))?;
        for (x, summary) in &points {
            let quartiles = vec![(*x, axis.inside(summary.lower)), (*x, axis.inside(summary.upper))];
            chart.draw_series([PathElement::new(quartiles, colour.stroke_width(2))])?;
        }
        for point in medians() {
            mark(&mut chart, point, row, colour)?;
        }
        if let Some(last) = medians().next_back() {
            ends.push((chart.backend_coord(&last), *row, colour));
        }
    }
    let bottom = i32::try_from(HEIGHT - MARGIN - BELOW).unwrap_or_default();
    let edge = i32::try_from(WIDTH - NAMES).unwrap_or_default();
    let wanted: Vec<i32> = ends.iter().map(|((_, y), ..)| *y).collect();
    let style = words(12).pos(Pos::new(HPos::Left, VPos::Center));
    for (((x, y), row, colour), place) in ends.iter().zip(spread(&wanted, (10, bottom))) {
        let leader = vec![(x + 5, *y), (edge + 4, place), (edge + 8, place)];
        area.draw(&PathElement::new(leader, colour.mix(0.6).stroke_width(1)))?;
        area.draw(&Text::new((*row).to_owned(), (edge + 11, place + 1), &style))?;
    }
    draw_names(area, panel, edge)?;
    area.present()
}

/// Places as near to the wanted ones as may be, at least [`APART`] from each other, in their order, within the limits as
/// long as there is room.
fn spread(wanted: &[i32], (top, bottom): (i32, i32)) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|number| wanted[*number]);
    let mut places = vec![0; wanted.len()];
    let mut next = top;
    for number in &order {
        places[*number] = wanted[*number].max(next);
        next = places[*number] + APART;
    }
    let mut limit = bottom;
    for number in order.iter().rev() {
        places[*number] = places[*number].min(limit);
        limit = places[*number] - APART;
    }
    places
}

/// What varies below the axis: all of it, in two heights so that neighbours do not meet; or, where only the numbers differ,
/// these, and below them what they count.
fn draw_names(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel<'_>, right: i32) -> Drawn<()> {
    let left = i32::try_from(MARGIN + NUMBERS).unwrap_or_default();
    let count = i32::try_from(panel.ats.len()).unwrap_or(1).max(1);
    let top = i32::try_from(HEIGHT - MARGIN - BELOW).unwrap_or_default() + 12;
    let style = words(11).pos(Pos::new(HPos::Center, VPos::Center));
    let counted = counted(&panel.ats);
    let in_two_heights = counted.is_none() && count > 4;
    for (number, at) in (0..).zip(&panel.ats) {
        let middle = left + (right - left) * (2 * number + 1) / (2 * count);
        let name = if counted.is_some() { at.split(' ').next().unwrap_or_default() } else { at };
        let lower = if in_two_heights && number % 2 == 1 { 14 } else { 0 };
        area.draw(&PathElement::new(vec![(middle, top - 12), (middle, top - 7 + lower)], FAINT.stroke_width(1)))?;
        area.draw(&Text::new(name.to_owned(), (middle, top + lower), &style))?;
    }
    if let Some(what) = counted {
        area.draw(&Text::new(what.to_owned(), ((left + right) / 2, top + 17), &style))?;
    }
    let axis = vec![(left, top - 12), (right, top - 12)];
    area.draw(&PathElement::new(axis, INK.stroke_width(1)))
}

/// What is counted, if the names differ in the number at their beginning only.
fn counted<'a>(ats: &[&'a str]) -> Option<&'a str> {
    let rest = |at: &&'a str| at.split_once(' ').map(|(_, rest)| rest);
    let last = rest(ats.last()?)?;
    // "1 reader of" and "10 readers of" count the same.
    let same = |at: &&'a str| {
        rest(at)
            .is_some_and(|rest| rest.replace("er of", "ers of") == last || format!("{rest}s") == last || rest == last)
    };
    ats.iter().all(same).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::{counted, spread};

    #[test]
    fn names_keep_their_order_and_their_distance() {
        assert_eq!(spread(&[50, 52, 10, 49], (0, 100)), [62, 75, 10, 49]);
        assert_eq!(spread(&[99, 98, 97], (0, 100)), [100, 87, 74]);
    }

    #[test]
    fn what_is_counted_is_named_once() {
        assert_eq!(counted(&["1 reader of 16 MiB", "10 readers of 16 MiB"]), Some("readers of 16 MiB"));
        assert_eq!(counted(&["1 container", "10 containers"]), Some("containers"));
        assert_eq!(counted(&["1 of 300 files", "50 of 300 files"]), Some("of 300 files"));
        assert_eq!(counted(&["4 KiB", "64 KiB", "1 MiB"]), None);
    }
}
