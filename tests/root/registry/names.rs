//! Names that registries gave, and how they go.

use std::fs;

use lamina::{
    image::catalog::{Catalog, Image},
    store::Store,
};
use serde_json::json;

use super::{
    Case,
    faults::{layer, nothing_is_left},
    http,
    server::Server,
};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

pub(super) const CASE: Case = ("a_name_goes_alone", &[], a_name_goes_alone);

fn lines(host: &Host, args: &[&str]) -> Outcome<Vec<String>> {
    Ok(host.ok(args)?.lines().map(str::to_owned).collect())
}

fn a_name_goes_alone(host: &Host) -> Outcome {
    host.pool("512M")?;
    let server = Server::start()?;
    let digest = server.image("some:1", &[layer("one", 1)?], "amd64")?;
    let (tag, by_digest) = (server.reference("some:1"), server.reference(&format!("some@{digest}")));
    let other = server.reference("other:2");
    http(host, "pull", &tag)?;
    let id = host.ok(&["images", "-q", "--no-trunc"])?;
    let untagged = |name: &str| format!("Untagged: {name}");
    let deleted = format!("Deleted: {id}");

    // The name by digest alone goes.
    expect_eq!(lines(host, &["rmi", &by_digest])?, [untagged(&by_digest)]);
    host.fails(&["rmi", &by_digest], "no such image")?;
    expect_eq!(host.json(&["inspect", &tag])?[0]["RepoDigests"], json!([]));

    // With the last tag of its repository it goes, too, and the image with the last of all.
    http(host, "pull", &tag)?;
    host.ok(&["tag", &tag, &other])?;
    let second = server.reference("some:2");
    host.ok(&["tag", &tag, &second])?;
    host.fails(&["rmi", &id], "image is referenced in multiple repositories")?;
    expect_eq!(lines(host, &["rmi", &second])?, [untagged(&second)]);
    host.fails(&["rmi", &id[..20]], &format!("by its names: {other}, {tag}, {by_digest}"))?;
    expect_eq!(lines(host, &["rmi", &tag])?, [untagged(&tag), untagged(&by_digest)]);
    expect_eq!(lines(host, &["rmi", &id])?, [untagged(&other), deleted.clone()]);

    // One that was pulled by its digest has no other name.
    http(host, "pull", &by_digest)?;
    expect_eq!(lines(host, &["rmi", &by_digest])?, [untagged(&by_digest), deleted.clone()]);
    http(host, "pull", &by_digest)?;
    http(host, "pull", &tag)?;
    expect_eq!(lines(host, &["rmi", &id])?, [untagged(&tag), untagged(&by_digest), deleted]);
    nothing_is_left(host)?;

    // One that was to be pruned, and is named before it goes, stays with that name.
    http(host, "pull", &tag)?;
    host.ok(&["tag", &tag, "anew:1"])?;
    let store = Store::open(&host.root())?.ok_or("no pool")?;
    let catalog = Catalog::new(&store);
    let seen = Image { references: Vec::new(), ..catalog.find("anew:1")? };
    let removed = catalog.remove_image(&seen)?;
    expect!(removed.untagged.is_empty() && removed.deleted.is_empty(), "{removed:?}");
    catalog.remove_image(&catalog.find("anew:1")?)?;
    nothing_is_left(host)?;

    // What another image was built from stays as a step to it, and goes with it.
    http(host, "pull", &tag)?;
    let context = host.file("context");
    fs::create_dir(&context)?;
    fs::write(context.join("Dockerfile"), format!("FROM {tag}\nLABEL a=b\n"))?;
    let built = host.ok(&["build", "-q", "-t", "built:1", &context.display().to_string()])?;
    host.fails(&["rmi", &id], "image has dependent child images")?;
    expect_eq!(host.json(&["inspect", &tag])?[0]["Id"], json!(id), "a refused removal takes no name");
    expect_eq!(lines(host, &["rmi", &tag])?, [untagged(&tag), untagged(&by_digest)]);
    expect_eq!(
        lines(host, &["rmi", "built:1"])?,
        [untagged("built:1"), format!("Deleted: {built}"), format!("Deleted: {id}")]
    );
    nothing_is_left(host)
}
