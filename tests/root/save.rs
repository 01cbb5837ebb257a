//! Images out of the store again: other programs read what is written, what came goes out with the same digests, what
//! was made here is the same image elsewhere, and damage is told.

pub mod everything;
pub mod foreign;
pub mod limits;
mod outline;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use lamina::driver::DriverKind;
use libtest_mimic::Trial;

use crate::{
    archive, expect, expect_eq,
    image::{listing::listing_with_links, tarball::Tarball},
    lamina::{Host, Said, with_host},
    pool::Outcome,
};

type Case = fn(&Host) -> Outcome;

const CASES: [(&str, Case); 12] = [
    ("committed_layers_are_the_same_elsewhere", committed_layers_are_the_same_elsewhere),
    ("images_share_their_layers", images_share_their_layers),
    ("damaged_archives_of_layers_are_told", damaged_archives_of_layers_are_told),
    ("every_byte_of_a_tar_comes_back", outline::every_byte_of_a_tar_comes_back),
    ("a_tar_that_overwrites_itself_comes_back", outline::a_tar_that_overwrites_itself_comes_back),
    ("layers_that_change_each_other_come_back", outline::layers_that_change_each_other_come_back),
    ("a_tar_that_was_kept_whole_comes_back", outline::a_tar_that_was_kept_whole_comes_back),
    ("a_stray_archive_is_told_and_removed", a_stray_archive_is_told_and_removed),
    ("a_killed_save_leaves_nothing", limits::a_killed_save_leaves_nothing),
    ("where_an_archive_is_not_written", where_an_archive_is_not_written),
    ("names_come_and_go", names_come_and_go),
    ("prune_and_df_tell_what_is_free", prune_and_df_tell_what_is_free),
];

/// One case per driver, and what needs other programs or a small disk.
pub fn trials() -> Vec<Trial> {
    let case = |driver: DriverKind, name: &str, case: Case| {
        Trial::ignorable_test(format!("save::{driver}::{name}"), move || with_host(driver, case))
    };
    let all = DriverKind::ALL.into_iter();
    let mut trials: Vec<Trial> = all.flat_map(|driver| CASES.map(|(name, body)| case(driver, name, body))).collect();
    for driver in [DriverKind::Overlay, DriverKind::Vfs] {
        trials.push(case(driver, "a_changed_snapshot_is_told", outline::a_changed_snapshot_is_told));
    }
    trials.extend(foreign::trials());
    trials.extend(limits::trials());
    trials
}

/// The path of a file of the test, as an argument.
pub fn path(host: &Host, name: &str) -> String {
    host.file(name).display().to_string()
}

pub fn load(host: &Host, name: &str) -> Outcome<String> {
    host.ok(&["load", "-i", &path(host, name)])
}

/// The names of the archives of layers that are kept.
fn kept(host: &Host) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(host.root().join("blobs"))? {
        found.push(entry?.path());
    }
    Ok(found)
}

/// What an archive has, by name.
fn members(archive: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(fs::File::open(archive)?).entries()? {
        let mut entry = entry?;
        let (name, mut content) = (entry.path()?.display().to_string(), Vec::new());
        std::io::Read::read_to_end(&mut entry, &mut content)?;
        expect!(found.insert(name.clone(), content).is_none(), "{name} is there twice");
    }
    Ok(found)
}

/// The tree of an image, as a container of it shows it.
pub fn tree(host: &Host, image: &str) -> Outcome<BTreeMap<Vec<u8>, String>> {
    let id = host.ok(&["create", image])?;
    let found = listing_with_links(&host.mount(&id)?);
    host.ok(&["umount", &id])?;
    host.ok(&["rm", &id])?;
    Ok(found)
}

/// An image `made:1` of two layers, the upper one committed: something of each kind changed.
pub fn commit_something(host: &Host) -> Outcome<String> {
    let base = Tarball::default().dir("etc").file("etc/old", "old").file("etc/same", "same").file("gone", "gone");
    let base = base.dir("away").file("away/inside", "x").symlink("link", "etc/old").hard_link("hard", "etc/same");
    let base = base.dir("kept").file("kept/one", "one").file("kept/two", "two");
    fs::write(host.file("base.tar"), base.end())?;
    host.ok(&["import", &path(host, "base.tar"), "base:1"])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let root = host.mount("box")?;
    fs::write(root.join("etc/old"), "new content")?;
    fs::write(root.join("big"), vec![7; 300_000])?;
    fs::remove_file(root.join("gone"))?;
    fs::remove_dir_all(root.join("away"))?;
    fs::create_dir_all(root.join("deep/er"))?;
    fs::write(root.join("deep/er/file"), "deep")?;
    fs::hard_link(root.join("big"), root.join("deep/big"))?;
    // Further names of files that did not change, of which one had two before.
    fs::hard_link(root.join("kept/one"), root.join("kept/other"))?;
    fs::hard_link(root.join("kept/two"), root.join("deep/two"))?;
    fs::hard_link(root.join("etc/same"), root.join("third"))?;
    std::os::unix::fs::symlink("nowhere", root.join("broken"))?;
    std::os::unix::fs::lchown(root.join("deep"), Some(1000), Some(3_000_000))?;
    everything::put_everything(&root)?;
    host.ok(&["umount", "box"])?;
    let id = host.ok(&["commit", "box", "made:1"])?;
    host.ok(&["rm", "box"])?;
    Ok(id)
}

fn committed_layers_are_the_same_elsewhere(host: &Host) -> Outcome {
    host.pool("512M")?;
    let id = commit_something(host)?;
    expect_eq!(kept(host)?.len(), 1, "only what came from an archive is kept");
    let here = tree(host, "made:1")?;
    for format in ["docker", "oci"] {
        let saved = path(host, format);
        host.ok(&["save", "--format", format, "-o", &saved, "made:1"])?;
        // The same bytes each time.
        let again = host.command(&["save", "--format", format, "made:1"]).output()?;
        expect!(
            again.stdout == fs::read(&saved)?,
            "{format}: standard output has other bytes: {:?}",
            Said::from(again)
        );
        let elsewhere = |other: &Host| -> Outcome {
            other.pool("512M")?;
            expect_eq!(other.ok(&["load", "-i", &saved])?, "Loaded image: made:1");
            expect_eq!(other.ok(&["images", "-q", "--no-trunc"])?, id);
            expect_eq!(tree(other, "made:1")?, here, "{format}");
            // And out of there again: the same archive.
            other.ok(&["save", "--format", format, "-o", &path(other, "again"), "made:1"])?;
            expect!(
                fs::read(other.file("again"))? == fs::read(&saved)?,
                "{format}: saved again, it is another archive"
            );
            other.check()
        };
        with_host(host.driver, elsewhere).map_err(|failed| failed.message().unwrap_or("failed").to_owned())?;
    }
    Ok(())
}

fn images_share_their_layers(host: &Host) -> Outcome {
    host.pool("512M")?;
    archive::load_on_shared_base(host, ["left:1", "right:2"])?;
    host.ok(&["tag", "left:1", "registry.example:5000/a/left:other"])?;
    let names = ["left:1", "registry.example:5000/a/left:other", "right:2", "left:1"];
    for format in ["docker", "oci"] {
        host.ok(&[&["save", "--format", format, "-o", &path(host, "both.tar")], &names[..]].concat())?;
        let members = members(&host.file("both.tar"))?;
        let blobs = members.keys().filter(|name| name.len() > "blobs/sha256/".len()).count();
        // Three layers, and two configurations and two manifests.
        expect_eq!(blobs, 7, "{format}: {:?}", members.keys());
        let index: serde_json::Value = serde_json::from_slice(&members["index.json"])?;
        expect_eq!(index["manifests"].as_array().map(Vec::len), Some(3), "{index}");
    }
    let wanted: serde_json::Value = {
        host.ok(&[&["save", "-o", &path(host, "docker.tar")], &names[..]].concat())?;
        serde_json::from_slice(&members(&host.file("docker.tar"))?["manifest.json"])?
    };
    expect_eq!(wanted[0]["RepoTags"], serde_json::json!(["left:1", "registry.example:5000/a/left:other"]));
    let loaded = |other: &Host| -> Outcome {
        other.pool("512M")?;
        let said = other.ok(&["load", "-i", &path(host, "docker.tar")])?;
        expect_eq!(said.lines().count(), 3, "{said}");
        expect_eq!(
            other.json(&["images"])?[0]["layers"][0]["diff_id"],
            host.json(&["images"])?[0]["layers"][0]["diff_id"]
        );
        other.check()
    };
    with_host(host.driver, loaded).map_err(|failed| failed.message().unwrap_or("failed").to_owned())?;
    // By its ID it has no name, as with Docker.
    let id = host.ok(&["images", "-q", "--no-trunc"])?.lines().next().unwrap_or_default().to_owned();
    host.ok(&["save", "-o", &path(host, "unnamed.tar"), &id])?;
    let unnamed: serde_json::Value = serde_json::from_slice(&members(&host.file("unnamed.tar"))?["manifest.json"])?;
    expect_eq!(unnamed[0]["RepoTags"], serde_json::Value::Null);
    Ok(())
}

fn damaged_archives_of_layers_are_told(host: &Host) -> Outcome {
    host.pool("512M")?;
    let noise: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    host.image("base:1", &[("noise", &noise)])?;
    let [blob] = &kept(host)?[..] else { return Err("not one archive is kept".into()) };
    let whole = fs::read(blob)?;
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let half = &whole[..whole.len() / 2];
    let short = format!("has {} bytes", half.len());
    for (content, words, checked) in
        [(&damaged[..], "damaged", true), (half, &short, false), (&[], "has 0 bytes", false)]
    {
        fs::write(blob, content)?;
        for format in ["docker", "oci"] {
            let said = host.run(&["save", "--format", format, "-o", &path(host, "out.tar"), "base:1"])?;
            let told = said.err.contains(words) || (checked && said.err.contains("was expected"));
            expect!(said.code == Some(1) && told && said.err.contains("blobs/"), "{format} {words}: {said:?}");
            expect!(!host.file("out.tar").exists(), "a failed save leaves nothing");
        }
        // Its size is all that `check` can tell quickly.
        expect_eq!(host.run(&["check"])?.code, Some(i32::from(!checked)), "{words}");
    }
    fs::remove_file(blob)?;
    host.fails(&["save", "-o", &path(host, "out.tar"), "base:1"], "it is missing")?;
    let said = host.run(&["check", "--repair"])?;
    expect!(said.code == Some(1) && said.out.contains("is missing"), "{said:?}");
    // What is wrong with it goes with the image.
    host.ok(&["rmi", "base:1"])?;
    host.check()
}

fn a_stray_archive_is_told_and_removed(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    let stray = host.root().join("blobs").join("0".repeat(64));
    fs::write(&stray, "stray")?;
    let said = host.run(&["check"])?;
    expect!(said.code == Some(1) && said.out.contains("belongs to no layer"), "{said:?}");
    host.ok(&["check", "--repair"])?;
    expect!(!stray.exists(), "it is gone");
    expect_eq!(kept(host)?.len(), 1, "the other one stays");
    host.check()?;
    host.ok(&["rmi", "base:1"])?;
    expect_eq!(kept(host)?.len(), 0, "it goes with its layer");
    Ok(())
}

fn where_an_archive_is_not_written(host: &Host) -> Outcome {
    host.fails(&["save", "-o", "/dev/null", "base:1"], "no pool")?;
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.fails(&["save", "-o", "/dev/null", "base:1"], "a device")?;
    host.fails(&["save", "-o", "/does/not/exist.tar", "base:1"], "/does/not/exist.tar")?;
    host.fails(&["save", "-o", &path(host, "x"), "base:1", "nothing:1"], "no such image: nothing:1")?;
    expect!(!host.file("x").exists(), "nothing is written of the one that is there");
    expect_eq!(host.run(&["save", "--format", "squashfs", "base:1"])?.code, Some(2));
    expect_eq!(host.run(&["save"])?.code, Some(2));
    let said = Said::from(host.command(&["save", "base:1"]).stdout(fs::File::create("/dev/full")?).output()?);
    expect!(said.code == Some(1) && said.err.contains("standard output"), "{said:?}");
    // On a terminal; script(1) gives it one.
    let lamina = format!("{} --root {} save base:1", env!("CARGO_BIN_EXE_lamina"), host.root().display());
    let shown = std::process::Command::new("script").args(["-qec", &lamina, "/dev/null"]).output()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    expect!(shown.contains("no text for a terminal") && shown.len() < 1000, "{shown}");
    Ok(())
}

fn names_come_and_go(host: &Host) -> Outcome {
    host.pool("512M")?;
    let id = host.image("base:1", &[("file", b"content")])?;
    let other = host.image("other:1", &[("file", b"other")])?;
    host.ok(&["tag", "base:1", "acme/second"])?;
    host.ok(&["image", "tag", &id, "third:3"])?;
    let named = |name: &str| -> Outcome<String> {
        Ok(host.json(&["inspect", name])?[0]["Id"].as_str().unwrap_or_default().to_owned())
    };
    for name in ["acme/second:latest", "third:3"] {
        expect_eq!(named(name)?, id);
    }
    // A name moves; what it named stays.
    host.ok(&["tag", "other:1", "third:3"])?;
    expect_eq!((named("third:3")?, named("base:1")?), (other.clone(), id.clone()));
    host.fails(&["tag", "nothing:1", "some:1"], "no such image: nothing:1")?;
    host.fails(&["tag", "base:1", &format!("base@{id}")], "digest cannot be given")?;
    expect_eq!(host.run(&["tag", "base:1", "Not/Right"])?.code, Some(2));

    let lines = |args: &[&str]| -> Outcome<Vec<String>> { Ok(host.ok(args)?.lines().map(str::to_owned).collect()) };
    expect_eq!(lines(&["images", "-q"])?.len(), 4, "one for each name");
    let long = lines(&["images", "-q", "--no-trunc"])?;
    expect!(long.contains(&id) && long.contains(&other), "{long:?}");
    let table = lines(&["images", "-a", "--digests", "--no-trunc"])?;
    expect!(
        table[0].split_whitespace().eq([
            "REPOSITORY",
            "TAG",
            "DIGEST",
            "IMAGE",
            "ID",
            "CREATED",
            "SIZE",
            "OWN",
            "BLOCKS"
        ]),
        "{table:?}"
    );
    expect!(table.iter().any(|line| line.contains(&id) && line.contains("<none>")), "{table:?}");
    expect_eq!(host.ok(&["history", "-q", "--no-trunc", "base:1"])?, id);
    expect_eq!(host.ok(&["history", "-q", "base:1"])?, id["sha256:".len()..][..12]);
    expect_eq!(host.json(&["image", "ls"])?, host.json(&["images"])?);
    for (args, wanted) in [
        (&["base"][..], vec!["base:1"]),
        (&["base:2"], vec![]),
        (&["acme/*"], vec!["acme/second:latest"]),
        (&["*"], vec!["base:1", "other:1", "third:3"]),
        (&["--filter", "reference=*e*:1", "--filter", "dangling=false"], vec!["base:1", "other:1"]),
        (&["--filter", "dangling=true"], vec![]),
        (&["--filter", "label=none"], vec![]),
    ] {
        let rows = host.json(&[&["images"], args].concat())?;
        let name = |row: &serde_json::Value| format!("{}:{}", row["repository"], row["tag"]).replace('"', "");
        let mut names: Vec<String> = rows.as_array().into_iter().flatten().map(name).collect();
        names.sort();
        expect_eq!(names, wanted, "images {args:?}");
    }
    host.fails(&["images", "--filter", "color=red"], "invalid filter")?;
    host.fails(&["images", "[a"], "malformed pattern")?;
    host.ok(&["image", "rm", "acme/second"])?;
    host.ok(&["rmi", "base:1"])?;
    host.finds_nothing(&["inspect", &id], "no such object")
}

fn prune_and_df_tell_what_is_free(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", &[1; 10_000])])?;
    let dangling = host.image("moving:1", &[("file", &[2; 20_000])])?;
    host.image("moving:1", &[("file", &[3; 40_000])])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let df = host.json(&["system", "df"])?;
    let of = |row: usize, field: &str| df[row][field].as_u64();
    expect_eq!((of(0, "total"), of(0, "active")), (Some(3), Some(1)));
    expect_eq!((of(0, "size_bytes"), of(0, "reclaimable_bytes")), (Some(70_000), Some(60_000)));
    let on_disk: u64 = kept(host)?.iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum();
    expect_eq!(of(0, "archive_bytes"), Some(on_disk));
    expect_eq!((of(1, "total"), of(1, "active"), of(1, "size_bytes")), (Some(1), Some(0), Some(0)));
    let shown = host.ok(&["system", "df", "-v"])?;
    for words in ["TYPE", "Images", "60kB (85%)", "Containers:", "box"] {
        expect!(shown.contains(words), "'{words}' is not in {shown}");
    }

    host.fails(&["image", "prune"], "give -f")?;
    let said = host.ok(&["image", "prune", "-f"])?;
    expect!(said.starts_with(&format!("Deleted: {dangling}\nTotal reclaimed space: ")), "{said}");
    expect_eq!(kept(host)?.len(), 2);
    let said = host.ok(&["image", "prune", "-a", "-f"])?;
    expect!(said.starts_with("Untagged: moving:1\nDeleted: "), "{said}");
    expect_eq!(host.ok(&["images", "-q"])?.lines().count(), 1, "a container needs the other one");
    let said = host.ok(&["image", "prune", "-a", "-f"])?;
    expect_eq!(said, "Total reclaimed space: 0B in the pool, 0B of archives");
    host.check()
}
