//! The numbers as CSV: a line per series, and one per measure that is missing.

use std::io;

use super::report::Report;

impl Report {
    /// Writes it: the columns are those of `series` in the JSON, without the samples themselves, and of `absent`.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_csv(&self, out: impl io::Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record([
            "workload", "row", "what", "at", "unit", "samples", "median", "lower", "upper", "mean", "outliers",
            "missing",
        ])?;
        for series in &self.series {
            let summary = &series.summary;
            let numbers = [summary.median, summary.lower, summary.upper, summary.mean].map(|number| number.to_string());
            let [median, lower, upper, mean] = &numbers;
            csv.write_record([
                &series.workload,
                &series.row,
                &series.what,
                &series.at,
                series.unit.name(),
                &*summary.samples.to_string(),
                median,
                lower,
                upper,
                mean,
                &*series.outliers.len().to_string(),
                "",
            ])?;
        }
        for absent in &self.absent {
            let verdict = if absent.failed { "failed" } else { "not run" };
            csv.write_record([
                &*absent.workload,
                &*absent.row,
                &*absent.what,
                &*absent.at,
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                &*format!("{verdict}: {}", absent.reason),
            ])?;
        }
        csv.flush()
    }
}
