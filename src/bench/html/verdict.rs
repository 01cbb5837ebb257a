//! The verdict: for what people ask about, where block-level copy-on-write wins, where file-level does, and by how much.

use std::fmt::{self, Write as _};

use super::Text;
use crate::bench::report::{Report, Series};

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

/// Quartiles of fewer samples are no more than the samples.
const FEWEST: usize = 3;

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
    ratio: Option<f64>,
}

const GROUPS: [(Winner, &str, &str); 3] = [
    (Winner::Block, "block", "Where block-level copy-on-write wins"),
    (Winner::File, "file", "Where file-level copy-on-write wins"),
    (Winner::Below, "below", "Where it depends on the file system below overlayfs"),
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
        for Finding { beginning, told, ratio, .. } in of_group {
            let ratio = ratio.map_or("–".to_owned(), times);
            writeln!(page, "<li><b>{ratio}</b><div>{}<small>{}</small></div></li>", Text(beginning), numbers(told))?;
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
    let has_ratio = |finding: &&Finding<'_>| finding.ratio.is_some();
    let block = findings.iter().filter(has_ratio).find(|one| matches!(one.winner, Winner::Block | Winner::Below));
    let of_file = findings.iter().filter(has_ratio).filter(|finding| finding.winner == Winner::File);
    let file = of_file.max_by(|one, other| one.ratio.unwrap_or(0.0).total_cmp(&other.ratio.unwrap_or(0.0)));
    page.push_str("<div class=\"lede\">\n");
    for (class, finding) in [("block", block), ("file", file)] {
        let Some(Finding { winner, beginning, told, ratio: Some(ratio) }) = finding else { continue };
        let (Some(least), Some(most)) = (told.first(), told.last()) else { continue };
        let block = told.iter().find(|series| is_block(series)).unwrap_or(least);
        // The better side first; who is no less good as block-level rows is named, too.
        let (sides, third) = match winner {
            Winner::File => ([*least, *block], None),
            _ => ([*block, *most], (winner == &Winner::Below && !is_block(least)).then(|| side(least))),
        };
        let title = match winner {
            Winner::File => "File-level wins",
            Winner::Below => "Block-level wins over whole copies",
            _ => "Block-level wins",
        };
        let ([one, other], third) = (sides.map(side), third.map(|third| format!("; {third}")).unwrap_or_default());
        let (beginning, ratio) = (Text(beginning), times(*ratio));
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

/// At the largest size or number of which both sides were measured.
fn finding<'a>(report: &'a Report, (workload, what, beginning): (&str, &str, &str)) -> Option<Finding<'a>> {
    let of_measure = |series: &&Series| series.workload == workload && series.what == what;
    let measured: Vec<&Series> = report.series.iter().filter(of_measure).collect();
    let mut ats: Vec<&str> = measured.iter().map(|series| &*series.at).collect();
    ats.dedup();
    let at = ats.into_iter().rev().find(|at| {
        let mut here = measured.iter().copied().filter(|series| series.at == *at);
        here.clone().any(is_block) && here.any(is_file)
    })?;
    let here = || measured.iter().copied().filter(|series| series.at == at);
    let ascending = |one: &&Series, other: &&Series| one.summary.median.total_cmp(&other.summary.median);
    let best = here().filter(|series| is_block(series)).min_by(ascending)?;
    let mut files: Vec<_> = here().filter(|series| is_file(series)).collect();
    files.sort_by(ascending);
    let (least, most) = (*files.first()?, *files.last()?);
    let winner = winner(best, &files);
    let mut told = vec![best, least];
    if most != least {
        told.push(most);
    }
    told.sort_by(ascending);
    let ratio = match winner {
        Winner::Nobody => None,
        Winner::File => ratio(best, least),
        Winner::Block | Winner::Below => ratio(most, best),
    };
    Some(Finding { winner, beginning: beginning.replacen("{}", at, 1), told, ratio })
}

/// Differences count where the quartiles do not overlap.
fn winner(block: &Series, files: &[&Series]) -> Winner {
    let less = files.iter().filter(|file| block.summary.upper < file.summary.lower).count();
    let more = files.iter().filter(|file| block.summary.lower > file.summary.upper).count();
    match (less, more) {
        (0, 0) => Winner::Nobody,
        (less, 0) if less == files.len() => Winner::Block,
        (0, more) if more == files.len() => Winner::File,
        _ => Winner::Below,
    }
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
    use super::{Series, Winner, ratio, times, winner};
    use crate::bench::Unit;

    fn series(row: &str, values: [f64; 3]) -> Series {
        Series::of("copy-up", row, ("first write", ""), Unit::Seconds, values.to_vec()).unwrap()
    }

    #[test]
    fn a_ratio_is_of_medians_and_there_is_none_of_zero() {
        let of = |value: f64| series("btrfs", [value; 3]);
        assert_eq!(ratio(&of(1434.0), &of(1.4)).map(times).as_deref(), Some("1024 ×"));
        assert_eq!(ratio(&of(3.0), &of(2.0)).map(times).as_deref(), Some("1.5 ×"));
        assert_eq!(ratio(&of(3.0), &of(0.0)), None);
    }

    #[test]
    fn who_wins_must_win_against_every_file_system_below() {
        let block = series("btrfs", [10.0, 11.0, 12.0]);
        let (slow, fast, alike) = ([90.0, 91.0, 92.0], [1.0, 2.0, 3.0], [9.0, 11.0, 13.0]);
        for (ext4, xfs, expected) in [
            (slow, slow, Winner::Block),
            (fast, fast, Winner::File),
            (slow, fast, Winner::Below),
            (slow, alike, Winner::Below),
            (alike, alike, Winner::Nobody),
        ] {
            let (ext4, xfs) = (series("overlay/ext4", ext4), series("overlay/xfs", xfs));
            assert_eq!(winner(&block, &[&ext4, &xfs]), expected, "{ext4:?} {xfs:?}");
        }
    }
}
