//! What other programs put into a registry comes out of it unchanged, and they read what is pushed.

use std::fs;

use lamina::id::Digest;
use serde_json::{Value, json};

use super::{
    Case, count, http,
    real::{Options, Registry},
};
use crate::{
    archive, expect, expect_eq,
    lamina::{Host, with_host, write_tar},
    pool::Outcome,
    save::{
        commit_something,
        foreign::{run, same_for_umoci, write_oci},
        load, path, tree,
    },
};

pub(super) const CASES: [Case; 3] = [
    ("what_came_goes_on_unchanged", &["docker-registry", "skopeo"], what_came_goes_on_unchanged),
    ("what_was_made_here_is_the_same_elsewhere", &["docker-registry", "skopeo", "umoci"], made_here),
    ("the_image_for_the_platform_comes", &["docker-registry", "skopeo"], platforms),
];

/// A manifest as skopeo sees it, with its bytes.
fn manifest(host: &Host, reference: &str) -> Outcome<(Value, Vec<u8>)> {
    let bytes = run(host, "skopeo", &format!("inspect --tls-verify=false --raw docker://{reference}"))?;
    Ok((serde_json::from_slice(&bytes)?, bytes))
}

/// OCI with gzip, zstd and a plain layer; Docker's schema 2.
fn what_came_goes_on_unchanged(host: &Host) -> Outcome {
    let registry = Registry::start(Options::default())?;
    host.pool("512M")?;
    write_oci(&host.file("oci.tar"))?;
    write_tar(&host.file("lower"), &[("lower", b"lower")])?;
    write_tar(&host.file("upper"), &[("upper", b"upper")])?;
    archive::write(&host.file("docker.tar"), "x:1", &[&host.file("lower"), &host.file("upper")])?;
    for (from, name, kind) in [
        ("oci-archive:oci.tar:img", "some/oci:1", "application/vnd.oci.image.manifest.v1+json"),
        ("docker-archive:docker.tar", "docker:1", "application/vnd.docker.distribution.manifest.v2+json"),
    ] {
        let there = registry.reference(name);
        run(host, "skopeo", &format!("copy -q --preserve-digests --dest-tls-verify=false {from} docker://{there}"))
            .or_else(|_| run(host, "skopeo", &format!("copy -q --dest-tls-verify=false {from} docker://{there}")))?;
        let (came, bytes) = manifest(host, &there)?;
        let layers = came["layers"].as_array().map_or(0, Vec::len);
        let said = http(host, "pull", &there)?;
        expect_eq!(count(&said, "Pull complete"), layers, "{said}");
        expect!(said.contains(&format!("Digest: {}", Digest::of(&bytes))), "{said}");
        expect!(said.contains(&format!("Downloaded newer image for {there}")), "{said}");
        let mine = host.json(&["inspect", &there])?;
        expect_eq!(mine[0]["Id"], came["config"]["digest"], "{name}");
        let (repository, _) = there.rsplit_once(':').ok_or("a tag")?;
        let by_digest = format!("{repository}@{}", Digest::of(&bytes));
        expect_eq!(mine[0]["RepoDigests"], json!([by_digest]));
        expect!(host.ok(&["images", "--digests"])?.contains(&Digest::of(&bytes).to_string()), "{name}");
        expect_eq!(host.json(&["inspect", &by_digest])?[0]["Id"], mine[0]["Id"]);
        // As the same image is from its archive.
        let file = from.split(':').nth(1).unwrap_or_default();
        let pulled = tree(host, &there)?;
        let other = |other: &Host| -> Outcome {
            other.pool("512M")?;
            let id = other.json(&["images"])?;
            expect_eq!(id, json!([]));
            load(other, &path(host, file))?;
            let loaded = other.ok(&["images", "-q", "--no-trunc"])?;
            expect_eq!(tree(other, &loaded)?, pulled, "{name}");
            Ok(())
        };
        with_host(host.driver, other).map_err(|failed| failed.message().unwrap_or("failed").to_owned())?;

        let said = http(host, "pull", &there)?;
        expect_eq!(count(&said, "Already exists"), layers, "{said}");
        expect!(said.contains("Image is up to date"), "{said}");
        let there_again = registry.reference(&format!("again/{name}"));
        host.ok(&["tag", &there, &there_again])?;
        http(host, "push", &there_again)?;
        let (went, same) = manifest(host, &there_again)?;
        expect!(same == bytes, "{name}: {came} went as {went}");
        expect_eq!(went["mediaType"].as_str().unwrap_or(kind), kind);
        let empty = fs::read_dir(host.root().join("downloads"))?.next().is_none();
        expect!(empty, "what was downloaded is kept as the layers' archives only");
    }
    // A layer that was here before, as a plain tar of another image, goes on as the manifest has it, too.
    let there = registry.reference("docker:1");
    let (_, bytes) = manifest(host, &there)?;
    let other = |other: &Host| -> Outcome {
        other.pool("512M")?;
        other.ok(&["import", &path(host, "lower"), "lower:1"])?;
        expect_eq!(count(&http(other, "pull", &there)?, "Already exists"), 1);
        let on = registry.reference("on/docker:1");
        other.ok(&["tag", &there, &on])?;
        http(other, "push", &on)?;
        expect!(manifest(other, &on)?.1 == bytes, "another manifest went on");
        Ok(())
    };
    with_host(host.driver, other).map_err(|failed| failed.message().unwrap_or("failed").to_owned())?;
    host.check()
}

fn made_here(host: &Host) -> Outcome {
    let registry = Registry::start(Options::default())?;
    host.pool("512M")?;
    let id = commit_something(host)?;
    let there = registry.reference("made/here:1");
    host.ok(&["tag", "made:1", &there])?;
    let said = http(host, "push", &there)?;
    expect_eq!(count(&said, ": Pushed"), 2, "{said}");
    let (pushed, bytes) = manifest(host, &there)?;
    expect_eq!(pushed["config"]["digest"], json!(id));
    expect!(said.contains(&format!("1: digest: {} size: {}", Digest::of(&bytes), bytes.len())), "{said}");
    let by_digest = registry.reference(&format!("made/here@{}", Digest::of(&bytes)));
    expect_eq!(host.json(&["inspect", "made:1"])?[0]["RepoDigests"], json!([by_digest]));
    // skopeo checks every digest of what it copies.
    run(host, "skopeo", &format!("copy -q --src-tls-verify=false docker://{there} oci:copied:1"))?;
    same_for_umoci(host, "copied", &tree(host, "made:1")?)?;
    let said = http(host, "push", &there)?;
    expect_eq!(count(&said, "Layer already exists"), 2, "{said}");
    // Another repository gets them without their being sent.
    let beside = registry.reference("beside:1");
    host.ok(&["tag", &there, &beside])?;
    let said = http(host, "push", &beside)?;
    expect_eq!(count(&said, "Mounted from made/here"), 2, "{said}");
    let here = tree(host, "made:1")?;
    let other = |other: &Host| -> Outcome {
        other.pool("512M")?;
        expect_eq!(other.ok(&["pull", "--plain-http", &beside])?, beside);
        expect_eq!(other.ok(&["images", "-q", "--no-trunc"])?, id);
        expect_eq!(tree(other, &beside)?, here);
        // By its digest, too, under which it is known then.
        let pinned = registry.reference(&format!("beside@{}", Digest::of(&bytes)));
        other.ok(&["pull", "--plain-http", &pinned])?;
        expect_eq!(other.json(&["inspect", &pinned])?[0]["Id"], json!(id));
        other.check()
    };
    with_host(host.driver, other).map_err(|failed| failed.message().unwrap_or("failed").to_owned())?;
    host.check()
}

/// A list of manifests in Docker's form, put together by skopeo from an OCI index.
fn platforms(host: &Host) -> Outcome {
    let registry = Registry::start(Options::default())?;
    host.pool("512M")?;
    let mut entries = Vec::new();
    fs::create_dir_all(host.file("layout/blobs/sha256"))?;
    let blob = |kind: &str, bytes: &[u8]| -> Outcome<Value> {
        let digest = Digest::of(bytes);
        fs::write(host.file(&format!("layout/blobs/sha256/{}", digest.hex())), bytes)?;
        Ok(
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest.to_string(), "size": bytes.len()}),
        )
    };
    for (architecture, variant) in [("s390x", None), ("arm", Some("v7")), ("amd64", None), ("arm64", Some("v8"))] {
        write_tar(&host.file("tar"), &[("architecture", architecture.as_bytes())])?;
        let tar = fs::read(host.file("tar"))?;
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar).to_string()]},
        });
        let config = blob("config.v1+json", &serde_json::to_vec(&config)?)?;
        let layers = [blob("layer.v1.tar", &tar)?];
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let mut entry = blob("manifest.v1+json", &serde_json::to_vec(&manifest)?)?;
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        if let Some(variant) = variant {
            entry["platform"]["variant"] = variant.into();
        }
        entries.push(entry);
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let list = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
    let list = blob("index.v1+json", &serde_json::to_vec(&list)?)?;
    fs::write(host.file("layout/index.json"), json!({"schemaVersion": 2, "manifests": [list]}).to_string())?;
    fs::write(host.file("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for (format, name) in [("oci", "list:oci"), ("v2s2", "list:docker")] {
        let there = registry.reference(name);
        let copy = format!("copy -q --all --format {format} --dest-tls-verify=false oci:layout docker://{there}");
        run(host, "skopeo", &copy)?;
        let (came, bytes) = manifest(host, &there)?;
        expect_eq!(came["manifests"].as_array().map(Vec::len), Some(4), "{came}");
        for (platform, expected) in [
            (None, if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }),
            (Some("linux/s390x"), "s390x"),
            (Some("linux/arm/v7"), "arm"),
            (Some("arm64"), "arm64"),
        ] {
            let mut args = vec!["pull", "--plain-http", &there];
            args.extend(platform.into_iter().flat_map(|platform| ["--platform", platform]));
            let said = host.run(&args)?;
            expect!(
                said.code == Some(0) && said.err.contains(&Digest::of(&bytes).to_string()),
                "{platform:?}: {said:?}"
            );
            let box_name = format!("{format}-{expected}");
            host.ok(&["create", "--name", &box_name, &there])?;
            expect_eq!(fs::read_to_string(host.mount(&box_name)?.join("architecture"))?, expected);
            host.ok(&["rm", "-f", &box_name]).or_else(|_| {
                host.ok(&["umount", &box_name])?;
                host.ok(&["rm", &box_name])
            })?;
        }
        host.fails(
            &["pull", "-q", "--plain-http", "--platform", "linux/riscv64", &there],
            "there is no image for linux/riscv64",
        )?;
    }
    Ok(())
}
