//! The most memory that commands take for a layer of one large file.

use std::{fs, path::Path};

use super::held::{Claim, Held, Sampled};
use crate::{
    bench::{
        Limit, Options, Unit,
        command::{lamina, peak, succeed},
        ground::{Directory, Ground},
        registry::Registry,
        tree,
    },
    driver::DriverKind,
    error::{Act as _, Result},
    interrupt,
    program::{DOCKER_REGISTRY, TIME},
    units::Bytes,
};

pub(in crate::bench) const MEMORY: Held = Held {
    name: "memory",
    about: "peak resident memory of commands with a layer of one file, twice as large as --file-size says, that does \
            not compress",
    tests: "This minimizes I/O and the size of each of the subsequent layers.",
    unit: Unit::Bytes,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[DOCKER_REGISTRY, TIME],
    files: 14,
    claims: &[
        Claim { what: "build, COPY", against: None, limit },
        Claim { what: "save, plain", against: None, limit },
        Claim { what: "load, plain", against: None, limit },
        Claim { what: "save, gzip", against: None, limit },
        Claim { what: "push, gzip", against: None, limit },
        Claim { what: "pull, gzip", against: None, limit },
    ],
    run,
};

fn limit(_: DriverKind) -> Option<Limit> {
    Some(Limit::MeanAtMost(Bytes::mib(128)))
}

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let registry = Registry::start(&options.directory)?;
    let there = registry.reference("bench/large:1");
    let files = Directory::new(&options.directory, "context")?;
    let context = files.path().join("context");
    fs::create_dir(&context).act(|| format!("make {}", context.display()))?;
    tree::big_file(&context.join("large"), Bytes(options.file_size.0 * 2))?;
    let dockerfile = context.join("Dockerfile");
    fs::write(&dockerfile, "FROM scratch\nCOPY large /\n").act(|| format!("write {}", dockerfile.display()))?;
    let (plain, gzip) = (files.path().join("plain.tar"), files.path().join("gzip.tar"));
    let mut claims: [Vec<f64>; 6] = Default::default();
    for _ in 0..options.samples(1) {
        interrupt::check()?;
        let (one, other) = (Ground::new(&options.directory, driver)?, Ground::new(&options.directory, driver)?);
        let (plain, gzip, context) = (shown(&plain), shown(&gzip), shown(&context));
        let commands: [(&Ground, &[&str]); 7] = [
            (&one, &["build", "-q", "-t", &there, &context]),
            (&one, &["save", "--format=docker", "-o", &plain, &there]),
            (&other, &["load", "-i", &plain]),
            // What was loaded would be found by the pull.
            (&other, &["rmi", &there]),
            (&one, &["save", "--format=oci", "-o", &gzip, &there]),
            (&one, &["push", "-q", "--plain-http", &there]),
            (&other, &["pull", "-q", "--plain-http", &there]),
        ];
        let mut claims = claims.iter_mut();
        for (ground, arguments) in commands {
            if arguments[0] == "rmi" {
                succeed(lamina(ground.root(), arguments))?;
            } else if let Some(claim) = claims.next() {
                claim.push(peak(ground.root(), arguments, &files.path().join("memory"))?);
            }
        }
    }
    Ok(claims.into_iter().map(|subject| Sampled { subject, base: Vec::new() }).collect())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
