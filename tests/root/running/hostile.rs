//! A running container that leads commands of the host astray by links.

use std::fs;

use super::followed;
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

/// A directory of its own and one in a volume that become links to the host's, and directories again, all the time: `cp`
/// and `export` see and write the container's files, or nothing.
pub(super) fn links_of_one_that_runs(host: &Host) -> Outcome {
    let (outside, copies) = (host.file("outside"), host.file("copies"));
    fs::create_dir(&outside)?;
    fs::create_dir(&copies)?;
    let secret = outside.join("secret");
    fs::write(&secret, "the host's")?;
    let place = outside.display();
    // By its own name, and up through the root: neither is there in the container.
    let script = format!(
        "mkdir /to; up=../../../../../../../../..; n=0; while true; do for d in /flip /data/flip; do \
         mkdir /to/d && echo inside > /to/d/secret && busybox mv /to/d $d; echo turn; busybox true; rm -r $d; \
         busybox ln -s {place} $d; rm $d; busybox ln -s $up{place} $d; rm $d; done; done"
    );
    let run = ["run", "-d", "--name", "flips", "-v", "data:/data", "base:1", "sh", "-c", &script];
    host.ok(&run)?;
    followed(host, "flips", 2)?;
    let text = secret.to_string_lossy();
    for directory in ["/flip", "/data/flip"] {
        let (mut out, mut into, mut round) = (0, 0, 0);
        // Each way must have met the directory, too: where every copy fails nothing is shown.
        while (round < 10 || out == 0 || into == 0) && round < 300 {
            round += 1;
            let copy = copies.join(format!("{}-{round}", directory.len()));
            let said = host.run(&["cp", &format!("flips:{directory}/secret"), &copy.to_string_lossy()])?;
            if said.code == Some(0) {
                expect_eq!(fs::read_to_string(&copy)?, "inside\n", "the host's file came out");
                out += 1;
            }
            let written = format!("written-{round}");
            let said = host.run(&["cp", &text, &format!("flips:{directory}/{written}")])?;
            into += usize::from(said.code == Some(0));
            expect!(!outside.join(&written).exists(), "written outside: {said:?}");
        }
        expect!(out > 0 && into > 0, "{directory}: of {round} copies {out} came out and {into} went in");
    }
    let archive = host.file("flips.tar");
    for _ in 0..3 {
        host.ok(&["export", "-o", &archive.to_string_lossy(), "flips"])?;
        let bytes = fs::read(&archive)?;
        expect!(!bytes.windows(10).any(|window| window == b"the host's"), "an export has the host's file");
        expect!(bytes.windows(6).any(|window| window == b"passwd"), "an export has the container's files");
    }
    host.ok(&["rm", "-f", "-v", "flips"])?;
    host.ok(&["volume", "rm", "data"]).map(drop)
}
