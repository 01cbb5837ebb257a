//! Images from and to registries: Debian's docker-registry with what skopeo puts there and reads from it, and one of our
//! own that has faults.

#![allow(clippy::unwrap_used, reason = "a failed assumption of a test is its failure")]

mod damaged;
mod exchange;
mod faults;
mod hostile;
mod login;
mod names;
mod progress;
mod pushing;
mod real;
pub mod server;
mod space;
mod together;

use lamina::driver::DriverKind;
use libtest_mimic::Trial;

use crate::{lamina::Host, pool::Outcome, save::foreign::run_with};

/// A name, the programs that it needs, and what it does.
type Case = (&'static str, &'static [&'static str], fn(&Host) -> Outcome);

/// What depends on the driver is tried with each; what does not, with the one that has least to do.
pub fn trials() -> Vec<Trial> {
    let trial = |driver: DriverKind, (name, programs, case): Case| {
        Trial::ignorable_test(format!("registry::{driver}::{name}"), move || run_with(driver, programs, case))
    };
    let each = DriverKind::ALL.into_iter().flat_map(|driver| exchange::CASES.map(|case| trial(driver, case)));
    let killed =
        DriverKind::ALL.into_iter().flat_map(|driver| [faults::KILLED, together::CASE].map(|case| trial(driver, case)));
    let one = faults::CASES
        .into_iter()
        .chain(login::CASES)
        .chain(pushing::CASES)
        .chain(hostile::CASES)
        .chain([damaged::CASE, names::CASE, progress::CASE])
        .map(|case| trial(DriverKind::Vfs, case));
    let small = [DriverKind::Thin, DriverKind::Btrfs].into_iter().map(|driver| {
        Trial::ignorable_test(format!("registry::{driver}::no_space_in_the_middle"), move || space::no_space(driver))
    });
    each.chain(killed).chain(one).chain(small).collect()
}

/// Pulls or pushes without TLS, which must succeed; what it said.
fn http(host: &Host, verb: &str, reference: &str) -> Outcome<String> {
    let said = host.run(&[verb, "--plain-http", reference])?;
    match said.code {
        Some(0) => Ok(said.err),
        _ => Err(format!("{verb} {reference}: {said:?}").into()),
    }
}

/// How many lines there are with these words.
fn count(said: &str, words: &str) -> usize {
    said.lines().filter(|line| line.contains(words)).count()
}
