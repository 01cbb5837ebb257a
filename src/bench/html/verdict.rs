//! The verdict: for what people ask about, where block-level copy-on-write wins, where file-level does, and by how much.

use std::fmt::{self, Write as _};

use super::Text;
use crate::bench::{
    ranks,
    report::{Report, Series},
};

/// What stands in the verdict: workload, measure, and how a sentence about it begins; `{}` is the size or number.
const HEADLINES: [(&str, &str, &str); 15] = [
    ("copy-up", "first write", "The first write of 4 KiB, with fsync, into a file of {}"),
    ("copy-up", "space of the first write", "Space that this write takes, in a file of {}"),
    ("metadata", "chmod", "chmod of a {}"),
    ("depth", "lookup and open, cold", "Opening a file of the lowest of {}, nothing cached"),
    ("trees", "first change, 64 deep", "The first change of a file 64 directories deep"),
    ("trees", "make", "Making {}"),
    ("trees", "first change of 1 %", "The first change of 1 % of {}"),
    ("containers", "create", "Making a container ({})"),
    ("containers", "space, mounted once", "Space of a container ({})"),
    ("changes", "diff", "Telling what changed, {}"),
    ("changes", "commit", "Commit of a container, {}"),
    ("page-cache", "memory of the file", "Memory in the page cache for {}"),
    ("unpack", "unpack", "dpkg unpacking {}"),
    ("sqlite", "open and first transaction", "Opening and the first transaction of a {}"),
    ("checkout", "checkout", "git checkout, {}"),
];

/// With fewer samples of each side no order of them is as unlikely as [`CHANCE`].
const FEWEST: usize = 4;

/// What of differences that are none is called one all the same.
const CHANCE: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Winner {
    Block,
    File,
    Below,
    Nobody,
}

/// A headline with its numbers.
struct Finding<'a> {
    winner: Winner,
    beginning: String,
    /// In ascending order.
    told: Vec<&'a Series>,
    /// The two between which the difference is told, the better one first.
    sides: Option<[&'a Series; 2]>,
}

impl Finding<'_> {
    fn ratio(&self) -> Option<f64> {
        self.sides.and_then(|[less, more]| ratio(more, less))
    }
}

const GROUPS: [(Winner, &str, &str); 3] = [
    (Winner::Block, "block", "Where block-level copy-on-write wins"),
    (Winner::File, "file", "Where file-level copy-on-write wins"),
    (Winner::Below, "below", "Where it depends on the driver or the file system below"),
];

pub(super) fn write(page: &mut String, report: &Report) -> fmt::Result {
    page.push_str("<section id=\"verdict\">\n");
    if report.runs < FEWEST {
        writeln!(
            page,
            "<p>With fewer than {FEWEST} runs no difference can be told from noise: there is no verdict.</p>\n</section>"
        )?;
        return Ok(());
    }
    let findings: Vec<_> = HEADLINES.iter().filter_map(|headline| finding(report, *headline)).collect();
    if findings.is_empty() {
        page.push_str(
            "<p>There is nothing to compare: it takes a block-level row, thin or btrfs, and one of overlay.</p>\n",
        );
    }
    lede(page, &findings)?;
    page.push_str("<div class=\"groups\">\n");
    for (winner, class, title) in GROUPS {
        let mut of_group = findings.iter().filter(|finding| finding.winner == winner).peekable();
        if of_group.peek().is_none() {
            continue;
        }
        writeln!(page, "<div class=\"{class}\"><h2>{title}</h2>\n<ul>")?;
        for finding in of_group {
            let ratio = finding.ratio().map_or("–".to_owned(), times);
            let (beginning, numbers) = (Text(&finding.beginning), numbers(&finding.told));
            writeln!(page, "<li><b>{ratio}</b><div>{beginning}<small>{numbers}</small></div></li>")?;
        }
        page.push_str("</ul></div>\n");
    }
    page.push_str("</div>\n");
    let even = findings.iter().filter(|finding| finding.winner == Winner::Nobody);
    let even: Vec<_> =
        even.map(|finding| format!("{} ({})", Text(&finding.beginning), numbers(&finding.told))).collect();
    if !even.is_empty() {
        writeln!(page, "<p class=\"even\">No difference outside the noise: {}.</p>", even.join("; "))?;
    }
    page.push_str("</section>\n");
    Ok(())
}

/// What either wins by most, in a sentence; for block-level what comes first, for which people ask.
fn lede(page: &mut String, findings: &[Finding<'_>]) -> fmt::Result {
    let told = || findings.iter().filter_map(|finding| Some((finding, finding.sides?, finding.ratio()?)));
    let block = told().find(|(finding, [less, _], _)| finding.winner != Winner::File && is_block(less));
    let of_file = told().filter(|(finding, ..)| finding.winner == Winner::File);
    let file = of_file.max_by(|(.., one), (.., other)| one.total_cmp(other));
    page.push_str("<div class=\"lede\">\n");
    for (class, told) in [("block", block), ("file", file)] {
        let Some((finding, sides, ratio)) = told else { continue };
        let title = match finding.winner {
            Winner::File => "File-level wins",
            Winner::Below => "Block-level wins over whole copies",
            _ => "Block-level wins",
        };
        // Who is no less good as block-level rows is named, too.
        let third = finding.told.first().filter(|least| finding.winner == Winner::Below && !is_block(least));
        let third = third.map(|third| format!("; {}", side(third))).unwrap_or_default();
        let ([one, other], beginning, ratio) = (sides.map(side), Text(&finding.beginning), times(ratio));
        writeln!(page, "<p class=\"{class}\"><small>{title}</small>{beginning}: {one}, {other}: {ratio}{third}</p>")?;
    }
    page.push_str("</div>\n");
    Ok(())
}

fn side(series: &Series) -> String {
    format!("{} <b>{}</b>", Text(&series.row.replace('/', " on ")), series.unit.show(series.summary.median))
}

fn numbers(told: &[&Series]) -> String {
    let number =
        |series: &&Series| format!("<span>{} {}</span>", Text(&series.row), series.unit.show(series.summary.median));
    told.iter().map(number).collect::<Vec<_>>().join(", ")
}

fn is_block(series: &Series) -> bool {
    series.row == "btrfs" || series.row.starts_with("thin/")
}

fn is_file(series: &Series) -> bool {
    series.row.starts_with("overlay/")
}

/// At the largest size or number of which both sides were measured often enough.
fn finding<'a>(report: &'a Report, (workload, what, beginning): (&str, &str, &str)) -> Option<Finding<'a>> {
    let counts = |series: &&Series| series.workload == workload && series.what == what && series.values.len() >= FEWEST;
    let mut measured: Vec<&Series> = report.series.iter().filter(counts).collect();
    let mut ats: Vec<&str> = Vec::new();
    measured.iter().for_each(|series| super::push_new(&mut ats, &series.at));
    let has = |at: &str, side: fn(&Series) -> bool| measured.iter().any(|series| series.at == at && side(series));
    let at = ats.into_iter().rev().find(|at| has(at, is_block) && has(at, is_file))?;
    measured.retain(|series| series.at == at && (is_block(series) || is_file(series)));
    measured.sort_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
    let (blocks, files): (Vec<&Series>, Vec<&Series>) = measured.into_iter().partition(|series| is_block(series));
    let (winner, sides) = compare(&blocks, &files)?;
    let mut told = vec![*blocks.first()?, *blocks.last()?, *files.first()?, *files.last()?];
    told.sort_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
    told.dedup_by_key(|series| &series.row);
    Some(Finding { winner, beginning: beginning.replacen("{}", at, 1), told, sides })
}

/// Who wins, and the two that show it, by the same rule for both: its best row is ahead of the other's best, and none of its own is
/// behind that. Each in ascending order.
fn compare<'a>(blocks: &[&'a Series], files: &[&'a Series]) -> Option<(Winner, Option<[&'a Series; 2]>)> {
    let (block, worst_block) = (*blocks.first()?, *blocks.last()?);
    let (file, worst_file) = (*files.first()?, *files.last()?);
    let is_behind = |rows: &[&Series], best| rows.iter().any(|row| is_ahead(best, row));
    Some(match (is_behind(files, block), is_behind(blocks, file)) {
        (false, false) => (Winner::Nobody, None),
        (true, false) if is_ahead(block, file) => (Winner::Block, Some([block, file])),
        (false, true) if is_ahead(file, block) => (Winner::File, Some([file, block])),
        (true, _) => (Winner::Below, Some([block, worst_file])),
        (false, true) => (Winner::Below, Some([file, worst_block])),
    })
}

/// Whether it is less, and by the order of the samples that is no chance.
fn is_ahead(one: &Series, other: &Series) -> bool {
    one.summary.median < other.summary.median && ranks::chance(&one.values, &other.values) < CHANCE
}

/// How many times the one is the other; of zero nothing is a multiple.
fn ratio(large: &Series, small: &Series) -> Option<f64> {
    let (large, small) = (large.summary.median, small.summary.median);
    (small > 0.0).then(|| large / small)
}

fn times(ratio: f64) -> String {
    if ratio < 9.95 { format!("{ratio:.1} ×") } else { format!("{ratio:.0} ×") }
}

#[cfg(test)]
mod tests {
    use super::{FEWEST, Series, Winner, compare, ratio, times};
    use crate::bench::{About, Machine, Report, SCALES, Unit};

    fn series(row: &str, values: [f64; 4]) -> Series {
        Series::of("copy-up", row, ("first write", "1 MiB"), Unit::Seconds, values.to_vec()).unwrap()
    }

    #[test]
    fn a_ratio_is_of_medians_and_there_is_none_of_zero() {
        let of = |value: f64| series("btrfs", [value; 4]);
        assert_eq!(ratio(&of(1434.0), &of(1.4)).map(times).as_deref(), Some("1024 ×"));
        assert_eq!(ratio(&of(3.0), &of(2.0)).map(times).as_deref(), Some("1.5 ×"));
        assert_eq!(ratio(&of(3.0), &of(0.0)), None);
    }

    const SLOW: [f64; 4] = [90.0, 91.0, 92.0, 93.0];
    const FAST: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
    const MIDDLE: [f64; 4] = [10.0, 11.0, 12.0, 13.0];
    /// Quartiles apart from those of [`MIDDLE`], but one sample in four among them.
    const NOISY: [f64; 4] = [11.5, 20.0, 21.0, 22.0];

    #[test]
    fn the_same_rule_holds_for_both_sides() {
        for (one, other, expected) in [
            (SLOW, SLOW, Winner::Block),
            (FAST, FAST, Winner::File),
            (SLOW, FAST, Winner::Below),
            (SLOW, MIDDLE, Winner::Below),
            (FAST, MIDDLE, Winner::File),
            (MIDDLE, MIDDLE, Winner::Nobody),
            (NOISY, NOISY, Winner::Nobody),
        ] {
            let (block, rows) = (series("btrfs", MIDDLE), [series("overlay/ext4", one), series("overlay/xfs", other)]);
            let mut rows: Vec<_> = rows.iter().collect();
            rows.sort_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
            let winner = |blocks: &[&Series], files: &[&Series]| compare(blocks, files).unwrap().0;
            assert_eq!(winner(&[&block], &rows), expected, "{rows:?}");
            let mirrored = match expected {
                Winner::Block => Winner::File,
                Winner::File => Winner::Block,
                other => other,
            };
            assert_eq!(winner(&rows, &[&block]), mirrored, "{rows:?}");
        }
    }

    #[test]
    fn every_scale_but_that_which_only_tries_has_runs_enough() {
        for scale in SCALES.iter().filter(|scale| scale.name != "tiny") {
            assert!(scale.runs >= FEWEST, "{}", scale.name);
        }
    }

    fn verdict(runs: usize, series: Vec<Series>) -> String {
        let rows = ["btrfs", "thin/ext4", "overlay/ext4", "overlay/xfs"].map(|row| About::of(row, "", None));
        let report = Report {
            version: 1,
            complete: true,
            scale: "quick".to_owned(),
            runs,
            warms_up: true,
            is_cold: true,
            machine: Machine::here(std::path::Path::new("/")).unwrap(),
            rows: rows.to_vec(),
            workloads: Vec::new(),
            series,
            absent: Vec::new(),
            claims: Vec::new(),
        };
        let mut page = String::new();
        super::write(&mut page, &report).unwrap();
        page
    }

    #[test]
    fn the_sentence_has_the_medians_of_the_rows_that_it_names_and_their_ratio() {
        let page = verdict(
            4,
            vec![
                series("btrfs", MIDDLE),
                series("thin/ext4", FAST),
                series("overlay/ext4", SLOW),
                series("overlay/xfs", NOISY),
            ],
        );
        let beginning = "The first write of 4 KiB, with fsync, into a file of 1 MiB";
        let lede = format!("{beginning}: thin on ext4 <b>2.50 s</b>, overlay on xfs <b>20.5 s</b>: 8.2 ×</p>");
        assert!(page.contains(&lede), "{page}");
        let item = format!(
            "<li><b>8.2 ×</b><div>{beginning}<small><span>thin/ext4 2.50 s</span>, <span>btrfs 11.5 s</span>, \
             <span>overlay/xfs 20.5 s</span>, <span>overlay/ext4 91.5 s</span></small></div></li>"
        );
        assert!(page.contains(&item) && page.contains("Where block-level"), "{page}");
        assert!(!page.contains("Where file-level") && !page.contains("No difference"), "{page}");
    }

    #[test]
    fn what_is_noise_or_of_too_few_samples_wins_nothing() {
        let page = verdict(4, vec![series("btrfs", MIDDLE), series("overlay/ext4", NOISY)]);
        assert!(page.contains("No difference outside the noise") && !page.contains("<li>"), "{page}");
        let mut broken = series("overlay/ext4", SLOW);
        broken.values.pop();
        let page = verdict(4, vec![series("btrfs", MIDDLE), broken]);
        assert!(page.contains("nothing to compare"), "{page}");
        let page = verdict(3, vec![series("btrfs", MIDDLE), series("overlay/ext4", SLOW)]);
        assert!(page.contains("there is no verdict") && !page.contains("<li>"), "{page}");
    }
}
