//! What fio tells of its jobs.

use serde_json::Value;

use crate::error::{Error, Kind, Result};

/// Bytes a second of each job, by fio's own clock. Of each job is told which side counts, `read` or `write`.
pub(super) fn rates<'a>(said: &str, sides: impl IntoIterator<Item = &'a str>) -> Result<Vec<f64>> {
    let told = || Error::new(Kind::Io, format!("fio: {said}"));
    // A note may come before.
    let json = said.find('{').map_or("", |at| &said[at..]);
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    let report = values.next().ok_or_else(told)?.map_err(|_| told())?;
    let rate = |(number, side): (usize, &str)| {
        report["jobs"][number][side]["bw_bytes"].as_f64().filter(|rate| *rate > 0.0).ok_or_else(told)
    };
    sides.into_iter().enumerate().map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::rates;

    #[test]
    fn each_job_has_its_side_and_a_missing_one_is_told() {
        let said = r#"note: x
            {"jobs":[{"read":{"bw_bytes":7},"write":{"bw_bytes":0}},{"read":{"bw_bytes":0},"write":{"bw_bytes":9}}]}"#;
        assert_eq!(rates(said, ["read", "write"]).unwrap(), [7.0, 9.0]);
        for (said, sides) in [(said, &["write"][..]), (said, &["read", "write", "read"]), ("broken", &["read"])] {
            let error = rates(said, sides.iter().copied()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
