//! Builds beside commands that remove images, and beside one another.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{base, build, cached, context, tree, trouble::written};
use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

/// Three stages, of which the last waits in its command for somebody who writes into a pipe.
const WAITING: &str = "FROM base AS first\nRUN echo one > /one\nENV A=1\nFROM first AS second\nRUN echo two > /two\n\
                       FROM base\nRUN touch /before\n\
                       RUN --mount=type=cache,target=/c busybox mkfifo /c/go; touch /c/started; cat /c/go > /told\n\
                       COPY --from=first /one /\nCOPY --from=second /two /\n";

/// A build of this that waits.
fn waiting(host: &Host) -> Outcome<(Child, std::path::PathBuf)> {
    let directory = context(host, WAITING, &[])?;
    let child = host.spawn(&["build", "--no-cache", "-t", "waited", &directory.to_string_lossy()], Stdio::null())?;
    Ok((child, written(host)?))
}

fn ids(host: &Host) -> Outcome<Vec<String>> {
    Ok(host.ok(&["images", "-a", "-q", "--no-trunc"])?.lines().map(str::to_owned).collect())
}

/// Everything that removes images, also by force of names; returns how often it was refused for a build's sake.
fn remove_all(host: &Host) -> Outcome<usize> {
    host.ok(&["image", "prune", "-a", "-f"])?;
    host.ok(&["system", "prune", "-a", "-f"])?;
    let mut refused = 0;
    for name in ids(host)? {
        let said = host.run(&["rmi", &name])?;
        refused += usize::from(said.code == Some(1) && said.err.contains("a build that runs needs it"));
    }
    Ok(refused)
}

pub fn what_a_build_needs_stays_until_it_ends(host: &Host) -> Outcome {
    base(host)?;
    let (child, started) = waiting(host)?;
    // A base, two steps of the first stage, one of the second and of the third.
    let before = ids(host)?;
    expect_eq!(before.len(), 5);
    expect!(remove_all(host)? > 0, "removing is refused");
    expect_eq!(ids(host)?, before);
    host.fails(&["rmi", "base"], "a build that runs needs it")?;
    host.fails(&["pool", "down"], "another command is at work")?;
    host.check()?;
    fs::write(started.with_file_name("go"), "go")?;
    let said = Said::from(child.wait_with_output()?);
    expect_eq!(said.code, Some(0), "{said:?}");
    let root = tree(host, "waited")?;
    for (path, content) in [("one", "one\n"), ("two", "two\n"), ("told", "go")] {
        expect_eq!(fs::read_to_string(root.join(path))?, content);
    }
    expect!(root.join("before").exists(), "the stage went on from its steps");
    // What only a dead build needed goes.
    fs::remove_file(started)?;
    let (mut child, _) = waiting(host)?;
    child.kill()?;
    child.wait()?;
    for container in host.ok(&["ps", "-a", "-q"])?.lines() {
        host.ok(&["umount", container])?;
        host.ok(&["rm", container])?;
    }
    expect_eq!(remove_all(host)?, 0);
    expect_eq!(ids(host)?, Vec::<String>::new());
    expect_eq!(host.json(&["pool", "status"])?["layers"], 0);
    host.check()
}

/// Prunes until told to end, at least once.
fn prune(host: &Host, ended: &AtomicBool) -> Outcome<usize> {
    for count in 1.. {
        host.ok(&["image", "prune", "-f"])?;
        if ended.load(Ordering::Relaxed) {
            return Ok(count);
        }
    }
    Ok(0)
}

fn has_all(root: &Path) -> Outcome {
    for (path, content) in [("one", "1\n"), ("two", "2\n"), ("a", "a")] {
        expect_eq!(fs::read_to_string(root.join(path))?, content);
    }
    Ok(())
}

/// The same Dockerfile twice at the same time, the commands of one the other's too, while a third command removes what it
/// can.
pub fn builds_at_once_and_pruning_disturb_nobody(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = "FROM base AS one\nRUN echo 1 > /one && touch -d @1 /one\nFROM base AS two\nRUN echo 2 > /two\nFROM base\n\
                      COPY --from=one /one /\nCOPY --from=two /two /\nCOPY a /\nLABEL x=y\nCOPY a /b\n";
    let directory = context(host, dockerfile, &[("a", "a")])?.to_string_lossy().into_owned();
    let ended = AtomicBool::new(false);
    let (builds, pruned) = thread::scope(|scope| {
        let pruner = scope.spawn(|| prune(host, &ended));
        let one = |name: &str| {
            let mut said = Vec::new();
            for cache in ["--no-cache", "-q"] {
                said.push(host.run(&["build", cache, "-t", name, &directory])?);
            }
            Outcome::Ok(said)
        };
        let builds = ["x", "y"].map(|name| scope.spawn(move || one(name)));
        let builds = builds.map(|build| build.join());
        ended.store(true, Ordering::Relaxed);
        (builds, pruner.join())
    });
    for build in builds {
        for said in build.map_err(|_| "a build panicked")?? {
            expect_eq!(said.code, Some(0), "{said:?}");
        }
    }
    expect!(pruned.map_err(|_| "pruning panicked")?? > 0, "it was pruned meanwhile");
    for name in ["x", "y"] {
        has_all(&tree(host, name)?)?;
    }
    // Two builds at once leave a cache that the next goes by, and nothing that does not go with its images.
    expect!(cached(&build(host, &["-t", "x"])?) > 0, "the cache holds");
    for container in host.ok(&["ps", "-a", "-q"])?.lines() {
        host.ok(&["umount", container])?;
        host.ok(&["rm", container])?;
    }
    host.ok(&["image", "prune", "-a", "-f"])?;
    for id in ids(host)? {
        host.run(&["rmi", &id])?;
    }
    expect_eq!((ids(host)?, &host.json(&["pool", "status"])?["layers"]), (Vec::new(), &0.into()));
    host.check()
}
