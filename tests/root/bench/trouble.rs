//! `lamina bench` where it cannot begin, and after one that could not end.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use libtest_mimic::Completion;

use super::Place;
use crate::{expect, expect_eq, pool::Outcome};

/// Nobody learns after hours that all was in vain.
pub(super) fn told_at_once() -> Outcome<Completion> {
    let place = Place::new()?;
    let nowhere = place.file("missing/bench.json");
    let (nowhere, kept) = (nowhere.to_string_lossy(), place.file("kept.html"));
    fs::write(&kept, "of last year")?;
    let kept_name = kept.to_string_lossy();
    let list = place.file("list.json");
    fs::write(&list, "[]")?;
    let list_name = list.to_string_lossy();
    let shown = place.file("shown.json");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks/held-containers.json"), &shown)?;
    let shown_name = shown.to_string_lossy();
    for (arguments, words, code) in [
        (vec!["--workload", "first-write", "--driver", "btrfs", "--file-size", "1000T"], "that takes up to", 1),
        (vec!["--tiny", "--json", &nowhere], "missing/bench.json: No such file or directory", 1),
        (vec!["--tiny", "--csv", "/"], "it is a directory", 1),
        (vec!["--tiny", "--report", &kept_name, "--json", &nowhere], "missing/bench.json", 1),
        (vec!["--tiny", "--json", &kept_name, "--csv", &kept_name], "each file needs a name of its own", 1),
        (vec!["--tiny", "--report", "-"], "only --json takes '-'", 1),
        (vec!["--show", &shown_name, "--csv", &shown_name], "each file needs a name of its own", 1),
        (vec!["--tiny", "--runs", "0"], "--runs", 2),
        (vec!["--tiny", "--driver", "nilfs"], "row 'nilfs' is not one of thin/ext4", 1),
        (vec!["--tiny", "--workload", "sleep"], "workload 'sleep' is not one of copy-up", 1),
        (vec!["--tiny", "--dir", "/proc/sys"], "choose another --dir", 1),
        (vec!["--tiny", "--dir", &kept_name], "it is no directory", 1),
        (vec!["--workload", "diff", "--files", "0"], "--files", 2),
        (vec!["--workload", "first-write", "--file-size", "0"], "choose more", 2),
        (vec!["--workload", "import", "--tar", "/"], "read /: it is a directory", 1),
        (vec!["--workload", "import", "--tar", &nowhere], "missing/bench.json: No such file", 1),
        (
            vec!["--tiny", "--workload", "sqlite", "--peers", "podman"],
            "does none of these workloads; add one of copy-up",
            1,
        ),
        (vec!["--tiny", "--workload", "memory", "--driver", "bare"], "nothing was measured", 1),
        (vec!["--show", &list_name], "it has no version", 1),
        (vec!["--show", &kept_name], "read report", 1),
    ] {
        // The last one counts where an option may be given once only.
        let output = match arguments.contains(&"--dir") {
            true => Command::new(env!("CARGO_BIN_EXE_lamina")).arg("bench").args(&arguments).output()?,
            false => place.run(&arguments)?,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        expect_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        expect!(said.contains(words) && !said.contains("lamina: copy-up"), "{arguments:?}: {said}");
    }
    expect_eq!(fs::read_to_string(&kept)?, "of last year", "the report that lay there");
    Ok(Completion::Completed)
}

/// SIGKILL leaves directories and loop devices, until somebody measures there again.
pub(super) fn killed() -> Outcome<Completion> {
    let place = Place::new()?;
    let what = ["--tiny", "--driver", "btrfs,overlay/ext4", "--workload", "copy-up,metadata"];
    let mut child = place.command(&what).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let mut said = String::new();
    while fs::read_dir(&place.pools)?.count() < 2 {
        expect!(child.try_wait()?.is_none(), "it ended: {said}");
        if said.is_empty() {
            expect!(lines.read_line(&mut said)? > 0, "it ended");
        }
        std::thread::yield_now();
    }
    child.kill()?;
    child.wait()?;
    expect!(fs::read_dir(&place.pools)?.count() > 0, "nothing was left");
    // As a peer's would be, which has a part of it there.
    let of_peer = PathBuf::from(format!("/run/lamina-bench-lamina-test-{}-0", child.id()));
    fs::create_dir_all(of_peer.join("run"))?;
    let output = place.run(&["--tiny", "--driver", "btrfs", "--workload", "copy-up"]);
    let stayed = of_peer.exists();
    if stayed {
        fs::remove_dir_all(&of_peer)?;
    }
    let output = output?;
    expect!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    expect!(!stayed, "{} stayed", of_peer.display());
    Ok(Completion::Completed)
}

/// The kernel names mounts and backing files by their real paths.
pub(super) fn named_otherwise() -> Outcome<Completion> {
    let place = Place::new()?;
    let link = place.file("link");
    symlink(&place.pools, &link)?;
    for (directory, working) in [(link.as_path(), Path::new("/")), (Path::new("pools"), place.directory.path())] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamina"));
        command.args(["bench", "--tiny", "--driver", "overlay/ext4", "--workload", "copy-up", "--dir"]);
        let output = command.arg(directory).current_dir(working).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        expect!(output.status.success() && !said.contains("WARN"), "{}: {said}", directory.display());
        place.expect_nothing(&output.stderr)?;
    }
    Ok(Completion::Completed)
}
