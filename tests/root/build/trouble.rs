//! Builds that cannot be, and builds that are ended.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use super::{base, build, context};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

pub fn mistakes_are_told_with_their_place(host: &Host) -> Outcome {
    base(host)?;
    for (dockerfile, words) in [
        ("FORM base\n", "Dockerfile:1:1: unknown instruction"),
        ("FROM base\nCOPY missing /\n", "Dockerfile:2:1: 'missing' is not in the build context"),
        ("FROM base\n\nRUN exit 3\n", "Dockerfile:3:1: the command '/bin/sh -c exit 3' returned a non-zero code: 3"),
        (
            "FROM base\nRUN [\"/no/such\", \"x\"]\n",
            "Dockerfile:2:1: the command '/no/such x' returned a non-zero code: 127: OCI",
        ),
        ("FROM base\nRUN [\"/bin\"]\n", "returned a non-zero code: 126: OCI"),
        ("FROM base\nRUN busybox mknod /dev/host b 7 0\n", "returned a non-zero code"),
        ("FROM base\nRUN --mount=type=bind,source=none,target=/x true\n", "'none' is not in the build context"),
        ("FROM base\nRUN --mount=type=bind,target=. true\n", "Dockerfile:2:1: invalid mount target '/'"),
        ("FROM base\nUSER nobody-there\nRUN true\n", "no user 'nobody-there' in /etc/passwd of the image"),
        ("FROM 127.0.0.1:1/none\n", "Dockerfile:1:1: no such image: 127.0.0.1:1/none; pull it: reach registry"),
        ("FROM base AS one\nCOPY --from=one /x /\n", "takes from itself"),
        ("FROM base\nCOPY --from=later /x /\nFROM base AS later\n", "stage 'later' does not come before this one"),
        ("FROM base\nCOPY --from=later /x /\nFROM base AS later\n", "no such image: later"),
        ("FROM base\nCOPY --from=7 /x /\n", "Dockerfile:2:1: no stage 7: there are 0 before this one"),
        ("FROM base\nCOPY --chmod=99 Dockerfile /\n", "it is neither an octal mode"),
        ("FROM base\nEXPOSE eighty\n", "invalid containerPort: eighty"),
        ("FROM base\nSTOPSIGNAL FOO\n", "Dockerfile:2:1: invalid signal: FOO"),
        ("FROM --platform=linux/s390x base\n", "cannot be built on this machine"),
        ("FROM base\nCOPY Dockerfile Dockerfile /one\n", "must be a directory and end with a /"),
        ("FROM base\nCOPY hides /\n", "copy to /.wh.bin: in a layer, a name that begins with '.wh.' removes another"),
        ("FROM base\nCOPY file /\n", "copy to /bin: it is a directory in the image, and would be a file"),
        ("FROM base\nCOPY tree /\n", "copy to /bin/busybox: it is a file in the image, and would be a directory"),
    ] {
        context(host, dockerfile, &[("hides/.wh.bin", ""), ("file/bin", ""), ("tree/bin/busybox/x", "")])?;
        // The stage that is asked for is the first where there are two.
        let more: &[&str] = if dockerfile.contains("AS later") { &["--target", "0"] } else { &[] };
        let said = build(host, more)?;
        expect!(said.code == Some(1) && said.err.contains(words), "{dockerfile:?} should say {words:?}: {said:?}");
        expect!(said.out.is_empty(), "{said:?}");
    }
    context(host, "FROM base\nRUN echo told; exit 3\n", &[])?;
    expect!(build(host, &[])?.err.contains("told\n"), "what the command said is shown");
    // A word is not the beginning of some image's ID; what listings print is.
    let ids = host.ok(&["images", "-q"])?;
    let id = ids.lines().next().unwrap_or_default();
    context(host, &format!("FROM {}\n", &id[..6]), &[])?;
    expect!(build(host, &[])?.err.contains("no such image"), "{id}");
    context(host, &format!("FROM {id}\n"), &[])?;
    let said = build(host, &[])?;
    expect!(said.code == Some(0), "{said:?}");
    let said = host.run(&["build", "/does/not/exist"])?;
    expect!(said.code == Some(1) && said.err.contains("/does/not/exist"), "{said:?}");
    context(host, "FROM base\n", &[])?;
    let said = build(host, &["--target", "none"])?;
    expect!(said.code == Some(1) && said.err.contains("target stage 'none' is not in the Dockerfile"), "{said:?}");
    host.check()
}

/// The file that a command of a build writes into its cache mount.
pub fn written(host: &Host) -> Outcome<PathBuf> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        for cache in fs::read_dir(host.root().join("build-caches")).into_iter().flatten() {
            let file = cache?.path().join("started");
            if file.exists() {
                return Ok(file);
            }
        }
        expect!(Instant::now() < deadline, "the command never started");
        std::thread::yield_now();
    }
}

/// Processes whose command line has `words`.
fn processes(words: &str) -> Outcome<usize> {
    let mut found = 0;
    for entry in fs::read_dir("/proc")? {
        let line = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        found += usize::from(String::from_utf8_lossy(&line).replace('\0', " ").starts_with(words));
    }
    Ok(found)
}

pub fn a_killed_build_leaves_nothing_running(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile =
        "FROM base\nRUN touch /before\nRUN --mount=type=cache,target=/c touch /c/started && exec sleep 4242.4242\n";
    let directory = context(host, dockerfile, &[])?;
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let mut child = host.spawn(&["build", &directory.to_string_lossy()], Stdio::null())?;
        let started = written(host)?;
        while processes("sleep 4242.4242")? == 0 {
            std::thread::yield_now();
        }
        let places = fs::read_dir(host.root().join("builds"))?.collect::<std::io::Result<Vec<_>>>()?;
        let cgroups = places.iter().map(|place| format!("build-{}", place.file_name().to_string_lossy()));
        let cgroups: Vec<String> = cgroups.collect();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(signal)?)?;
        let status = child.wait()?;
        expect!(!status.success(), "{status}");
        let deadline = Instant::now() + Duration::from_secs(60);
        while processes("sleep 4242.4242")? > 0 {
            expect!(Instant::now() < deadline, "the command still runs");
            std::thread::yield_now();
        }
        fs::remove_file(started)?;
        host.check()?;
        expect!(!cgroups.is_empty(), "a step has a place");
        for cgroup in &cgroups {
            expect!(!lamina::runtime::Cgroup::new(cgroup).exists()?, "{cgroup} is there still");
        }
        expect_eq!(fs::read_dir(host.root().join("builds"))?.count(), 0);
    }
    // What was finished is not done again, and what a dead build left in its directory goes with the next.
    context(host, "FROM base\nRUN touch /before\nRUN touch /after\n", &[])?;
    let said = build(host, &["-t", "done"])?;
    expect_eq!((said.code, super::cached(&said)), (Some(0), 1));
    expect_eq!(fs::read_dir(host.root().join("builds"))?.count(), 0);
    host.check()
}
