//! What a run costs from end to end, against what the OCI runtime alone takes.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command as Program, Stdio},
    thread,
    time::Duration,
};

use super::{
    held::{Claim, Held, Sampled, in_turn},
    seconds,
};
use crate::{
    bench::{Limit, Options, Unit, ground::Ground},
    driver::DriverKind,
    error::{Act as _, Error, Kind, Result},
    id::CacheId,
    image::import::import,
    program::CONMON,
    runtime::{Command, Limits, Network, OciRuntime, write_config},
};

pub(in crate::bench) const RUN: Held = Held {
    name: "run",
    about: "'lamina run --rm IMAGE true' from end to end, against the OCI runtime on an unpacked bundle of that image",
    tests: "Copying makes containers efficient: when you start a container, a thin writable container layer is added on top of the other layers.",
    unit: Unit::Seconds,
    drivers: &[DriverKind::Thin, DriverKind::Btrfs, DriverKind::Overlay],
    needs: &[CONMON],
    files: 0,
    claims: &[held("run --rm"), held("run --rm, from rest")],
    run,
};

const fn held(what: &'static str) -> Claim {
    Claim {
        what,
        against: Some("runtime alone"),
        limit: |driver| (driver != DriverKind::Overlay).then_some(Limit::RatioAtMost(1.3)),
    }
}

/// After which nothing of the run before helps the next: until a grace period of the kernel has passed, whoever moves a process
/// into a cgroup need not wait for one, as a single command must (`rcu_sync`).
const REST: Duration = Duration::from_millis(100);

/// The statically linked shell of Debian's busybox-static, which needs no library of an image.
const BUSYBOX: &str = "/bin/busybox";

fn run(options: &Options, driver: DriverKind) -> Result<Vec<Sampled>> {
    let runtime = OciRuntime::find()?;
    let ground = Ground::new(&options.directory, driver)?;
    let root = ground.store().layout().root().to_owned();
    let bundle = root.join("bench-bundle");
    let tree = bundle.join("rootfs");
    make_tree(&tree)?;
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", &tree).act(|| "make a tar")?;
    let tar = tar.into_inner().act(|| "make a tar")?;
    import(ground.store(), &*tar, &"bench/run:1".parse()?, "bench")?;
    let name = CacheId::random();
    let command = Command {
        args: vec!["/bin/true".to_owned()],
        network: Network::None,
        limits: Some(Limits { cgroup: name.to_string(), ..Limits::default() }),
        ..Command::default()
    };
    write_config(&command, &tree, &bundle.join("config.json"))?;
    let own = env::current_exe().act(|| "find this program")?;
    let subject = |_| {
        let mut run = Program::new(&own);
        run.arg("--root").arg(&root).args(["run", "--rm", "bench/run:1", "/bin/true"]);
        seconds(|| succeed(run))
    };
    let base = |number| {
        let mut run = Program::new(runtime.program().find()?);
        run.arg("--root").arg(bundle.join("state")).arg("run").arg("--bundle").arg(&bundle);
        run.arg(format!("lamina-bench-{}-{number}", name.short()));
        seconds(|| succeed(run))
    };
    // The first of each fills caches.
    subject(0)?;
    base(usize::MAX)?;
    let samples = options.samples(40);
    let in_a_row = in_turn(samples, &subject, &base)?;
    Ok(vec![in_a_row, in_turn(samples, rested(&subject), rested(&base))?])
}

fn rested(sample: impl Fn(usize) -> Result<f64>) -> impl Fn(usize) -> Result<f64> {
    move |number| {
        thread::sleep(REST);
        sample(number)
    }
}

fn make_tree(tree: &Path) -> Result<()> {
    if !Path::new(BUSYBOX).exists() {
        let what = format!("no {BUSYBOX}; install it with 'apt-get install busybox-static'");
        return Err(Error::new(Kind::MissingProgram, what));
    }
    let make = || -> std::io::Result<()> {
        for directory in ["bin", "dev", "proc", "sys", "etc"] {
            fs::create_dir_all(tree.join(directory))?;
        }
        for file in ["hostname", "hosts", "resolv.conf"] {
            fs::write(tree.join("etc").join(file), "")?;
        }
        let program: PathBuf = tree.join("bin/busybox");
        fs::copy(BUSYBOX, &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        symlink("busybox", tree.join("bin/true"))
    };
    make().act(|| "make a small root file system")
}

fn succeed(mut program: Program) -> Result<()> {
    let text = format!("run {}", program.get_program().display());
    let output = program.stdin(Stdio::null()).stdout(Stdio::null()).output().act(|| text.clone())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(Kind::Io, format!("{text}: {}: {}", output.status, said.trim())))
}
