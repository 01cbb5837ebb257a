//! An axis of values: from zero where they are of one size, logarithmic where they differ by much; with round numbers.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::bench::report::Unit;

/// Values that differ by more than this would hide each other on a linear axis.
const SPREAD: f64 = 30.0;

/// See the module's comment.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    unit: Unit,
    low: f64,
    high: f64,
    pub(super) logarithmic: bool,
}

impl Axis {
    /// For these values.
    pub(super) fn new(unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most, mut has_zero) = (f64::INFINITY, 0.0_f64, false);
        for value in values {
            has_zero |= value <= 0.0;
            most = most.max(value);
            if value > 0.0 {
                least = least.min(value);
            }
        }
        if most <= 0.0 {
            return Self { unit, low: 0.0, high: 1.0, logarithmic: false };
        }
        if most <= SPREAD * least {
            return Self { unit, low: 0.0, high: most * 1.05, logarithmic: false };
        }
        // Zero has no logarithm and lies at the end.
        Self { unit, low: least / if has_zero { 4.0 } else { 1.6 }, high: most * 1.6, logarithmic: true }
    }

    /// A value that has a place on it.
    pub(super) fn inside(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// Where it begins.
    pub(super) const fn low(&self) -> f64 {
        self.low
    }

    fn part(&self, value: f64) -> f64 {
        let value = self.inside(value);
        if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// At most about `most` round values.
    fn ticks(&self, most: usize) -> Vec<f64> {
        let bases: &[f64] = match (self.logarithmic, self.unit) {
            (false, _) => return self.linear_ticks(most),
            (true, Unit::Seconds) => &[10.0, 100.0, 1000.0],
            (true, Unit::Bytes | Unit::BytesPerSecond) => &[4.0, 16.0, 64.0, 1024.0, 16384.0],
        };
        let of_base = |base: &f64| {
            let (from, to) = (self.low.log(*base).ceil(), self.high.log(*base).floor());
            let powers =
                std::iter::successors(Some(from), |power| Some(power + 1.0)).take_while(move |power| *power <= to);
            powers.map(|power| base.powf(power)).collect::<Vec<_>>()
        };
        let all = bases.iter().map(of_base);
        all.reduce(|fine, coarse| if fine.len() <= most { fine } else { coarse }).unwrap_or_default()
    }

    fn linear_ticks(&self, most: usize) -> Vec<f64> {
        let (step, _) = self.unit.step(self.high);
        let rough = self.high / step / f64::from(u32::try_from(most).unwrap_or(u32::MAX).max(1));
        let power = 10_f64.powf(rough.log10().floor());
        let by = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|by| *by >= rough).unwrap_or(rough);
        let values = std::iter::successors(Some(0.0), |value| Some(value + by * step));
        values.take_while(|value| *value <= self.high).collect()
    }

    fn name(&self, value: f64) -> String {
        if value <= 0.0 {
            return "0".to_owned();
        }
        // On a linear axis all have the same unit.
        let (step, name) = self.unit.step(if self.logarithmic { value * 1.001 } else { self.high });
        let number = format!("{:.3}", value / step);
        format!("{} {name}", number.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let part = self.part(*value) * f64::from(to - from);
        #[expect(clippy::cast_possible_truncation, reason = "a place on a drawing, between two i32")]
        let part = part.round() as i32;
        from + part
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.max_num_points())
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.name(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::Axis;
    use crate::bench::Unit;

    fn told(unit: Unit, values: &[f64]) -> Vec<String> {
        let axis = Axis::new(unit, values.iter().copied());
        axis.ticks(5).into_iter().map(|value| axis.name(value)).collect()
    }

    #[test]
    fn values_of_one_size_begin_at_zero_and_share_a_unit() {
        assert_eq!(told(Unit::Seconds, &[0.000_4, 0.002_1]), ["0", "0.5 ms", "1 ms", "1.5 ms", "2 ms"]);
        assert_eq!(
            told(Unit::Bytes, &[16.0 * 1_048_576.0, 160.0 * 1_048_576.0]),
            ["0", "50 MiB", "100 MiB", "150 MiB"]
        );
        assert_eq!(told(Unit::Bytes, &[0.0]), ["0", "0.2 B", "0.4 B", "0.6 B", "0.8 B", "1 B"]);
    }

    #[test]
    fn values_that_differ_by_much_are_logarithmic() {
        assert_eq!(told(Unit::Seconds, &[0.001, 1.4]), ["1 ms", "10 ms", "100 ms", "1 s"]);
        assert_eq!(
            told(Unit::Bytes, &[0.0, 4096.0, 1_073_741_824.0]),
            ["4 KiB", "64 KiB", "1 MiB", "16 MiB", "256 MiB"]
        );
    }
}
