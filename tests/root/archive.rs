//! Image archives for tests, in Docker's form.

use std::{fs, path::Path};

use lamina::id::Digest;

use crate::{
    lamina::{Host, write_tar},
    pool::Outcome,
};

/// Writes an archive of one image whose layers are these tars.
pub fn write(path: &Path, reference: &str, layers: &[&Path]) -> Outcome {
    let mut archive = tar::Builder::new(fs::File::create(path)?);
    let mut add = |name: &str, content: &[u8]| -> Outcome {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        Ok(archive.append_data(&mut header, name, content)?)
    };
    let mut diffs = Vec::new();
    let mut names = Vec::new();
    for layer in layers {
        let content = fs::read(layer)?;
        let digest = Digest::of(&content);
        let name = format!("{}.tar", digest.hex());
        add(&name, &content)?;
        diffs.push(digest.to_string());
        names.push(name);
    }
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": layers.iter().map(|_| serde_json::json!({"created": "2024-01-01T00:00:00Z"})).collect::<Vec<_>>(),
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", Digest::of(&config).hex());
    add(&config_name, &config)?;
    let manifest = serde_json::json!([{"Config": config_name, "RepoTags": [reference], "Layers": names}]);
    add("manifest.json", &serde_json::to_vec(&manifest)?)?;
    Ok(archive.finish()?)
}

/// Loads two images of these names, each of a layer of its own on one that both have.
pub fn load_on_shared_base(host: &Host, names: [&str; 2]) -> Outcome {
    let base = host.file("base");
    write_tar(&base, &[("base", b"base")])?;
    for (name, own) in names.into_iter().zip(["left", "right"]) {
        let (layer, archive) = (host.file(own), host.file(&format!("{own}.tar")));
        write_tar(&layer, &[(own, own.as_bytes())])?;
        write(&archive, name, &[&base, &layer])?;
        host.ok(&["load", "-i", &archive.display().to_string()])?;
    }
    Ok(())
}
