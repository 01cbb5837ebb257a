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
    ("sqlite", "first transaction", "The first transaction of a {}"),
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

const GROUPS: [(Winner, &str); 4] = [
    (Winner::Block, "Where block-level copy-on-write wins"),
    (Winner::File, "Where file-level copy-on-write wins"),
    (Winner::Below, "Where it depends on the file system below overlayfs"),
    (Winner::Nobody, "Where there is no difference outside the noise"),
];

pub(super) fn write(page: &mut String, report: &Report) -> fmt::Result {
    let sentences: Vec<_> = HEADLINES.iter().filter_map(|headline| sentence(report, *headline)).collect();
    page.push_str("<section id=\"verdict\">\n");
    if report.runs < FEWEST {
        writeln!(
            page,
            "<p>With fewer than {FEWEST} runs no difference can be told from noise: there is no verdict.</p>"
        )?;
        return writeln!(page, "</section>");
    }
    if sentences.is_empty() {
        page.push_str(
            "<p>There is nothing to compare: it takes a block-level row, thin or btrfs, and one of overlay.</p>\n",
        );
    }
    for (winner, title) in GROUPS {
        let mut of_group = sentences.iter().filter(|(who, _)| *who == winner).peekable();
        if of_group.peek().is_none() {
            continue;
        }
        writeln!(page, "<h2>{title}</h2>\n<ul>")?;
        for (_, sentence) in of_group {
            writeln!(page, "<li>{}</li>", Text(sentence))?;
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</section>\n");
    Ok(())
}

/// At the largest size or number of which both sides were measured.
fn sentence(report: &Report, (workload, what, beginning): (&str, &str, &str)) -> Option<(Winner, String)> {
    let of_measure = |series: &&Series| series.workload == workload && series.what == what;
    let measured: Vec<&Series> = report.series.iter().filter(of_measure).collect();
    let is_block = |series: &&Series| series.row == "btrfs" || series.row.starts_with("thin/");
    let is_file = |series: &&Series| series.row.starts_with("overlay/");
    let mut ats: Vec<&str> = measured.iter().map(|series| &*series.at).collect();
    ats.dedup();
    let at = ats.into_iter().rev().find(|at| {
        let mut here = measured.iter().copied().filter(|series| series.at == *at);
        here.clone().any(|series| is_block(&series)) && here.any(|series| is_file(&series))
    })?;
    let here = || measured.iter().copied().filter(|series| series.at == at);
    let best = here().filter(is_block).min_by(|one, other| one.summary.median.total_cmp(&other.summary.median))?;
    let mut files: Vec<_> = here().filter(is_file).collect();
    files.sort_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
    let (least, most) = (*files.first()?, *files.last()?);
    let winner = winner(best, &files);
    let mut told = vec![best, least];
    if most != least {
        told.push(most);
    }
    told.sort_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
    let numbers: Vec<_> =
        told.iter().map(|series| format!("{} {}", series.row, series.unit.show(series.summary.median))).collect();
    let ratio = match winner {
        Winner::Nobody => None,
        Winner::File => times(best, least),
        Winner::Block | Winner::Below => times(most, best),
    };
    Some((winner, format!("{}: {}{}", beginning.replacen("{}", at, 1), numbers.join(", "), ratio.unwrap_or_default())))
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
fn times(large: &Series, small: &Series) -> Option<String> {
    let (large, small) = (large.summary.median, small.summary.median);
    let ratio = (small > 0.0).then(|| large / small)?;
    Some(if ratio < 9.95 { format!(": {ratio:.1} times") } else { format!(": {ratio:.0} times") })
}

#[cfg(test)]
mod tests {
    use super::{Series, Winner, times, winner};
    use crate::bench::Unit;

    fn series(row: &str, values: [f64; 3]) -> Series {
        Series::of("copy-up", row, ("first write", ""), Unit::Seconds, values.to_vec()).unwrap()
    }

    #[test]
    fn a_ratio_is_of_medians_and_there_is_none_of_zero() {
        let of = |value: f64| series("btrfs", [value; 3]);
        assert_eq!(times(&of(1434.0), &of(1.4)).as_deref(), Some(": 1024 times"));
        assert_eq!(times(&of(3.0), &of(2.0)).as_deref(), Some(": 1.5 times"));
        assert_eq!(times(&of(3.0), &of(0.0)), None);
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
