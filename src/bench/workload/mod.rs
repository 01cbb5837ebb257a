//! What a workload is; each lies in a file of its own.

mod copy_step;
mod creates;
mod diff;
mod first_write;
mod import;
mod memory;
mod prepare;
mod pull;
mod rebuild;
mod run;
mod space;

use std::time::Instant;

pub(super) use self::{
    copy_step::COPY_STEP,
    creates::CREATES,
    diff::DIFF,
    first_write::{FIRST_WRITE, FIRST_WRITE_COLD},
    import::IMPORT,
    memory::MEMORY,
    prepare::PREPARE,
    pull::{PULL, PULL_PODMAN},
    rebuild::REBUILD,
    run::RUN,
    space::SPACE,
};
use super::{
    Options,
    report::{Limit, Outcome, Row, Unit},
    statistics::Summary,
};
use crate::{
    driver::DriverKind,
    error::{Error, Kind, Result},
    interrupt,
    program::Program,
};

/// Something to measure.
#[derive(Debug)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does and what it holds against what, in a sentence.
    pub about: &'static str,
    /// Of its numbers.
    pub unit: Unit,
    /// The drivers that it makes sense for.
    pub drivers: &'static [DriverKind],
    /// The programs that it cannot do without.
    pub needs: &'static [Program],
    /// The rows it gives, in this order.
    pub claims: &'static [Claim],
    /// Gives the samples of each claim.
    pub(super) run: fn(&Options, DriverKind) -> Result<Vec<Sampled>>,
}

/// One row of a workload.
#[derive(Debug)]
pub struct Claim {
    /// What is measured.
    pub what: &'static str,
    /// Against what.
    pub against: Option<&'static str>,
    /// What it is held to with a driver.
    pub limit: fn(DriverKind) -> Option<Limit>,
}

/// The samples of one claim.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    pub(super) subject: Vec<f64>,
    pub(super) base: Vec<f64>,
}

impl Workload {
    pub(super) fn rows(&'static self, driver: DriverKind, sampled: Vec<Sampled>) -> Vec<Row> {
        let mut sampled = sampled.into_iter();
        self.each(driver, |limit| {
            let sampled = sampled.next().unwrap_or_default();
            let Some(subject) = Summary::of(&sampled.subject) else {
                return Outcome::Failed { reason: "it gave no samples".to_owned() };
            };
            let base = Summary::of(&sampled.base);
            let ratio = base.map(|base| subject.median / base.median);
            Outcome::Measured { subject, base, ratio, met: limit.and_then(|limit| limit.is_met(&subject, ratio)) }
        })
    }

    pub(super) fn unmeasured(&'static self, driver: DriverKind, error: &Error) -> Vec<Row> {
        let reason = error.to_string();
        self.each(driver, |_| match error.kind() {
            Kind::Unsupported | Kind::MissingProgram => Outcome::NotRun { reason: reason.clone() },
            _ => Outcome::Failed { reason: reason.clone() },
        })
    }

    fn each(&'static self, driver: DriverKind, mut outcome: impl FnMut(Option<Limit>) -> Outcome) -> Vec<Row> {
        let row = |claim: &Claim| {
            let limit = (claim.limit)(driver);
            let Claim { what, against, .. } = *claim;
            Row { workload: self.name, driver, what, against, unit: self.unit, limit, outcome: outcome(limit) }
        };
        self.claims.iter().map(row).collect()
    }
}

/// Takes samples of both sides in turn, each first every other time, so that what drifts or comes in waves meets both.
/// Each closure is told the number of its sample.
fn in_turn(
    samples: usize,
    mut subject: impl FnMut(usize) -> Result<f64>,
    mut base: impl FnMut(usize) -> Result<f64>,
) -> Result<Sampled> {
    let mut sampled = Sampled::default();
    for number in 0..samples {
        interrupt::check()?;
        if number % 2 == 0 {
            sampled.subject.push(subject(number)?);
            sampled.base.push(base(number)?);
        } else {
            sampled.base.push(base(number)?);
            sampled.subject.push(subject(number)?);
        }
    }
    Ok(sampled)
}

/// How many seconds `work` takes.
fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::in_turn;

    #[test]
    fn sides_take_turns_in_going_first() {
        let order = RefCell::new(String::new());
        let note = |side| {
            let order = &order;
            move |_| {
                order.borrow_mut().push(side);
                Ok(1.0)
            }
        };
        let sampled = in_turn(3, note('s'), note('b')).unwrap();
        assert_eq!(*order.borrow(), "sbbssb");
        assert_eq!((sampled.subject.len(), sampled.base.len()), (3, 3));
    }
}
