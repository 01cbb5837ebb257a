//! Building again what is built: the two Dockerfiles of Docker's page on storage drivers, all of whose steps are cached.

use std::{ffi::OsStr, fs, path::Path};

use super::{
    held::{Claim, Held, Sampled},
    seconds,
};
use crate::{
    bench::{
        Limit, Options, Unit,
        command::{lamina, succeed},
        ground::{Directory, Ground},
    },
    driver::DriverKind,
    error::{Act as _, Result},
    image::import::import,
    interrupt,
    program::BUSYBOX,
    runtime::OciRuntime,
};

pub(in crate::bench) const REBUILD: Held = Held {
    name: "rebuild",
    about: "two commands that build two images again, the second on the first, every step of which is cached",
    tests: "Docker already has all the layers from the first image, so it does not need to pull them again.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs],
    needs: &[BUSYBOX],
    files: 0,
    claims: &[Claim { what: "both, all cached", against: None, limit: |_| Some(Limit::TimeAtMost(0.1)) }],
    run,
};

const FIRST: &str = "FROM bench/shell\nRUN touch /added-by-run\n";

const SECOND: &str = "FROM acme/my-base-image:1.0\nCOPY . /app\nRUN chmod +x /app/hello.sh\n\
                      CMD [\"/bin/sh\", \"-c\", \"/app/hello.sh\"]\n";

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    OciRuntime::find()?;
    let ground = Ground::new(&options.directory, driver)?;
    import(ground.store(), &*shell()?, &"bench/shell".parse()?, "bench")?;
    let files = Directory::new(&options.directory, "context")?;
    let mut contexts = Vec::new();
    for (name, dockerfile) in [("acme/my-base-image:1.0", FIRST), ("acme/my-final-image:1.0", SECOND)] {
        let context = files.path().join(name.split('/').next_back().unwrap_or_default());
        let write = |name: &str, text: &str| {
            let path = context.join(name);
            fs::write(&path, text).act(|| format!("write {}", path.display()))
        };
        fs::create_dir(&context).act(|| format!("make {}", context.display()))?;
        write("Dockerfile", dockerfile)?;
        write("hello.sh", "#!/bin/sh\necho Hello world\n")?;
        contexts.push((name, context));
    }
    let both = || {
        contexts.iter().try_for_each(|(name, context)| {
            let arguments = ["build", "-q", "--network=none", "-t", name].map(OsStr::new);
            succeed(lamina(ground.root(), &[arguments.as_slice(), &[context.as_os_str()]].concat()))
        })
    };
    both()?;
    let mut subject = Vec::new();
    for _ in 0..options.samples(15) {
        interrupt::check()?;
        subject.push(seconds(both)?);
    }
    Ok(vec![Sampled { subject, base: Vec::new() }])
}

/// A root file system with a shell.
pub(super) fn shell() -> Result<Vec<u8>> {
    let act = || "make a tar";
    let path = BUSYBOX.find()?;
    let mut program = fs::File::open(&path).act(|| format!("open {}", path.display()))?;
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_file("bin/busybox", &mut program).act(act)?;
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    for name in ["sh", "touch", "chmod"] {
        archive.append_link(&mut header, Path::new("bin").join(name), "busybox").act(act)?;
    }
    archive.into_inner().act(act)
}
