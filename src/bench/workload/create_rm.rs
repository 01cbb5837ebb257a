//! Making and removing a container by whole commands, against podman's.

use super::{
    held::{Claim, Held, Sampled, in_turn},
    rebuild, seconds,
};
use crate::{
    bench::{
        Limit, Options, Unit,
        command::{lamina, succeed},
        ground::Ground,
        rows::{PODMAN_OVERLAY, Row as _},
    },
    driver::DriverKind,
    error::Result,
    image::import::import,
    program::{BUSYBOX, PODMAN, PRLIMIT},
    units::Bytes,
};

pub(in crate::bench) const CREATE_RM: Held = Held {
    name: "create-rm",
    about: "'podman create' and 'podman rm' with its overlay driver, against 'lamina create' and 'lamina rm', of the same image",
    tests: "When you start a container, a thin writable container layer is added on top of the other layers. … When the \
            container is deleted, the writable layer is also deleted. The underlying image remains unchanged.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs, DriverKind::Overlay],
    needs: &[BUSYBOX, PODMAN, PRLIMIT],
    files: 0,
    claims: &[Claim {
        what: "podman create + rm",
        against: Some("lamina create + rm"),
        limit: |_| Some(Limit::RatioAtLeast(5.0)),
    }],
    run,
};

/// More than the image and one container take.
const DISK: Bytes = Bytes::gib(1);

/// What both call container and image.
const NAMES: (&str, &str) = ("made-and-removed", "shell");

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    PODMAN_OVERLAY.usable()?;
    let podman = PODMAN_OVERLAY.stage(&options.directory, DISK)?;
    let ground = Ground::new(&options.directory, driver)?;
    let shell = rebuild::shell()?;
    let (name, image) = NAMES;
    podman.import(image, &mut &*shell)?;
    import(ground.store(), &*shell, &image.parse()?, "bench")?;
    let theirs = |_| seconds(|| podman.create(name, image).and_then(|()| podman.remove(name)));
    let own = |words: &[&str]| succeed(lamina(ground.root(), words));
    let ours = |_| {
        seconds(|| own(&["create", "--network=none", "--name", name, image, "true"]).and_then(|()| own(&["rm", name])))
    };
    // The first of each fills caches.
    theirs(0)?;
    ours(0)?;
    Ok(vec![in_turn(options.samples(15), theirs, ours)?])
}
