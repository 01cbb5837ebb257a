//! The numbers as CSV: a line per series, and one per measure that is missing.

use std::io;

use super::report::{Absent, Claimed, Report, Series};

const HEADER: [&str; 12] =
    ["workload", "row", "what", "at", "unit", "samples", "median", "lower", "upper", "mean", "outliers", "missing"];

impl Report {
    /// Writes it: the columns are those of `series` in the JSON, without the samples themselves, and of `absent`; then come
    /// the two sides of each claim, in the same form.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_csv(&self, out: impl io::Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(HEADER)?;
        self.series.iter().try_for_each(|series| csv.write_record(measured(series)))?;
        self.absent.iter().try_for_each(|absent| csv.write_record(missing(absent)))?;
        self.claims.iter().flat_map(Claimed::sides).try_for_each(|side| csv.write_record(measured(&side)))?;
        self.claims.iter().filter_map(Claimed::absent).try_for_each(|absent| csv.write_record(missing(&absent)))?;
        csv.flush()
    }
}

fn measured(series: &Series) -> Vec<String> {
    let Series { workload, row, what, at, unit, summary, outliers, .. } = series;
    let words = [workload, row, what, at].map(String::clone).into_iter().chain([unit.name().to_owned()]);
    let numbers = [summary.median, summary.lower, summary.upper, summary.mean].map(|number| number.to_string());
    let counts = [summary.samples, outliers.len()].map(|count| count.to_string());
    let [samples, outliers] = counts;
    words.chain([samples]).chain(numbers).chain([outliers, String::new()]).collect()
}

fn missing(Absent { workload, row, what, at, failed, reason }: &Absent) -> Vec<String> {
    let verdict = if *failed { "failed" } else { "not run" };
    let mut cells: Vec<String> = [workload, row, what, at].map(String::clone).into();
    cells.resize(HEADER.len() - 1, String::new());
    cells.push(format!("{verdict}: {reason}"));
    cells
}
