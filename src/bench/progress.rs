//! How much time is left: each run on each row has a price on an ordinary machine, and the steps that are done tell how
//! much dearer it is here.

use std::time::Instant;

use super::{Across, How, Options};

pub(super) struct Clock {
    started: Instant,
    scale: &'static super::Scale,
    done: f64,
    total: f64,
    /// The price of what is going on.
    going_on: f64,
}

impl Clock {
    pub(super) fn new(options: &Options) -> Self {
        let runs = options.samples(options.scale.runs);
        let price = |across: &dyn Across| {
            // Making the images counts as one run, and one warms up.
            step_price(options.rows_of(across).len() * (runs + 2)) * across.cost(options.scale)
        };
        let total = options.workloads.iter().map(|workload| match workload.how() {
            How::Across(across) => price(across),
            How::Held(_) => 0.0,
        });
        let total = total.sum();
        Self { started: Instant::now(), scale: options.scale, done: 0.0, total, going_on: 0.0 }
    }

    /// The next step of `across` begins: how many seconds are left; at first, what an
    /// ordinary machine would take.
    pub(super) fn step(&mut self, across: &dyn Across) -> Option<f64> {
        self.done += self.going_on;
        self.going_on = across.cost(self.scale);
        (self.total > 0.0).then(|| left(self.started.elapsed().as_secs_f64(), self.done, self.total))
    }
}

#[expect(clippy::cast_precision_loss, reason = "steps are few")]
fn step_price(steps: usize) -> f64 {
    steps as f64
}

fn left(elapsed: f64, done: f64, total: f64) -> f64 {
    if done > 0.0 { (total - done).max(0.0) * elapsed / done } else { total }
}

#[cfg(test)]
mod tests {
    use super::left;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        assert_eq!(left(6.0, 2.0, 10.0), 24.0);
        assert_eq!(left(6.0, 12.0, 10.0), 0.0);
    }

    #[test]
    fn at_first_it_is_what_an_ordinary_machine_takes() {
        assert_eq!(left(5.0, 0.0, 10.0), 10.0);
    }
}
