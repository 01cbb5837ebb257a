//! With skopeo, umoci and buildah: what they wrote goes in and out unchanged, and they read what is written.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path, process::Command};

use flate2::{Compression, write::GzEncoder};
use lamina::{driver::DriverKind, id::Digest};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};

use super::{everything::put_everything, load, path, tree};
use crate::{
    archive, expect, expect_eq,
    image::{listing::listing_with_links, tarball::Tarball},
    lamina::{Host, with_host, write_tar},
    pool::Outcome,
};

/// A name, the programs that it needs, and what it does.
type Case = (&'static str, &'static [&'static str], fn(&Host) -> Outcome);

pub(super) fn trials() -> Vec<Trial> {
    let cases: [Case; 4] = [
        ("what_came_goes_out_unchanged", &["skopeo"], what_came_goes_out_unchanged),
        ("others_read_what_is_written", &["skopeo", "umoci"], others_read_what_is_written),
        ("what_others_make_comes", &["umoci", "buildah", "skopeo"], what_others_make_comes),
        ("buildah_pulls_what_is_written", &["buildah"], buildah_pulls_what_is_written),
    ];
    let trial = |driver: DriverKind, (name, programs, case): Case| {
        Trial::ignorable_test(format!("save::{driver}::{name}"), move || run_with(driver, programs, case))
    };
    DriverKind::ALL.into_iter().flat_map(|driver| cases.map(|case| trial(driver, case))).collect()
}

pub fn run_with(driver: DriverKind, programs: &[&str], case: fn(&Host) -> Outcome) -> Result<Completion, Failed> {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let lacking: Vec<&str> = programs.iter().copied().filter(|program| !there(program)).collect();
    if lacking.is_empty() {
        with_host(driver, case)
    } else {
        Ok(Completion::ignored_with(format!("needs {}", lacking.join(" and "))))
    }
}

/// Runs a program in the directory of the test's files.
pub fn run(host: &Host, program: &str, arguments: &str) -> Outcome<Vec<u8>> {
    let output = Command::new(program).current_dir(host.file("")).args(arguments.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    expect!(output.status.success(), "{program} {arguments}: {said}");
    Ok(output.stdout)
}

/// The manifest that skopeo finds in an archive, and the digest of the configuration that it finds.
fn inspected(host: &Host, archive: &str) -> Outcome<(Value, String)> {
    let manifest = run(host, "skopeo", &format!("inspect --raw {archive}"))?;
    let config = run(host, "skopeo", &format!("inspect --config --raw {archive}"))?;
    Ok((serde_json::from_slice(&manifest)?, Digest::of(&config).to_string()))
}

fn gzip(tar: &[u8]) -> Outcome<Vec<u8>> {
    // A level that nobody uses, and trailing members, as pigz writes them: repacking would not give these bytes.
    let mut whole = Vec::new();
    for part in tar.chunks(tar.len().div_ceil(2)) {
        let mut encoder = GzEncoder::new(whole, Compression::new(3));
        encoder.write_all(part)?;
        whole = encoder.finish()?;
    }
    Ok(whole)
}

/// An OCI archive of a layer that is compressed with gzip, one with zstd, and one not at all; the configuration has
/// spaces and members that nobody knows.
pub fn write_oci(path: &Path) -> Outcome {
    let tars = [
        Tarball::default().dir("d").file("d/a", "1").file("d/b", "2").end(),
        Tarball::default().file("d/.wh.a", "").file("d/c", "3").hard_link("h", "d/c").end(),
        Tarball::default().file("plain", "4").end(),
    ];
    let stored = [gzip(&tars[0])?, zstd::encode_all(&tars[1][..], 7)?, tars[2].clone()];
    let types = ["tar+gzip", "tar+zstd", "tar"].map(|kind| format!("application/vnd.oci.image.layer.v1.{kind}"));
    let mut out = tar::Builder::new(fs::File::create(path)?);
    let mut add = |name: &str, content: &[u8]| -> Outcome {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        Ok(out.append_data(&mut header, name, content)?)
    };
    let mut blob = |kind: &str, content: &[u8]| -> Outcome<Value> {
        let digest = Digest::of(content);
        add(&format!("blobs/sha256/{}", digest.hex()), content)?;
        Ok(json!({"mediaType": kind, "digest": digest.to_string(), "size": content.len()}))
    };
    let layers = types.iter().zip(&stored).map(|(kind, content)| blob(kind, content)).collect::<Outcome<Vec<_>>>()?;
    let diffs: Vec<String> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let config = serde_json::to_vec_pretty(&json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "org.example.unknown": [1, 2],
        "config": {"Cmd": ["/bin/sh"]}, "rootfs": {"type": "layers", "diff_ids": diffs},
    }))?;
    let config = blob("application/vnd.oci.image.config.v1+json", &config)?;
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let mut manifest = blob("application/vnd.oci.image.manifest.v1+json", &serde_json::to_vec(&manifest)?)?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "img"});
    add("index.json", &serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [manifest]}))?)?;
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(out.finish()?)
}

fn what_came_goes_out_unchanged(host: &Host) -> Outcome {
    write_oci(&host.file("mine.tar"))?;
    run(host, "skopeo", "copy oci-archive:mine.tar:img oci-archive:theirs.tar:acme/img:1.0")?;
    let (came, config) = inspected(host, "oci-archive:theirs.tar")?;
    host.pool("512M")?;
    load(host, "theirs.tar")?;
    expect_eq!(host.ok(&["images", "-q", "--no-trunc"])?, config);
    host.ok(&["save", "--format", "oci", "-o", &path(host, "oci.tar"), "acme/img:1.0"])?;
    host.ok(&["save", "-o", &path(host, "docker.tar"), "acme/img:1.0"])?;

    let (went, same) = inspected(host, "oci-archive:oci.tar")?;
    expect_eq!(same, config);
    expect_eq!(came["config"], went["config"]);
    for (layer, kind) in [(0, "tar+gzip"), (1, "tar+zstd")] {
        expect_eq!(came["layers"][layer], went["layers"][layer]);
        expect!(went["layers"][layer]["mediaType"].as_str().is_some_and(|own| own.ends_with(kind)), "{went}");
    }
    expect_eq!(went["layers"][2]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip", "what came plain");
    let (_, same) = inspected(host, "docker-archive:docker.tar")?;
    expect_eq!(same, config);
    // Reading all of it, skopeo checks every digest.
    run(host, "skopeo", "copy oci-archive:oci.tar dir:read-oci")?;
    run(host, "skopeo", "copy docker-archive:docker.tar dir:read-docker")?;

    // The plain layer came to be gzip on the way; from there on all bytes stay.
    let again = |other: &Host| -> Outcome {
        other.pool("512M")?;
        other.ok(&["load", "-i", &path(host, "oci.tar")])?;
        other.ok(&["save", "--format", "oci", "-o", &path(other, "oci.tar"), "acme/img:1.0"])?;
        expect!(fs::read(other.file("oci.tar"))? == fs::read(host.file("oci.tar"))?, "another archive");
        other.ok(&["rmi", "acme/img:1.0"])?;
        other.ok(&["load", "-i", &path(host, "docker.tar")])?;
        expect_eq!(other.ok(&["images", "-q", "--no-trunc"])?, config);
        other.check()
    };
    with_host(host.driver, again).map_err(|failed| failed.message().unwrap_or("failed").to_owned())?;
    Ok(())
}

fn others_read_what_is_written(host: &Host) -> Outcome {
    host.pool("512M")?;
    let id = super::commit_something(host)?;
    let here = tree(host, "made:1")?;
    for format in ["docker", "oci"] {
        host.ok(&["save", "--format", format, "-o", &path(host, &format!("{format}.tar")), "made:1"])?;
        let (_, config) = inspected(host, &format!("{format}-archive:{format}.tar"))?;
        expect_eq!(config, id, "{format}");
        // Both are OCI layouts.
        fs::create_dir(host.file(format))?;
        run(host, "tar", &format!("-xf {format}.tar -C {format}"))?;
        same_for_umoci(host, format, &here)?;
    }
    Ok(())
}

/// umoci unpacks tag 1 of this OCI layout to this tree.
pub fn same_for_umoci(host: &Host, layout: &str, here: &BTreeMap<Vec<u8>, String>) -> Outcome {
    run(host, "umoci", &format!("unpack --image {layout}:1 bundle-{layout}"))?;
    let theirs = listing_with_links(&host.file(&format!("bundle-{layout}/rootfs")));
    // The first difference alone is told.
    for (path, text) in here {
        expect_eq!(theirs.get(path), Some(text), "{layout}: {}", path.escape_ascii());
    }
    expect_eq!(theirs.len(), here.len(), "{layout}");
    Ok(())
}

/// What umoci and buildah pack is here what they packed.
fn what_others_make_comes(host: &Host) -> Outcome {
    host.pool("512M")?;
    for command in ["init --layout umoci", "new --image umoci:1", "unpack --image umoci:1 bundle"] {
        run(host, "umoci", command)?;
    }
    let rootfs = host.file("bundle/rootfs");
    put_everything(&rootfs)?;
    run(host, "umoci", "repack --refresh-bundle --image umoci:1 bundle")?;
    fs::remove_dir_all(rootfs.join("every/dir"))?;
    fs::write(rootfs.join("every/dir"), "is a file now")?;
    run(host, "umoci", "repack --image umoci:1 bundle")?;
    run(host, "tar", "-cf umoci.tar -C umoci .")?;
    let id = host.ok(&["load", "-i", &path(host, "umoci.tar")])?;
    let id = id.rsplit(' ').next().unwrap_or_default();
    same_for_umoci(host, "umoci", &tree(host, id)?)?;

    let buildah = |arguments: &str| -> Outcome<String> {
        let storage = "--root storage --runroot run --storage-driver vfs";
        let said = run(host, "buildah", &format!("{storage} {arguments}"))?;
        Ok(String::from_utf8(said)?.trim().to_owned())
    };
    let working = buildah("from scratch")?;
    let mounted = buildah(&format!("mount {working}"))?;
    put_everything(Path::new(&mounted))?;
    fs::write(host.file("copied"), "copied")?;
    buildah(&format!("copy --chown 5:6 {working} copied /every/copied"))?;
    buildah(&format!("config --env A=b --label c=d {working}"))?;
    for archive in ["oci", "docker"] {
        let name = format!("{archive}-archive:buildah-{archive}.tar:some/{archive}:1");
        buildah(&format!("commit -q --format {archive} {working} {name}"))?;
        let said = host.ok(&["load", "-i", &path(host, &format!("buildah-{archive}.tar"))])?;
        expect_eq!(said, format!("Loaded image: some/{archive}:1"));
        let name = format!("some/{archive}:1");
        expect_eq!(host.json(&["inspect", &name])?[0]["Config"]["Env"][0], "A=b");
        let layout = format!("made-{archive}");
        let from =
            format!("{archive}-archive:buildah-{archive}.tar{}", if archive == "oci" { ":some/oci:1" } else { "" });
        run(host, "skopeo", &format!("copy -q {from} oci:{layout}:1"))?;
        same_for_umoci(host, &layout, &tree(host, &name)?)?;
    }
    buildah(&format!("umount {working}"))?;
    buildah(&format!("rm {working}"))?;
    host.check()
}

fn buildah_pulls_what_is_written(host: &Host) -> Outcome {
    host.pool("512M")?;
    let (lower, upper) = (host.file("lower"), host.file("upper"));
    write_tar(&lower, &[("lower", b"lower")])?;
    write_tar(&upper, &[("upper", b"upper")])?;
    archive::write(&host.file("image.tar"), "some/image:1", &[&lower, &upper])?;
    load(host, "image.tar")?;
    let id = host.ok(&["images", "-q", "--no-trunc"])?;
    for format in ["docker", "oci"] {
        host.ok(&["save", "--format", format, "-o", &path(host, &format!("{format}.tar")), "some/image:1"])?;
        let storage = format!("--root storage-{format} --runroot run-{format} --storage-driver vfs");
        let said = run(host, "buildah", &format!("{storage} pull -q {format}-archive:{format}.tar"))?;
        expect_eq!(format!("sha256:{}", String::from_utf8_lossy(&said).trim()), id, "{format}");
    }
    Ok(())
}
