//! What fio tells of its jobs.

use serde_json::Value;

use crate::error::{Error, Kind, Result};

/// Bytes a second of each job, by fio's own clock. Of each job is told which side counts, `read` or `write`. The time of reads
/// is the sum of all of them, to the nanosecond; that of writes is fio's whole milliseconds, which have the sync at the end.
pub(super) fn rates<'a>(said: &str, sides: impl IntoIterator<Item = &'a str>) -> Result<Vec<f64>> {
    let told = || Error::new(Kind::Io, format!("fio: {said}"));
    // A note may come before.
    let json = said.find('{').map_or("", |at| &said[at..]);
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    let report = values.next().ok_or_else(told)?.map_err(|_| told())?;
    let rate = |(number, side): (usize, &str)| {
        let job = &report["jobs"][number][side];
        let rate = if side == "read" {
            let latency = &job["lat_ns"];
            let seconds = latency["mean"].as_f64().zip(latency["N"].as_f64()).map(|(mean, count)| mean * count / 1e9);
            job["io_bytes"].as_f64().zip(seconds).map(|(bytes, seconds)| bytes / seconds)
        } else {
            job["bw_bytes"].as_f64()
        };
        rate.filter(|rate| rate.is_finite() && *rate > 0.0).ok_or_else(told)
    };
    sides.into_iter().enumerate().map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::rates;

    #[test]
    fn each_job_has_its_side_and_a_missing_one_is_told() {
        let said = r#"note: x
            {"jobs":[{"read":{"io_bytes":7000,"bw_bytes":1,"lat_ns":{"mean":250.0,"N":4}},
                "write":{"bw_bytes":0}},{"read":{"io_bytes":0,"lat_ns":{"mean":0.0,"N":0}},"write":{"bw_bytes":9}}]}"#;
        assert_eq!(rates(said, ["read", "write"]).unwrap(), [7e9, 9.0]);
        for (said, sides) in [(said, &["write"][..]), (said, &["read", "write", "read"]), ("broken", &["read"])] {
            let error = rates(said, sides.iter().copied()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
