//! `cp` and `export`.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    expect, expect_eq,
    lamina::{Host, Said},
    pool::Outcome,
};

fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn files_come_and_go(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("etc/conf", b"conf"), ("srv/a/one", b"one"), ("srv/a/b/two", b"two")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let (out, tree) = (host.file("out"), host.file("tree"));
    fs::create_dir(&out)?;
    fs::create_dir_all(tree.join("sub"))?;
    fs::write(tree.join("sub/file"), "from the host")?;
    chown(tree.join("sub/file"), Some(77), Some(78))?;
    fs::hard_link(tree.join("sub/file"), tree.join("twin"))?;
    fs::write(tree.join("sub/.wh.file"), "no whiteout")?;

    // Out: a file, under a new name, a directory, its content.
    host.ok(&["cp", "box:/etc/conf", &text(&out)])?;
    host.ok(&["cp", "box:etc/conf", &text(&out.join("renamed"))])?;
    host.ok(&["cp", "box:/srv/a", &text(&out)])?;
    host.ok(&["cp", "box:/srv/a/.", &text(&out.join("content"))])?;
    for (file, content) in
        [("conf", "conf"), ("renamed", "conf"), ("a/b/two", "two"), ("content/one", "one"), ("content/b/two", "two")]
    {
        expect_eq!(fs::read_to_string(out.join(file))?, content, "{file}");
    }
    host.fails(&["cp", "box:/none", &text(&out)], "does not exist")?;
    host.fails(&["cp", "box:/srv/a", &text(&out.join("conf"))], "cannot copy a directory")?;
    host.fails(&["cp", "box:/etc/conf", &text(&out.join("none/"))], "no such directory")?;

    // What is special on the host is not replaced.
    let fifo = out.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)?;
    for target in [fifo.as_path(), Path::new("/dev/full")] {
        host.fails(&["cp", "box:/etc/conf", &text(target)], "only a directory or a regular file can be written")?;
    }
    // In: the same, not mounted and mounted.
    host.ok(&["cp", &text(&tree), "box:/srv"])?;
    let target = host.mount("box")?;
    host.ok(&["cp", "-a", &format!("{}/.", text(&tree)), "box:/kept"])?;
    let (plain, kept) = (fs::metadata(target.join("srv/tree/sub/file"))?, fs::metadata(target.join("kept/sub/file"))?);
    expect_eq!((plain.uid(), kept.uid(), kept.gid()), (0, 77, 78));
    expect_eq!(fs::read(target.join("kept/sub/.wh.file"))?, b"no whiteout", "nothing of cp is a layer");
    for copy in ["kept", "srv/tree"] {
        fs::remove_file(target.join(copy).join("sub/.wh.file"))?;
    }
    expect_eq!(fs::metadata(target.join("kept/twin"))?.ino(), kept.ino(), "hard links stay");
    host.fails(&["cp", &text(&tree.join("sub")), "box:/etc/conf"], "cannot copy a directory")?;
    fs::create_dir(target.join("srv/twin"))?;
    host.fails(&["cp", &text(&tree.join("twin")), "box:/srv"], "cannot overwrite directory")?;

    // As archives, of a container that is written meanwhile.
    let archive = host.file("archive.tar");
    let mut command = host.command(&["cp", "box:/srv/a", "-"]);
    expect!(command.stdout(File::create(&archive)?).status()?.success(), "cp to standard output");
    let mut command = host.command(&["cp", "-q", "-", "box:/kept"]);
    expect!(command.stdin(Stdio::from(File::open(&archive)?)).status()?.success(), "cp from standard input");
    expect_eq!(fs::read(target.join("kept/a/b/two"))?, b"two");
    let exported = host.file("exported.tar");
    host.ok(&["export", "-o", &text(&exported), "box"])?;
    host.ok(&["umount", "box"])?;
    let image = host.ok(&["import", &text(&exported), "again:1"])?;
    expect!(image.starts_with("sha256:"), "{image}");
    host.ok(&["create", "--name", "again", "again:1"])?;
    let target = host.mount("again")?;
    expect_eq!(fs::read(target.join("kept/a/b/two"))?, b"two");
    expect_eq!(fs::metadata(target.join("kept/sub/file"))?.uid(), 77, "an export keeps owners");
    host.ok(&["umount", "again"]).map(drop)
}

/// Links of a container, also while it changes them, lead to its own files and never to the host's.
pub(super) fn links_lead_nowhere(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("etc/secret", b"the container's"), ("srv/x", b"x")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let (secret, out) = (host.file("secret"), host.file("out"));
    fs::write(&secret, "the host's")?;
    fs::create_dir(&out)?;
    let target = host.mount("box")?;
    let up = "../../../../../../../../../../../..";
    symlink(&secret, target.join("file"))?;
    symlink(format!("{up}{}", text(host.file("").as_path())), target.join("dir"))?;
    symlink("/etc", target.join("etc2"))?;
    symlink(format!("{up}/etc"), target.join("etc3"))?;
    // What they name does not exist in the container.
    host.fails(&["cp", "-L", "box:/file", &text(&out)], "No such file or directory")?;
    host.fails(&["cp", "box:/dir/secret", &text(&out)], "No such file or directory")?;
    host.fails(&["cp", &text(&secret), "box:/dir/new"], "No such file or directory")?;
    expect!(!host.file("new").exists(), "nothing was written outside");
    for link in ["etc2", "etc3"] {
        host.ok(&["cp", &format!("box:/{link}/secret"), &text(&out.join(link))])?;
        expect_eq!(fs::read_to_string(out.join(link))?, "the container's");
        host.ok(&["cp", &text(&secret), &format!("box:/{link}/{link}")])?;
        expect!(target.join("etc").join(link).exists(), "{link} is followed inside");
    }
    // Without -L the link itself comes.
    host.ok(&["cp", "box:/file", &text(&out.join("link"))])?;
    expect_eq!(fs::read_link(out.join("link"))?, secret);
    race(host, &target, &secret)?;
    fifo_race(host, &target, &secret)?;
    host.ok(&["umount", "box"]).map(drop)
}

/// A fifo that is made again and again, and at once replaced by a link to the host's file, whose mode stays.
fn fifo_race(host: &Host, target: &Path, secret: &Path) -> Outcome {
    let (place, stop) = (target.join("fifos"), AtomicBool::new(false));
    fs::create_dir(&place)?;
    fs::set_permissions(secret, fs::Permissions::from_mode(0o600))?;
    let archive = host.file("fifos.tar");
    let mut tar = tar::Builder::new(File::create(&archive)?);
    for _ in 0..2000 {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Fifo);
        header.set_size(0);
        header.set_mode(0o666);
        tar.append_data(&mut header, "fifo", std::io::empty())?;
    }
    tar.finish()?;
    drop(tar);
    let copied = || host.command(&["cp", "-", "box:/fifos"]).stdin(File::open(&archive)?).output();
    expect!(copied()?.status.success(), "with nobody in the way they are copied");
    thread::scope(|scope| {
        scope.spawn(|| {
            let (fifo, link) = (place.join("fifo"), place.join("link"));
            while !stop.load(Ordering::Relaxed) {
                if fs::symlink_metadata(&fifo).is_ok_and(|found| !found.is_symlink()) {
                    // What is in the way of the one meets the other at the next turn.
                    let _ = symlink(secret, &link).and_then(|()| fs::rename(&link, &fifo));
                }
            }
        });
        let tries = || -> Outcome {
            for _ in 0..20 {
                let said = Said::from(copied()?);
                expect!(said.code == Some(0) || said.err.contains("entry \"fifo\""), "{said:?}");
                expect_eq!(fs::metadata(secret)?.permissions().mode() & 0o777, 0o600, "the host's file was changed");
            }
            Ok(())
        };
        let tried = tries();
        stop.store(true, Ordering::Relaxed);
        tried
    })
}

/// A directory that becomes a link to the host's, and a directory again, all the time.
fn race(host: &Host, target: &Path, secret: &Path) -> Outcome {
    let (flip, aside, stop) = (target.join("flip"), target.join("aside"), AtomicBool::new(false));
    let outside = secret.parent().ok_or("no parent")?;
    fs::create_dir(&flip)?;
    fs::write(flip.join("secret"), "inside")?;
    symlink(outside, &aside)?;
    thread::scope(|scope| {
        let flipping = scope.spawn(|| -> rustix::io::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &flip, CWD, &aside, RenameFlags::EXCHANGE)?;
            }
            Ok(())
        });
        let tries = || -> Outcome {
            // Each way must have met the directory, too: where every copy fails nothing is shown.
            let (mut out, mut into, mut round) = (0, 0, 0);
            while (round < 10 || out == 0 || into == 0) && round < 300 {
                round += 1;
                let copy = host.file(&format!("copy{round}"));
                let said = host.run(&["cp", "box:/flip/secret", &text(&copy)])?;
                out += usize::from(said.code == Some(0));
                let read = fs::read_to_string(&copy).unwrap_or_default();
                expect_eq!(
                    read,
                    if said.code == Some(0) { "inside" } else { "" },
                    "the host's file came out: {said:?}"
                );
                let said = host.run(&["cp", &text(secret), &format!("box:/flip/written{round}")])?;
                into += usize::from(said.code == Some(0));
                expect!(!outside.join(format!("written{round}")).exists(), "written outside");
            }
            expect!(out > 0 && into > 0, "of {round} copies {out} came out and {into} went in");
            Ok(())
        };
        let tried = tries();
        stop.store(true, Ordering::Relaxed);
        tried.and(flipping.join().map_err(|_| "a thread panicked")?.map_err(Into::into))
    })
}
