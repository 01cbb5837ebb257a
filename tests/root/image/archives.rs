//! Image archives, as other programs make them.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use lamina::{
    id::Digest,
    image::{
        archive::{Archive, ArchivedImage},
        compression::decompress,
    },
};
use libtest_mimic::{Completion, Failed};

use super::{listing::listing, tarball::Tarball, unpack};

fn missing() -> Option<Completion> {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let lacking: Vec<&str> = ["skopeo", "umoci"].into_iter().filter(|program| !there(program)).collect();
    (!lacking.is_empty()).then(|| Completion::ignored_with(format!("needs {}", lacking.join(" and "))))
}

fn run(directory: &Path, program: &str, arguments: &str) -> String {
    let output = Command::new(program).current_dir(directory).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An OCI layout `oci:img` of two layers, the second with a deletion.
fn layout(base: &Path) {
    run(base, "umoci", "init --layout oci");
    run(base, "umoci", "new --image oci:img");
    for (name, tree) in [
        ("one", Tarball::default().dir("d").file("d/a", "1").file("d/b", "2").symlink("l", "d/a")),
        ("two", Tarball::default().file("d/.wh.a", "").file("d/c", "3").hard_link("h", "d/c")),
    ] {
        fs::write(base.join(name), tree.end()).unwrap();
        run(base, "umoci", &format!("raw add-layer --image oci:img {name}"));
    }
}

fn apply(archive: &Archive, image: &ArchivedImage, root: &Path) {
    for (blob, diff_id) in image.layers.iter().zip(image.config.diff_ids()) {
        let (plain, _) = decompress(archive.layer(blob)).unwrap();
        unpack(root, plain).unwrap().verify(Some(*diff_id)).unwrap();
    }
}

/// The same image through four forms: all have the IDs that skopeo tells and the tree that umoci unpacks.
pub fn real() -> Result<Completion, Failed> {
    if let Some(ignored) = missing() {
        return Ok(ignored);
    }
    let base = tempfile::tempdir().unwrap();
    let base = base.path();
    layout(base);
    run(base, "umoci", "unpack --image oci:img bundle");
    run(base, "skopeo", "copy oci:oci:img docker-archive:docker.tar:acme/img:1.0");
    run(base, "skopeo", "copy oci:oci:img oci-archive:oci.tar:acme/img:1.0");
    run(base, "gzip", "-k docker.tar");
    run(base, "zstd", "-q oci.tar");
    for name in ["docker.tar", "oci.tar", "docker.tar.gz", "oci.tar.zst"] {
        let archive = Archive::open(&base.join(name), base).unwrap();
        let images = archive.images().unwrap();
        let [image] = &images[..] else { panic!("{name}: {} images", images.len()) };
        assert_eq!(image.references[0].to_string(), "acme/img:1.0", "{name}");
        let transport = if name.starts_with("docker") { "docker-archive:docker.tar" } else { "oci-archive:oci.tar" };
        let config =
            Command::new("skopeo").current_dir(base).args(["inspect", "--config", "--raw", transport]).output();
        assert_eq!(Digest::of(&config.unwrap().stdout), image.config.id().0, "{name}");
        let root = tempfile::tempdir().unwrap();
        apply(&archive, image, root.path());
        let (theirs, ours) = (listing(&base.join("bundle/rootfs")), listing(root.path()));
        assert_eq!(theirs, ours, "{name}");
    }
    Ok(Completion::Completed)
}

fn open(base: &Path, tar: Vec<u8>) -> lamina::Result<(Archive, Vec<ArchivedImage>)> {
    let path: PathBuf = base.join("archive.tar");
    fs::write(&path, tar).unwrap();
    let archive = Archive::open(&path, base)?;
    let images = archive.images()?;
    Ok((archive, images))
}

fn config(layers: &[&[u8]]) -> String {
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, ids.join(","))
}

pub fn damaged() -> Result<Completion, Failed> {
    let base = tempfile::tempdir().unwrap();
    let config = config(&[b"x"]);
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest =
        |config: &str, layers: &str| format!(r#"[{{"Config":"{config}","RepoTags":["a:1"],"Layers":[{layers}]}}]"#);
    let wrong = format!("{}.json", "0".repeat(64));
    let t = Tarball::default;
    let nested = "[".repeat(100_000);
    let oci = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":3,"digest":"{}","platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#,
        Digest::of(b"x")
    );
    for (tar, reason) in [
        (t().file("x", "y"), "neither manifest.json nor index.json"),
        (t().file("manifest.json", "{"), "read 'manifest.json'"),
        (t().file("manifest.json", &nested), "invalid type"),
        (t().raw(b'0', b"manifest.json", b"", &vec![b' '; 5 << 20]), "the limit is"),
        (t().file("manifest.json", &manifest("gone", "")), "refers to 'gone'"),
        (t().file("manifest.json", &manifest(&wrong, "")).file(&wrong, &config), "was expected"),
        (t().file("manifest.json", &manifest(&name, "")).file(&name, &config), "0 layers in its manifest and 1"),
        (t().file("manifest.json", &manifest(&name, "\"../../etc/passwd\"")).file(&name, &config), "does not hold it"),
        (t().symlink("manifest.json", "manifest.json"), "neither"),
        (t().file("index.json", &oci), "no image for linux/"),
    ] {
        let error = open(base.path(), tar.end()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(reason), "'{error}' does not tell '{reason}'");
    }
    let whole = t().file("manifest.json", &manifest(&name, "\"l\"")).file(&name, &config).file("l", "layer").end();
    open(base.path(), whole.clone()).unwrap();
    let error = open(base.path(), whole[..whole.len() - 1600].to_vec()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), lamina::Kind::Corrupt, "{error}");

    // A blob that is not what its name says is found out at its end.
    let blob = format!("blobs/sha256/{}", Digest::of(b"x").hex());
    let tar = t().file("manifest.json", &manifest(&name, &format!("\"{blob}\""))).file(&name, &config);
    let tar = tar.pax(&[("path", blob.as_bytes())]).file("b", "not x");
    let (archive, images) = open(base.path(), tar.end()).unwrap();
    let error = archive.layer(&images[0].layers[0]).read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("was expected"), "{error}");
    let error = unpack(base.path(), archive.layer(&images[0].layers[0])).unwrap_err();
    assert!(error.to_string().contains("tar archive") || error.kind() == lamina::Kind::Corrupt, "{error}");
    Ok(Completion::Completed)
}

/// Docker before 1.10's layout: a directory per layer, equal ones linked to each other.
pub fn linked() -> Result<Completion, Failed> {
    let base = tempfile::tempdir().unwrap();
    let layer = Tarball::default().file("f", "x").end();
    let config = config(&[&layer, &layer]);
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest = format!(r#"[{{"Config":"{name}","RepoTags":null,"Layers":["one/layer.tar","two/layer.tar"]}}]"#);
    let tar = Tarball::default().dir("one").raw(b'0', b"one/layer.tar", b"", &layer).dir("two");
    let tar = tar.symlink("two/layer.tar", "../one/layer.tar").file(&name, &config).file("manifest.json", &manifest);
    let (archive, images) = open(base.path(), tar.end()).unwrap();
    assert!(images[0].references.is_empty());
    let root = tempfile::tempdir().unwrap();
    apply(&archive, &images[0], root.path());
    assert_eq!(fs::read(root.path().join("f")).unwrap(), b"x");
    Ok(Completion::Completed)
}
