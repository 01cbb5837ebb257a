//! An image, as `docker image inspect` shows it.

use anyhow::Result;
use serde_json::{Value, json};

use super::{NEVER, config_defaults, graph, if_any, merged};
use crate::{
    error::Kind,
    id::ImageId,
    image::{
        catalog::{Catalog, Image},
        digests,
    },
    store::Store,
};

/// Nothing if there is no such image.
pub(super) fn view(store: &Store, name: &str) -> Result<Option<Value>> {
    let catalog = Catalog::new(store);
    let Some(image) = if_any(catalog.find(name))? else { return Ok(None) };
    view_of(store, &image).map(Some).map_err(|error| match catalog.find(&image.id.to_string()) {
        Err(missing) if missing.kind() == Kind::NotFound => missing.into(),
        _ => error,
    })
}

fn view_of(store: &Store, image: &Image) -> Result<Value> {
    let names =
        |names: &[crate::image::reference::Reference]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let size = Catalog::new(store).size(image)?;
    // All of the file, also what the image-spec does not know.
    let whole: Value = serde_json::from_slice(image.config.bytes())?;
    let text = |key: &str| whole[key].as_str().unwrap_or_default();
    let mut view = json!({
        "Id": image.id,
        "RepoTags": names(&image.references),
        "RepoDigests": names(&digests::of(store, image)?),
        "Parent": parent(store, image)?.map_or_else(String::new, |id| id.to_string()),
        "Comment": image.config.history()?.last().map_or("", |step| &step.comment),
        "Created": image.config.created().unwrap_or(NEVER),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Config": merged([config_defaults(), image.config.runs()?.into()]),
        "Architecture": text("architecture"),
        "Os": text("os"),
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": graph::of_image(store, image)?,
        "RootFS": { "Type": "layers", "Layers": image.config.diff_ids() },
        // When a name was given is not kept.
        "Metadata": { "LastTagTime": NEVER },
    });
    for (key, from) in [("Variant", "variant"), ("OsVersion", "os.version")] {
        if !text(from).is_empty() {
            view[key] = text(from).into();
        }
    }
    Ok(view)
}

/// The image that the last step of a build on this machine led from, if it is there.
fn parent(store: &Store, image: &Image) -> Result<Option<ImageId>> {
    let line = Catalog::new(store).line_of(image)?;
    let before = line.into_iter().filter(|(_, id)| *id != image.id);
    Ok(before.max_by_key(|(steps, _)| *steps).map(|(_, id)| id))
}
