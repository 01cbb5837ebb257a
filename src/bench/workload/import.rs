//! Importing a root file system, against unpacking it.

use super::{Claim, Sampled, Workload};
use crate::{
    bench::{Limit, Options, Unit},
    driver::DriverKind,
    error::{Error, Kind, Result},
};

pub(in crate::bench) const IMPORT: Workload = Workload {
    name: "import",
    about: "import of a root file system tar into a fresh pool, against 'tar -x' of it into an empty volume of a fresh \
            pool of the same driver, and sync",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    claims: &[Claim { what: "import", against: Some("tar -x + sync"), limit: |_| Some(Limit::RatioAtMost(1.25)) }],
    run,
};

fn run(options: &Options, _: DriverKind) -> Result<Vec<Sampled>> {
    let Some(_tar) = &options.tar else {
        return Err(Error::new(Kind::Unsupported, "no tar was given; give one with --tar FILE"));
    };
    Err(Error::new(Kind::Unsupported, "import is not there yet"))
}
