//! Volumes, copies and limits of containers that run.

use std::{fs, io::Write as _, os::unix::fs::FileTypeExt as _, process::Stdio};

use lamina::driver::DriverKind;

use crate::{
    expect, expect_eq,
    lamina::{Host, write_tar},
    pool::Outcome,
};

use super::base;

/// A volume has what the image has in its place, is shared, can be had read-only, and outlives its containers; one without
/// a name goes with its container if that goes by itself or with `rm -v`.
pub fn volumes_are_filled_shared_and_outlive(host: &Host) -> Outcome {
    base(host)?;
    let volumes = || host.ok(&["volume", "ls", "-q"]);
    host.ok(&["run", "--rm", "-v", "data:/etc", "base:1", "sh", "-c", "echo more > /etc/more"])?;
    let content = host.root().join("volumes/data/_data");
    expect!(fs::read_to_string(content.join("passwd"))?.contains("www:x:33"), "the image's content is there");
    expect_eq!(fs::read(content.join("more"))?, b"more\n");
    expect_eq!(host.ok(&["run", "--rm", "-v", "data:/data:ro", "base:1", "cat", "/data/more"])?, "more");
    let said = host.run(&["run", "--rm", "-v", "data:/data:ro", "base:1", "touch", "/data/new"])?;
    expect!(said.code == Some(1) && said.err.contains("Read-only file system"), "{said:?}");
    host.ok(&["run", "-d", "--name", "keeper", "-v", "data:/data", "-v", "/nameless", "base:1", "sleep", "1000"])?;
    host.fails(&["volume", "rm", "data"], "keeper")?;
    host.ok(&["exec", "keeper", "touch", "/data/kept", "/nameless/lost"])?;
    expect_eq!(volumes()?.lines().count(), 2);
    // What lies in volumes is neither its size nor its change.
    expect_eq!(host.json(&["ps", "-s"])?[0]["size_rw_bytes"], 0);
    expect_eq!(host.ok(&["diff", "keeper"])?, "");
    host.ok(&["rm", "-f", "-v", "keeper"])?;
    expect_eq!(volumes()?, "data");
    expect!(content.join("kept").exists(), "a volume outlives its container");
    host.ok(&["run", "--rm", "-v", "/nameless", "base:1", "true"])?;
    expect_eq!(volumes()?, "data");
    // Read-only, too, it has the places of what is mounted in it; and with nocopy nothing else.
    host.ok(&["run", "--rm", "-v", "kept:/etc:ro", "base:1", "cat", "/etc/hostname", "/etc/passwd"])?;
    let bare = host.ok(&["run", "--rm", "-v", "bare:/etc:nocopy,z", "base:1", "ls", "/etc"])?;
    expect_eq!(bare, "hostname\nhosts\nresolv.conf");
    host.ok(&["volume", "rm", "kept", "bare"])?;
    let mut here = host.command(&["run", "--rm", "-v", "./here/../there:/there", "base:1", "touch", "/there/new"]);
    expect!(here.current_dir(host.file("")).status()?.success(), "a relative path");
    expect!(host.file("there/new").exists(), "of this directory");
    // One that got its name from us is its user's all the same, once they give it by that.
    let own = host.ok(&["volume", "create"])?;
    let given = format!("{own}:/own/");
    host.ok(&["run", "--rm", "-v", &given, "base:1", "touch", "/own/kept"])?;
    expect!(host.root().join("volumes").join(&own).join("_data/kept").exists(), "it was removed with the container");
    let said = host.run(&["run", "--rm", "-v", &given, "--tmpfs", "/own", "base:1", "true"])?;
    expect!(said.code == Some(125) && said.err.contains("duplicate mount point: /own"), "{said:?}");
    host.ok(&["volume", "rm", &own])?;
    host.ok(&["volume", "rm", "data"]).map(drop)
}

/// `cp` sees volumes and directories of the host, of a container that was never started, runs, or has ended; and the
/// container's own tree, whatever its first process calls its root. What is no file is not opened.
fn copies_see_what_the_process_sees(host: &Host) -> Outcome {
    let (shared, file, out) = (host.file("shared"), host.file("file"), host.file("out"));
    fs::create_dir_all(&shared)?;
    fs::write(shared.join("host"), "the host's")?;
    fs::write(&file, "copied")?;
    let (bind, text) = (format!("{}:/far/bind", shared.display()), file.to_string_lossy());
    let frozen = format!("{}:/frozen:ro", shared.display());
    let jail = "mkdir -p /jail/bin /jail/etc /jail/srv; dd if=/bin/busybox of=/jail/bin/busybox 2>/dev/null; \
                busybox chmod 755 /jail/bin/busybox; echo www:x:1:1::/: > /jail/etc/passwd; busybox mkfifo /srv/pipe; \
                mkdir /jail/ready; exec busybox chroot /jail /bin/busybox sleep 1000";
    let args = ["-v", "data:/data", "-v", &bind, "-v", &frozen, "--tmpfs", "/memory", "base:1", "sh", "-c", jail];
    host.ok(&[&["create", "--name", "seen"][..], &args].concat())?;
    let read = |path: &str| -> Outcome<String> {
        host.ok(&["cp", &format!("seen:{path}"), &out.to_string_lossy()])?;
        Ok(fs::read_to_string(&out)?)
    };
    let both = |round: &str| -> Outcome {
        expect_eq!(read("/far/bind/host")?, "the host's", "{round}");
        host.ok(&["cp", &text, &format!("seen:/data/{round}")])?;
        host.ok(&["cp", &text, &format!("seen:/far/bind/{round}")])?;
        host.ok(&["cp", &text, &format!("seen:/srv/{round}")])?;
        expect_eq!(fs::read_to_string(host.root().join("volumes/data/_data").join(round))?, "copied");
        expect_eq!(fs::read_to_string(shared.join(round))?, "copied");
        host.fails(&["cp", &text, "seen:/frozen/new"], "Read-only file system")?;
        expect_eq!(read(&format!("/srv/{round}"))?, "copied");
        let diff = host.ok(&["diff", "seen"])?;
        let own = diff.contains(&format!("A /srv/{round}")) && !diff.contains("/far") && !diff.contains("/data");
        expect!(own, "{round}: {diff}");
        Ok(())
    };
    both("created")?;
    host.ok(&["start", "seen"])?;
    super::soon("it has its own root", || Ok(host.run(&["exec", "seen", "stat", "/jail/ready"])?.code == Some(0)))?;
    super::soon("it is in it", || Ok(host.ok(&["top", "seen"])?.contains("sleep 1000")))?;
    both("running")?;
    let top = host.ok(&["top", "seen", "-o", "pid,comm"])?;
    expect!(top.contains("PID") && top.contains("busybox") && top.lines().count() == 2, "{top}");
    let top = host.ok(&["top", "seen", "aux"])?;
    expect!(top.contains("USER") && top.contains("sleep 1000") && top.lines().count() == 2, "{top}");
    host.fails(&["top", "seen", "-o", "comm"], "PID")?;
    expect_eq!(host.ok(&["exec", "-u", "www", "seen", "id", "-u"])?, "33", "the image's users, not the jail's");
    expect_eq!(read("/etc/hostname")?, host.ok(&["exec", "seen", "hostname"])? + "\n");
    let tree = host.file("tree");
    host.ok(&["cp", "-a", "seen:/srv", &tree.to_string_lossy()])?;
    expect!(fs::symlink_metadata(tree.join("pipe"))?.file_type().is_fifo(), "a fifo");
    // A copy that outlives the run: overlayfs could not mount it a second time, the others can.
    let mut copying = host.spawn(&["cp", "-", "seen:/srv"], Stdio::piped())?;
    let mut stdin = copying.stdin.take().ok_or("a pipe")?;
    let archive = host.file("first.tar");
    write_tar(&archive, &[("first", b"1"), ("second", &vec![0; 12_000_000])])?;
    let bytes = fs::read(&archive)?;
    stdin.write_all(&bytes[..8_000_000])?;
    super::soon("it copies", || Ok(host.run(&["exec", "seen", "stat", "/srv/first"])?.code == Some(0)))?;
    host.ok(&["stop", "-t", "0", "seen"])?;
    if host.driver == DriverKind::Overlay {
        host.fails(&["start", "seen"], "a command still copies")?;
    }
    stdin.write_all(&bytes[8_000_000..])?;
    drop(stdin);
    expect_eq!(copying.wait()?.code(), Some(0));
    host.ok(&["start", "seen"])?;
    host.ok(&["stop", "-t", "0", "seen"])?;
    both("stopped")?;
    host.ok(&["rm", "seen"])?;
    // What is not to be written in is not written in by copies either.
    host.ok(&["create", "--name", "seen", "--read-only", "-v", "data:/data", "base:1", "true"])?;
    host.fails(&["cp", &text, "seen:/srv/new"], "Read-only file system")?;
    host.ok(&["cp", &text, "seen:/data/read-only"])?;
    host.ok(&["rm", "seen"])?;
    host.ok(&["volume", "rm", "data"]).map(drop)
}

/// A copy takes no mount and no device away, and is not where nobody sees it: it is refused, and nothing has changed.
fn copies_take_nothing_away(host: &Host) -> Outcome {
    let (bound, new, fifo, tree) = (host.file("bound"), host.file("new"), host.file("fifo"), host.file("etc"));
    fs::write(&bound, "bound\n")?;
    fs::write(&new, "new\n")?;
    fs::create_dir(&tree)?;
    fs::write(tree.join("hosts"), "none\n")?;
    let new = new.to_string_lossy();
    let bind = format!("{}:/srv/bound", bound.display());
    host.ok(&["run", "-d", "--name", "whole", "-v", &bind, "--tmpfs", "/memory", "base:1", "sleep", "1000"])?;
    let hosts = host.ok(&["exec", "whole", "cat", "/etc/hosts"])?;
    let into = format!("{}/.", tree.display());
    for round in ["running", "stopped"] {
        for (source, target) in [(&*new, "whole:/srv/bound"), (&*new, "whole:/etc/hosts"), (&*into, "whole:/etc")] {
            host.fails(&["cp", source, target], "device or resource busy")?;
        }
        for target in ["whole:/memory", "whole:/memory/new", "whole:/srv/../dev/new", "whole:/dev/null"] {
            host.fails(&["cp", &new, target], "a directory in memory")?;
        }
        if round == "running" {
            expect_eq!(host.ok(&["exec", "whole", "cat", "/srv/bound"])?, "bound");
            expect_eq!(host.ok(&["exec", "whole", "cat", "/etc/hosts"])?, hosts);
            host.ok(&["stop", "-t", "0", "whole"])?;
        }
        expect_eq!(host.ok(&["diff", "whole"])?, "", "{round}");
        expect_eq!(fs::read_to_string(&bound)?, "bound\n");
    }
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)?;
    host.fails(&["cp", "whole:/etc/passwd", &fifo.to_string_lossy()], "is a fifo")?;
    expect!(fs::symlink_metadata(&fifo).is_ok_and(|found| found.file_type().is_fifo()), "the fifo is there");
    let device = host.file("full");
    let number = rustix::fs::makedev(1, 7);
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &device, rustix::fs::FileType::CharacterDevice, mode, number)?;
    host.fails(&["cp", "whole:/etc/passwd", &device.to_string_lossy()], "is a device")?;
    expect!(fs::symlink_metadata(&device).is_ok_and(|found| found.file_type().is_char_device()), "the device is there");
    host.ok(&["rm", "whole"]).map(drop)
}

/// Copies see what the process sees, and a limit holds for it alone.
pub fn copies_and_limits(host: &Host) -> Outcome {
    base(host)?;
    copies_see_what_the_process_sees(host)?;
    copies_take_nothing_away(host)?;
    super::hostile::links_of_one_that_runs(host)?;
    host.ok(&["run", "-d", "--name", "box", "base:1", "sh", "-c", "echo inside > /srv/file; sleep 1000"])?;
    super::soon("the file is there", || Ok(host.run(&["exec", "box", "cat", "/srv/file"])?.code == Some(0)))?;
    let out = host.file("out");
    host.ok(&["cp", "box:/srv/file", &out.to_string_lossy()])?;
    expect_eq!(fs::read(&out)?, b"inside\n");
    fs::write(&out, "outside\n")?;
    host.ok(&["cp", &out.to_string_lossy(), "box:/srv/other"])?;
    expect_eq!(host.ok(&["exec", "box", "cat", "/srv/other"])?, "outside");
    expect!(host.ok(&["diff", "box"])?.contains("A /srv/other"), "what was copied is its own");
    host.ok(&["rm", "-f", "box"])?;
    let limited = ["run", "--rm", "--storage-opt", "size=32M", "base:1"];
    let write = ["dd", "if=/dev/zero", "of=/srv/big", "bs=1M", "count=64"];
    let said = host.run(&[&limited[..], &write].concat())?;
    if host.has_device() {
        let full = said.err.contains("No space left") || said.err.contains("quota exceeded");
        expect!(said.code == Some(1) && full, "{said:?}");
    } else {
        expect!(said.code == Some(125), "refused: {said:?}");
    }
    host.ok(&[&["run", "--rm", "base:1"][..], &write].concat()).map(drop)
}
