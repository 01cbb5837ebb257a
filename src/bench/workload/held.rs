//! Workloads that Lamina is held to: two sides in turn on one row, and the ratio between them.

use super::{How, Workload};
use crate::{
    bench::{
        Options,
        report::{Claimed, Limit, Outcome, Unit},
        statistics::Summary,
    },
    driver::DriverKind,
    error::{Error, Kind, Result},
    interrupt,
    program::Program,
};

/// What is measured on each driver by itself, in pools of its own.
#[derive(Debug)]
pub struct Held {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does and what it holds against what, in a sentence.
    pub about: &'static str,
    /// What Docker's page says of it.
    pub tests: &'static str,
    /// Of its numbers.
    pub unit: Unit,
    /// The drivers that it makes sense for.
    pub drivers: &'static [DriverKind],
    /// The programs that it cannot do without.
    pub needs: &'static [Program],
    /// How many files of `--file-size` it has on the disk at a time, at most.
    pub files: u64,
    /// The rows it gives, in this order.
    pub claims: &'static [Claim],
    /// Gives the samples of each claim.
    pub(in crate::bench) run: fn(&Options, DriverKind) -> Result<Vec<Sampled>>,
}

impl Workload for Held {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn tests(&self) -> &'static str {
        self.tests
    }

    fn needs(&self) -> &'static [Program] {
        self.needs
    }

    fn how(&self) -> How<'_> {
        How::Held(self)
    }
}

/// What a workload is held to.
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
pub(in crate::bench) struct Sampled {
    pub(in crate::bench) subject: Vec<f64>,
    pub(in crate::bench) base: Vec<f64>,
}

impl Held {
    pub(in crate::bench) fn claimed(&self, driver: DriverKind, sampled: &[Sampled]) -> Vec<Claimed> {
        let mut sampled = sampled.iter();
        self.each(driver, |limit| {
            let Some((sampled, subject)) = sampled.next().and_then(|one| Some((one, Summary::of(&one.subject)?)))
            else {
                return Outcome::Failed { reason: "it gave no samples".to_owned() };
            };
            let base = Summary::of(&sampled.base);
            let ratio = base.map(|base| subject.median / base.median);
            let met = limit.and_then(|limit| limit.is_met(&subject, ratio));
            let (values, base_values) = (sampled.subject.clone(), sampled.base.clone());
            Outcome::Measured { subject, base, ratio, met, values, base_values }
        })
    }

    pub(in crate::bench) fn unmeasured(&self, driver: DriverKind, error: &Error) -> Vec<Claimed> {
        let reason = error.to_string();
        self.each(driver, |_| match error.kind() {
            Kind::Unsupported | Kind::MissingProgram => Outcome::NotRun { reason: reason.clone() },
            _ => Outcome::Failed { reason: reason.clone() },
        })
    }

    fn each(&self, driver: DriverKind, mut outcome: impl FnMut(Option<Limit>) -> Outcome) -> Vec<Claimed> {
        let row = |claim: &Claim| {
            let limit = (claim.limit)(driver);
            let Claim { what, against, .. } = *claim;
            Claimed {
                workload: self.name.to_owned(),
                driver,
                what: what.to_owned(),
                against: against.map(str::to_owned),
                unit: self.unit,
                limit,
                outcome: outcome(limit),
            }
        };
        self.claims.iter().map(row).collect()
    }
}

/// Takes samples of both sides in turn, each first every other time, so that what drifts or comes in waves meets both.
/// Each closure is told the number of its sample. A signal ends it with those that were taken.
pub(super) fn in_turn(
    samples: usize,
    mut subject: impl FnMut(usize) -> Result<f64>,
    mut base: impl FnMut(usize) -> Result<f64>,
) -> Result<Sampled> {
    let mut sampled = Sampled::default();
    let mut pair = |number| {
        if number % 2 == 0 {
            let first = subject(number)?;
            return Ok((first, base(number)?));
        }
        let first = base(number)?;
        Ok((subject(number)?, first))
    };
    for number in 0..samples {
        match interrupt::check().and_then(|()| pair(number)) {
            Ok((subject, base)) => {
                sampled.subject.push(subject);
                sampled.base.push(base);
            }
            Err(_) if interrupt::asked() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sampled)
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
