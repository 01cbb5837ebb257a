//! Data volumes, `cp`, `export` and the verbs around containers, on every driver.

mod containers;
mod copies;
mod data;

use lamina::driver::DriverKind;
use libtest_mimic::Trial;

use crate::{
    lamina::{Host, with_host},
    pool::Outcome,
};

type Case = fn(&Host) -> Outcome;

const CASES: [(&str, Case); 5] = [
    ("volumes_outlive_containers", data::volumes_outlive_containers),
    ("an_image_fills_a_volume_once", data::an_image_fills_a_volume_once),
    ("files_come_and_go", copies::files_come_and_go),
    ("links_lead_nowhere", copies::links_lead_nowhere),
    ("listed_renamed_committed_pruned", containers::listed_renamed_committed_pruned),
];

/// One case per driver.
pub fn trials() -> Vec<Trial> {
    let case = |driver: DriverKind, name: &str, case: Case| {
        Trial::ignorable_test(format!("volumes::{driver}::{name}"), move || with_host(driver, case))
    };
    DriverKind::ALL.into_iter().flat_map(|driver| CASES.map(|(name, body)| case(driver, name, body))).collect()
}

pub use data::fill;
