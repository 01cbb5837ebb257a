//! How much time is left: each run on each row has a price on an ordinary machine, and the steps that are done tell how
//! much dearer it is here.

use std::time::Instant;

use super::{Across, How, Options, statistics::count};

/// The price of what Lamina is held to, of one workload on one driver: some take seconds, some a minute.
const HELD: f64 = 15.0;

pub(super) struct Clock {
    started: Instant,
    scale: &'static super::Scale,
    done: f64,
    total: f64,
    /// What will be done when the workload that goes on is, if no row ends early.
    end: f64,
    /// The price of what is going on.
    going_on: f64,
}

impl Clock {
    pub(super) fn new(options: &Options) -> Self {
        let total = options.workloads.iter().map(|workload| match workload.how() {
            How::Across(across) => price(options, across),
            How::Held(held) => HELD * count(options.drivers_of(held).len() as u64),
        });
        let total = total.sum();
        Self { started: Instant::now(), scale: options.scale, done: 0.0, total, end: 0.0, going_on: 0.0 }
    }

    /// A workload begins.
    pub(super) fn begin(&mut self, options: &Options, across: &dyn Across) {
        self.done += std::mem::take(&mut self.going_on);
        self.end = self.done + price(options, across);
    }

    /// It is over: what rows did not do that ended early, nobody will.
    pub(super) fn over(&mut self) {
        self.done += std::mem::take(&mut self.going_on);
        self.total -= (self.end - self.done).max(0.0);
    }

    /// The next step of `across` begins: how many seconds are left; at first, what an
    /// ordinary machine would take.
    pub(super) fn step(&mut self, across: &dyn Across) -> Option<f64> {
        self.next(across.cost(self.scale))
    }

    /// [`Clock::step`] of what Lamina is held to, on one driver.
    pub(super) fn step_held(&mut self) -> Option<f64> {
        self.next(HELD)
    }

    fn next(&mut self, price: f64) -> Option<f64> {
        self.done += self.going_on;
        self.going_on = price;
        (self.total > 0.0).then(|| left(self.started.elapsed().as_secs_f64(), self.done, self.total))
    }
}

/// Of the rows that can run.
fn price(options: &Options, across: &dyn Across) -> f64 {
    let rows = options.rows_of(across).iter().filter(|row| row.usable().is_ok()).count();
    // Making the images counts as one run.
    let runs = options.samples(options.scale.runs) + 1 + usize::from(options.scale.warms_up);
    count((rows * runs) as u64) * across.cost(options.scale)
}

fn left(elapsed: f64, done: f64, total: f64) -> f64 {
    if done > 0.0 { (total - done).max(0.0) * elapsed / done } else { total }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Clock, left};

    #[test]
    fn what_a_row_did_not_do_that_ended_early_is_not_waited_for() {
        let scale = &crate::bench::scale::TINY;
        let mut clock = Clock { started: Instant::now(), scale, done: 3.0, total: 20.0, end: 10.0, going_on: 1.0 };
        clock.over();
        assert_eq!((clock.done, clock.total, clock.going_on), (4.0, 14.0, 0.0));
    }

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
