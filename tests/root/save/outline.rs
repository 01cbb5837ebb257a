//! Layers that came as plain tars: of what they hold, only the snapshot has a copy, and every byte comes back.

use std::{fs, process::Command};

use lamina::id::Digest;

use super::{kept, members, path};
use crate::{archive, expect, expect_eq, image::tarball::Tarball, lamina::Host, pool::Outcome};

fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// Saves `image`, and looks whether its layers are these tars.
fn comes_back(host: &Host, image: &str, tars: &[&[u8]]) -> Outcome {
    host.ok(&["save", "-o", &path(host, "saved.tar"), image])?;
    let members = members(&host.file("saved.tar"))?;
    for tar in tars {
        let name = format!("blobs/sha256/{}", Digest::of(tar).hex());
        expect!(members.get(&name).is_some_and(|saved| saved == tar), "{image}: {name} did not come back");
    }
    Ok(())
}

fn import(host: &Host, name: &str, tar: &[u8]) -> Outcome {
    fs::write(host.file("layer.tar"), tar)?;
    host.ok(&["import", &path(host, "layer.tar"), name])?;
    comes_back(host, name, &[tar])
}

pub(super) fn every_byte_of_a_tar_comes_back(host: &Host) -> Outcome {
    host.pool("512M")?;
    let large = Tarball::default().dir("d").raw(b'0', b"d/large", b"", &noise(3_000_000)).file("empty", "");
    let large = large.hard_link("hard", "d/large").pax(&[("path", &[b'n'; 200])]).file("x", "long");
    import(host, "large:1", &large.end())?;
    let size = fs::metadata(&kept(host)?[0])?.len();
    expect!(size < 10_000, "{size} bytes are kept of what the snapshot has");
    // Made on the way, below no member of their own; and bytes after the end.
    let mut late = Tarball::default().file("a/b/c", "deep").file("./a//b/./d", "there").end();
    late.extend(noise(70_000));
    import(host, "late:1", &late)?;
    // With holes.
    fs::File::create(host.file("holes"))?.set_len(5 << 20)?;
    let tar = Command::new("tar").args(["-C", &path(host, ""), "--sparse", "-c", "holes"]).output()?;
    expect!(tar.status.success() && tar.stdout.len() < 100_000, "tar: {}", tar.stdout.len());
    import(host, "holes:1", &tar.stdout)?;
    host.check()
}

pub(super) fn a_tar_that_overwrites_itself_comes_back(host: &Host) -> Outcome {
    host.pool("512M")?;
    let large = || Tarball::default().dir("d").raw(b'0', b"d/large", b"", &noise(300_000)).file("other", "1");
    for (name, tar) in [
        ("file", large().file("other", "two").file("after", "x")),
        ("directory", large().file("d", "a file").file("after", "x").file("after", "again")),
        ("symlink", large().symlink("d", "elsewhere").file("after", "x")),
        ("hard", large().hard_link("d/large", "other").file("after", "x")),
        ("tree", large().symlink("other", "d").dir("other").file("other/large", "x")),
        ("through", large().symlink("s", "d").file("s/in", "through").dir("s").file("s/in", "not through")),
    ] {
        import(host, &format!("{name}:1"), &tar.end())?;
    }
    host.check()
}

pub(super) fn layers_that_change_each_other_come_back(host: &Host) -> Outcome {
    host.pool("512M")?;
    let lower = Tarball::default().dir("usr").dir("usr/lib").file("usr/lib/a", "lower").symlink("lib", "usr/lib");
    let lower = lower.dir("dir").file("dir/old", "old").dir("gone").file("gone/old", "old").end();
    let upper = Tarball::default().file("lib/a", "through a symlink").file("lib/b", "too").file(".wh.lib", "");
    let upper = upper.file("dir/new", "in a lower directory").file("dir", "which goes").file("gone/new", "new");
    let upper = upper.file(".wh.gone", "a whiteout with content").dir("opaque").file("opaque/.wh..wh..opq", "").end();
    for (name, tar) in [("lower.tar", &lower), ("upper.tar", &upper)] {
        fs::write(host.file(name), tar)?;
    }
    archive::write(&host.file("two.tar"), "two:1", &[&host.file("lower.tar"), &host.file("upper.tar")])?;
    super::load(host, "two.tar")?;
    comes_back(host, "two:1", &[&lower, &upper])?;
    host.check()
}

/// Before there were outlines, the tar was kept whole.
pub(super) fn a_tar_that_was_kept_whole_comes_back(host: &Host) -> Outcome {
    host.pool("512M")?;
    let tar = Tarball::default().raw(b'0', b"file", b"", &noise(100_000)).end();
    import(host, "old:1", &tar)?;
    let whole = zstd::encode_all(&tar[..], 1)?;
    fs::write(&kept(host)?[0], &whole)?;
    let database = rusqlite::Connection::open(host.root().join("lamina.db"))?;
    expect_eq!(database.execute("UPDATE snapshots SET blob_size = ?1 WHERE blob_size > 0", [whole.len()])?, 1);
    comes_back(host, "old:1", &[&tar])
}

/// The snapshot is believed no more than an archive: what it gives is told when it is not what came.
pub(super) fn a_changed_snapshot_is_told(host: &Host) -> Outcome {
    host.pool("512M")?;
    let tar = Tarball::default().raw(b'0', b"file", b"", &noise(100_000)).end();
    import(host, "base:1", &tar)?;
    let volumes = host.root().join("pool");
    let found = Command::new("find").arg(&volumes).args(["-name", "file", "-size", "+50k"]).output()?;
    let file = String::from_utf8(found.stdout)?;
    for (content, words) in [(noise(99_999), "lost its last 1 bytes"), (vec![7; 100_000], "was expected")] {
        fs::write(file.trim(), content)?;
        for format in ["docker", "oci"] {
            host.fails(&["save", "--format", format, "-o", &path(host, "out.tar"), "base:1"], words)?;
        }
    }
    fs::remove_file(file.trim())?;
    host.fails(&["save", "-o", &path(host, "out.tar"), "base:1"], "open its file \"file\"")
}
