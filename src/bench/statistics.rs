//! What is said of a series of samples: order statistics, because a busy machine makes outliers on one side only.

use serde::{Deserialize, Serialize};

/// The samples of one side, in the workload's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many there were.
    pub samples: usize,
    /// The middle one.
    pub median: f64,
    /// A quarter of them is not above it.
    pub lower: f64,
    /// A quarter of them is not below it.
    pub upper: f64,
    /// Their sum divided by their number.
    pub mean: f64,
}

impl Summary {
    /// Of at least one sample.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            samples: sorted.len(),
            median: quantile(&sorted, 2)?,
            lower: quantile(&sorted, 1)?,
            upper: quantile(&sorted, 3)?,
            mean: sorted.iter().sum::<f64>() / count(sorted.len() as u64),
        })
    }

    /// Those of its samples that lie more than one and a half times the distance of the quartiles outside them (Tukey).
    pub(super) fn outliers(&self, samples: &[f64]) -> Vec<f64> {
        let fence = 1.5 * (self.upper - self.lower);
        let far = |value: &&f64| **value < self.lower - fence || **value > self.upper + fence;
        samples.iter().filter(far).copied().collect()
    }
}

/// The given quarter of ascending values, between two of them in proportion (R's type 7, the usual one).
fn quantile(sorted: &[f64], quarters: usize) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let (at, rest) = (last * quarters / 4, last * quarters % 4);
    let below = sorted[at];
    let above = sorted[(at + 1).min(last)];
    Some(below + (above - below) * count(rest as u64) / 4.0)
}

/// For people; exact far beyond what is counted here.
#[expect(clippy::cast_precision_loss, reason = "numbers here are far below 2^53")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn quartiles_lie_between_the_samples_in_proportion() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(
            (summary.samples, summary.lower, summary.median, summary.upper, summary.mean),
            (4, 1.75, 2.5, 3.25, 2.5)
        );
        let summary = Summary::of(&[10.0, 20.0, 30.0, 40.0, 1000.0]).unwrap();
        assert_eq!((summary.lower, summary.median, summary.upper, summary.mean), (20.0, 30.0, 40.0, 220.0));
        assert_eq!(summary.outliers(&[10.0, 20.0, 30.0, 40.0, 1000.0]), [1000.0]);
    }

    #[test]
    fn one_sample_is_all_of_them_and_none_is_nothing() {
        let summary = Summary::of(&[7.0]).unwrap();
        assert_eq!((summary.lower, summary.median, summary.upper), (7.0, 7.0, 7.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
