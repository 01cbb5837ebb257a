//! What changed between two reports, as a table.

use anyhow::Result;

use crate::{
    bench::{Change, Comparison, Pair, Saved},
    cli::output,
};

/// Prints the changes that are outside the noise, and how many measures there were besides.
pub(in crate::cli) fn print(old: &Saved, new: &Saved) -> Result<()> {
    let Comparison { pairs, gone, added, differences } = old.compare(new);
    for difference in differences {
        output::line(format_args!("not the same in both: {difference}"))?;
    }
    let is_change = |pair: &&Pair<'_>| matches!(pair.change, Change::Better | Change::Worse);
    let header = ["WORKLOAD", "ROW", "WHAT", "AT", "OLD", "NEW", "CHANGE", ""];
    let changed: Vec<_> = pairs.iter().filter(is_change).map(cells).collect();
    let number = changed.len();
    if number > 0 {
        output::table(&header, changed)?;
    }
    let count = |change| pairs.iter().filter(|pair| pair.change == change).count();
    output::line(format_args!(
        "{number} changed, {} within the noise, {} with too few samples to tell (fewer than 5), {gone} only in the old, \
         {added} only in the new",
        count(Change::Noise),
        count(Change::TooFew)
    ))
}

fn cells(pair: &Pair<'_>) -> Vec<String> {
    let Pair { old, new, change } = pair;
    let verdict = if *change == Change::Better { "better" } else { "WORSE" };
    let (before, after) = (old.summary.median, new.summary.median);
    let part = if before == 0.0 { "from 0".to_owned() } else { format!("{:+.0} %", (after / before - 1.0) * 100.0) };
    let numbers = [before, after].map(|value| old.unit.show(value));
    let names = [&old.workload, &old.row, &old.what, &old.at].map(Clone::clone);
    names.into_iter().chain(numbers).chain([part, verdict.to_owned()]).collect()
}
