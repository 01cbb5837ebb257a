//! The report as one HTML file that needs nothing else: a verdict in words, a chart per measure with its numbers, method.
//!
//! Invariant: every median of the report's `series` stands in a table of the page, in full as `data-median`; the verdict tells
//! medians of these, rounded, and their ratios.

mod axis;
mod bars;
mod chart;
mod lines;
mod palette;
mod verdict;

use std::{
    fmt::{self, Display, Write as _},
    io,
};

use super::report::{About, Absent, Outcome, Report, Series, Unit};

/// Text as it stands in HTML.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The numbers of one measure: a line per size or number that varies, a column per row.
struct Panel<'a> {
    what: &'a str,
    ats: Vec<&'a str>,
    rows: Vec<&'a str>,
    series: Vec<&'a Series>,
}

impl<'a> Panel<'a> {
    fn at(&self, row: &str, at: &str) -> Option<&'a Series> {
        self.series.iter().find(|series| series.row == row && series.at == at).copied()
    }

    /// Whether it was measured at sizes or numbers that grow, and not at different things.
    fn is_progression(&self) -> bool {
        self.ats.len() > 1 && self.ats.iter().all(|at| at.starts_with(|first: char| first.is_ascii_digit()))
    }
}

fn push_new<'a>(list: &mut Vec<&'a str>, name: &'a str) {
    if !list.contains(&name) {
        list.push(name);
    }
}

impl Report {
    /// Writes it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_html(&self, mut out: impl io::Write) -> io::Result<()> {
        let mut page = String::new();
        self.page(&mut page).map_err(io::Error::other)?;
        out.write_all(page.as_bytes())
    }

    fn page(&self, page: &mut String) -> fmt::Result {
        write!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>Block-level against file-level copy-on-write</title>\n<style>\n{}{}</style>\n</head>\n<body>\n<main>\n",
            include_str!("style.css"),
            palette::style(&self.rows)
        )?;
        let machine = &self.machine;
        writeln!(
            page,
            "<h1>Block-level against file-level copy-on-write</h1>\n<p class=\"where\">{}, Linux {}, {} × {}, disks on {}; \
             scale {}, {} run{}{}</p>",
            Text(&minute(&machine.date)),
            Text(&machine.kernel),
            machine.processors,
            Text(&machine.processor),
            Text(&machine.filesystem),
            Text(&self.scale),
            self.runs,
            if self.runs == 1 { "" } else { "s" },
            if self.complete { "" } else { ", interrupted" }
        )?;
        verdict::write(page, self)?;
        self.lost_rows(page)?;
        for workload in &self.workloads {
            self.workload(page, workload)?;
        }
        self.claims(page)?;
        self.method(page)?;
        page.push_str("</main>\n</body>\n</html>\n");
        Ok(())
    }

    fn panels(&self, workload: &str) -> Vec<Panel<'_>> {
        let of_workload = || self.series.iter().filter(|series| series.workload == workload);
        let mut whats = Vec::new();
        of_workload().for_each(|series| push_new(&mut whats, &series.what));
        let panel = |what| {
            let series: Vec<_> = of_workload().filter(|series| series.what == what).collect();
            let mut ats = Vec::new();
            series.iter().for_each(|series| push_new(&mut ats, &series.at));
            let names = self.rows.iter().map(|row| &*row.name);
            let rows = names.filter(|name| series.iter().any(|series| series.row == *name)).collect();
            Panel { what, ats, rows, series }
        };
        whats.into_iter().map(panel).collect()
    }

    fn workload(&self, page: &mut String, workload: &About) -> fmt::Result {
        let panels = self.panels(&workload.name);
        let lost = self.lost();
        // Those who are nowhere are told of once, above.
        let is_told =
            |absent: &&Absent| lost.iter().any(|one| (&one.row, &one.reason) == (&absent.row, &absent.reason));
        let of_workload = self.absent.iter().filter(|absent| absent.workload == workload.name);
        let absent: Vec<_> = of_workload.filter(|absent| !is_told(absent)).collect();
        if panels.is_empty() && absent.is_empty() {
            return Ok(());
        }
        writeln!(
            page,
            "<section id=\"{0}\">\n<h2>{0}</h2>\n<p>{1}</p>\n<blockquote>{2}</blockquote>",
            Text(&workload.name),
            Text(&workload.about),
            Text(workload.tests.as_deref().unwrap_or_default())
        )?;
        page.push_str("<div class=\"panels\">\n");
        for (number, panel) in panels.iter().enumerate() {
            self.panel(page, &format!("chart-{}-{number}", Text(&workload.name)), panel)?;
        }
        page.push_str("</div>\n");
        self.absent(page, &absent)?;
        page.push_str("</section>\n");
        Ok(())
    }

    fn panel(&self, page: &mut String, id: &str, panel: &Panel<'_>) -> fmt::Result {
        let class = if panel.is_progression() { "wide" } else { "narrow" };
        let better = match panel.series.first().map(|series| series.unit) {
            Some(Unit::BytesPerSecond) => "more is better",
            _ => "less is better",
        };
        writeln!(
            page,
            "<figure id=\"{id}\" class=\"{class}\">\n<figcaption>{} <small>{better}</small></figcaption>",
            Text(panel.what)
        )?;
        page.push_str(&chart::draw(panel, &self.rows).map_err(|_| fmt::Error)?);
        page.push_str("<div class=\"scroll\"><table>\n<thead><tr><th></th>");
        for at in &panel.ats {
            write!(page, "<th scope=\"col\">{}</th>", Text(at))?;
        }
        page.push_str("</tr></thead>\n<tbody>\n");
        for row in &panel.rows {
            let number = palette::place(&self.rows, row);
            write!(page, "<tr><th scope=\"row\" class=\"r{number}\">{}</th>", Text(row))?;
            for at in &panel.ats {
                match panel.at(row, at) {
                    Some(series) => cell(page, series)?,
                    None => page.push_str("<td>–</td>"),
                }
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n</figure>\n");
        Ok(())
    }

    /// The rows that gave no number at all, each for one reason.
    fn lost(&self) -> Vec<&Absent> {
        let has_numbers = |row: &str| self.series.iter().any(|series| series.row == row);
        let mut lost: Vec<&Absent> = Vec::new();
        for absent in self.absent.iter().filter(|absent| !has_numbers(&absent.row)) {
            if !lost.iter().any(|other| (&other.row, &other.reason) == (&absent.row, &absent.reason)) {
                lost.push(absent);
            }
        }
        lost
    }

    fn lost_rows(&self, page: &mut String) -> fmt::Result {
        let lost = self.lost();
        if lost.is_empty() {
            return Ok(());
        }
        page.push_str("<p class=\"lost\">Not here:");
        for (number, one) in lost.iter().enumerate() {
            let end = if number == 0 { "" } else { ";" };
            write!(page, "{end} <b>{}</b> ({})", Text(&one.row), Text(&one.reason))?;
        }
        page.push_str(".</p>\n");
        Ok(())
    }

    fn absent(&self, page: &mut String, absent: &[&Absent]) -> fmt::Result {
        if absent.is_empty() {
            return Ok(());
        }
        page.push_str("<div class=\"absent\"><h3>Not measured, and why</h3><ul>\n");
        for one in absent {
            let verdict = if one.failed { "failed" } else { "not run" };
            let parts = [&*one.row, &one.what, &one.at].into_iter().filter(|part| !part.is_empty());
            let place = parts.collect::<Vec<_>>().join(", ");
            writeln!(page, "<li>{}: {verdict}: {}</li>", Text(&place), Text(&one.reason))?;
        }
        page.push_str("</ul></div>\n");
        Ok(())
    }

    fn claims(&self, page: &mut String) -> fmt::Result {
        if self.claims.is_empty() {
            return Ok(());
        }
        page.push_str(
            "<section id=\"held\">\n<h2>What Lamina is held to</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>Workload</th>\
             <th>Driver</th><th>Measured</th><th>Median</th><th>Against</th><th>Median</th><th>Ratio</th><th>Limit</th><th></th>\
             </tr></thead>\n<tbody>\n",
        );
        for claim in &self.claims {
            write!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td>",
                Text(&claim.workload),
                claim.driver,
                Text(&claim.what)
            )?;
            let against = claim.against.clone().unwrap_or_default();
            let limit = claim.limit.map(|limit| limit.to_string()).unwrap_or_default();
            match &claim.outcome {
                Outcome::Measured { subject, base, ratio, met, .. } => {
                    let base = base.map(|base| claim.unit.show(base.median)).unwrap_or_default();
                    let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
                    let met = met.map_or("", |met| if met { "met" } else { "missed" });
                    let median = claim.unit.show(subject.median);
                    let cells = [&median, &against, &base, &ratio, &limit, met];
                    cells.iter().try_for_each(|cell| write!(page, "<td>{}</td>", Text(cell)))?;
                }
                Outcome::NotRun { reason } | Outcome::Failed { reason } => {
                    write!(page, "<td colspan=\"6\">{}</td>", Text(reason))?;
                }
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n</section>\n");
        Ok(())
    }

    fn method(&self, page: &mut String) -> fmt::Result {
        let machine = &self.machine;
        let warm = if self.warms_up { "one run before warms up and is thrown away" } else { "none before warms up" };
        let cold = if self.is_cold {
            "the caches were dropped just before"
        } else {
            "they should have been dropped, which this scale does not"
        };
        write!(
            page,
            "<section id=\"method\">\n<h2>Method</h2>\n<p>Each row has a sparse file of the same size on the same disk, and on it a \
             fresh pool or file system. Each run makes its containers anew and takes one sample of each measure. Within a run the \
             rows take turns, and each run begins with another row; {warm}. Clocks are \
             inside the process; where durability is claimed, <code>fsync</code> or <code>syncfs</code> is within the time; \
             ‘cold’ means that {cold}. Marks are medians (round: block-level, square: file-level, a diamond: both, a triangle: whole copies or the floor), lines \
             across them the quartiles. Axes begin at zero, or are logarithmic where values differ by more than thirty times; \
             there zero lies at the end. Outliers (samples farther from the quartiles than one and a half \
             times their distance) are counted below the medians. Where a difference is called one, the order of the \
             samples has a chance of less than one in twenty if there were none (Mann-Whitney U test, exact). \
             A number with × is the best row of the side that wins against the best of the other; where it depends, the best of all against the worst.</p>\n<h3>Rows</h3>\n<dl>\n"
        )?;
        for row in &self.rows {
            writeln!(
                page,
                "<dt class=\"r{}\">{}</dt><dd>{}</dd>",
                palette::place(&self.rows, &row.name),
                Text(&row.name),
                Text(&row.about)
            )?;
        }
        page.push_str("</dl>\n<h3>Machine</h3>\n<dl>\n");
        let build = if machine.debug_build { " (debug build: its own part of the times means little)" } else { "" };
        let facts = [
            ("Lamina", format!("{}{build}", machine.lamina)),
            ("Kernel", machine.kernel.clone()),
            ("Processor", format!("{} × {}", machine.processors, machine.processor)),
            ("Memory", super::Unit::Bytes.show(super::statistics::count(machine.memory))),
            ("Load before", machine.load.to_string()),
            ("Disks on", format!("{} ({})", machine.filesystem, machine.mount_options)),
            ("Programs", machine.programs.join("; ")),
        ];
        for (name, fact) in &facts {
            writeln!(page, "<dt>{name}</dt><dd>{}</dd>", Text(fact))?;
        }
        page.push_str("</dl>\n</section>\n");
        Ok(())
    }
}

/// A moment (RFC 3339, in UTC) to the minute.
fn minute(date: &str) -> String {
    match (date.get(..10), date.get(11..16)) {
        (Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => date.to_owned(),
    }
}

fn cell(page: &mut String, series: &Series) -> fmt::Result {
    let shown = |value| series.unit.show(value);
    let [lower, upper] = [series.summary.lower, series.summary.upper].map(shown);
    let (number, unit) = lower.split_once(' ').unwrap_or((&lower, ""));
    // The unit is told once where both have it.
    let lower = if upper.ends_with(&format!(" {unit}")) { number } else { &lower };
    let summary = &series.summary;
    let outliers = match series.outliers.len() {
        0 => String::new(),
        number => format!("; {number} of {} far out", summary.samples),
    };
    write!(
        page,
        "<td data-row=\"{}\" data-at=\"{}\" data-median=\"{}\"><b>{}</b><small>{}&#8239;…&#8239;{}{outliers}</small></td>",
        Text(&series.row),
        Text(&series.at),
        summary.median,
        shown(summary.median),
        lower,
        upper
    )
}

#[expect(clippy::cast_precision_loss, reason = "rows and sizes are few")]
fn number(count: usize) -> f64 {
    count as f64
}
