//! Whether two series of samples may come from the same source: the Mann-Whitney U test, exact, also with ties; of many
//! samples the usual normal approximation.
//!
//! Only the order of the samples counts. Of all ways to deal the pooled ranks to the two sides, it counts those that part
//! them as far as they were found parted, or farther.

use super::statistics::count;

/// Most samples of a side that are counted exactly: time and memory grow with their fourth and third power.
const MOST: usize = 30;

/// The chance of a sum of ranks at least as far from its mean as the one found, if both are the same (two-sided).
pub(super) fn chance(one: &[f64], other: &[f64]) -> f64 {
    let ranks = doubled_ranks(one, other);
    if one.len().max(other.len()) > MOST {
        return approximate(&ranks, one.len());
    }
    let total: usize = ranks.iter().sum();
    // ways[taken][sum]: so many ways to take so many of the ranks with that sum.
    let mut ways = vec![vec![0.0; total + 1]; one.len() + 1];
    ways[0][0] = 1.0;
    for rank in &ranks {
        for taken in (1..=one.len()).rev() {
            for sum in (*rank..=total).rev() {
                ways[taken][sum] += ways[taken - 1][sum - rank];
            }
        }
    }
    let found: usize = ranks[..one.len()].iter().sum();
    // Sums times the number of ranks, so that the mean is a whole number, too.
    let distance = |sum: usize| (sum * ranks.len()).abs_diff(total * one.len());
    let far = |(sum, _): &(usize, &f64)| distance(*sum) >= distance(found);
    let all = &ways[one.len()];
    all.iter().enumerate().filter(far).map(|(_, ways)| ways).sum::<f64>() / all.iter().sum::<f64>()
}

/// The same by the normal distribution, with its variance corrected for ties, and for steps of the sum of ranks.
fn approximate(ranks: &[usize], one: usize) -> f64 {
    let number = |number: usize| count(number as u64);
    let (all, one_side, other) = (number(ranks.len()), number(one), number(ranks.len() - one));
    let equals = |rank: &usize| number(ranks.iter().filter(|other| *other == rank).count());
    let ties: f64 = ranks.iter().map(|rank| equals(rank).powi(2) - 1.0).sum();
    let variance = one_side * other / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let sum = number(ranks[..one].iter().sum()) / 2.0;
    let distance = (sum - one_side * (all + 1.0) / 2.0).abs() - 0.5;
    outside(distance.max(0.0) / variance.sqrt())
}

/// The part of a normal distribution that lies farther from its mean than so many standard deviations, to seven decimals
/// (Abramowitz and Stegun, 7.1.26).
fn outside(deviations: f64) -> f64 {
    const FACTORS: [f64; 5] = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let x = deviations / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    FACTORS.iter().fold(0.0, |sum, factor| (sum + factor) * t) * (-x * x).exp()
}

/// Twice the rank of each among all, those of `one` first; equals share the mean of their ranks, so twice it is whole.
fn doubled_ranks(one: &[f64], other: &[f64]) -> Vec<usize> {
    let all = || one.iter().chain(other);
    let rank = |value: &f64| {
        let below = all().filter(|another| another.total_cmp(value).is_lt()).count();
        let equal = all().filter(|another| another.total_cmp(value).is_eq()).count();
        2 * below + equal + 1
    };
    all().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::{approximate, chance, doubled_ranks};

    /// How many ways there are to choose `few` of `many`.
    fn choose(many: u32, few: u32) -> f64 {
        (0..few).map(|step| f64::from(many - step) / f64::from(step + 1)).product()
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn wholly_parted_sides_have_the_least_chance_whichever_is_greater() {
        let (low, high) = ([1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]);
        close(chance(&low, &high), 2.0 / choose(10, 5));
        close(chance(&high, &low), 2.0 / choose(10, 5));
        close(chance(&low, &high[..3]), 2.0 / choose(8, 3));
    }

    #[test]
    fn equal_sides_are_certain_to_be_found() {
        close(chance(&[4.0; 5], &[4.0; 7]), 1.0);
        close(chance(&[1.0, 4.0], &[2.0, 3.0]), 1.0);
    }

    #[test]
    fn many_samples_have_about_the_chance_that_few_have_exactly() {
        let side =
            |shift: u32| -> Vec<f64> { (0..30).map(|number| f64::from((number * 7) % 30 / 2 + shift)).collect() };
        for shift in [0, 2, 3, 5] {
            let (one, other) = (side(0), side(shift));
            let (exact, about) = (chance(&one, &other), approximate(&doubled_ranks(&one, &other), one.len()));
            assert!((exact - about).abs() < 0.005, "{shift}: {exact} {about}");
        }
        let many = |from: u32| -> Vec<f64> { (from..from + 1000).map(f64::from).collect() };
        assert!(chance(&many(0), &many(1)) > 0.9);
        assert!(chance(&many(0), &many(200)) < 1e-6);
        close(chance(&[4.0; 600], &[4.0; 600]), 1.0);
    }

    #[test]
    fn ties_share_their_ranks() {
        // By hand: ranks 1, 2.5 | 2.5, 4: of six ways to take two, the sums 3.5 and 6.5 come up twice each, 5 twice.
        close(chance(&[1.0, 2.0], &[2.0, 3.0]), 4.0 / 6.0);
        close(chance(&[1.0; 6], &[2.0; 6]), 2.0 / choose(12, 6));
    }
}
